"""Losses, against NumPy and SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import dice as dice_dissimilarity
from scipy.special import xlogy

from nanonet_edge.training.losses import build_loss
from tests.nanonet_edge.training.material import RECIPE


def terms(dice: float, cross_entropy: float, distillation: float) -> float:
    """The loss of random probabilities, masks and teacher, by `build_loss`."""
    mask, teacher, p = material()
    recipe = replace(RECIPE, dice=dice, cross_entropy=cross_entropy, distillation=distillation)
    target = np.concatenate([mask, teacher], axis=-1) if distillation else mask
    return float(build_loss(recipe)(target, p))


def material() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    mask = (generator.random((3, 8, 8, 1)) < 0.3).astype(np.float32)
    teacher, p = generator.uniform(0.01, 0.99, (2, 3, 8, 8, 1)).astype(np.float32)
    return mask, teacher, p


def cross_entropy(target: np.ndarray, p: np.ndarray) -> float:
    return float(-np.mean(xlogy(target, p.astype(np.float64)) + xlogy(1 - target, 1 - p.astype(np.float64))))


def test_dice_of_binary_masks_is_scipys() -> None:
    """Without the one that keeps empty masks apart, which a large mask outweighs."""
    generator = np.random.default_rng(0)
    masks = (generator.random((2, 400, 400, 1)) < 0.4).astype(np.float32)
    found = float(build_loss(replace(RECIPE, cross_entropy=0.0))(masks, masks[::-1].copy()))
    assert found == pytest.approx(dice_dissimilarity(masks[0].ravel() > 0, masks[1].ravel() > 0), abs=1e-4)


def test_dice_of_probabilities() -> None:
    mask, _, p = (array.astype(np.float64) for array in material())
    each = [1 - (2 * (m * q).sum() + 1) / (m.sum() + q.sum() + 1) for m, q in zip(mask, p, strict=True)]
    assert terms(1.0, 0.0, 0.0) == pytest.approx(np.mean(each), rel=1e-5)


def test_cross_entropy_against_masks_and_against_a_teacher() -> None:
    mask, teacher, p = material()
    assert terms(0.0, 1.0, 0.0) == pytest.approx(cross_entropy(mask, p), rel=1e-4)
    assert terms(0.0, 0.0, 1.0) == pytest.approx(cross_entropy(teacher, p), rel=1e-4)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    parts = terms(1.0, 0.0, 0.0), terms(0.0, 1.0, 0.0), terms(0.0, 0.0, 1.0)
    assert terms(0.7, 0.5, 2.0) == pytest.approx(np.dot((0.7, 0.5, 2.0), parts), rel=1e-5)


def test_empty_masks_and_certain_answers_stay_finite() -> None:
    loss = build_loss(RECIPE)
    empty, full = np.zeros((1, 8, 8, 1), np.float32), np.ones((1, 8, 8, 1), np.float32)
    assert float(loss(empty, empty)) == pytest.approx(0.0, abs=1e-5)
    assert float(loss(full, full)) == pytest.approx(0.0, abs=1e-5)
    assert 1.0 < float(loss(empty, full)) < 20.0
    assert 1.0 < float(loss(full, empty)) < 20.0
