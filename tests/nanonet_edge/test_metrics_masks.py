"""Mask figures against SciPy, scikit-learn and cases worked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage
import scipy.spatial.distance
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanonet_edge import masks

Mask = npt.NDArray[np.uint8]

EMPTY = np.zeros((8, 9), np.uint8)


@st.composite
def mask_pairs(draw: Any) -> tuple[Mask, Mask]:
    """Two masks of one shape: sparse noise or blobs, empty and full ones included."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))
    seed = draw(st.integers(0, 2**32 - 1))
    sigma = draw(st.sampled_from((0.0, 1.0, 2.5)))
    levels = draw(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
    rng = np.random.default_rng(seed)
    noise = [scipy.ndimage.gaussian_filter(rng.random(shape), sigma) for _ in range(2)]
    first, second = (
        (field >= np.quantile(field, level)).astype(np.uint8) if level < 1.0 else np.zeros(shape, np.uint8)
        for field, level in zip(noise, levels, strict=True)
    )
    return first, second


@given(mask_pairs())
def test_overlap_equals_scikit_learn(pair: tuple[Mask, Mask]) -> None:
    reference, other = pair
    found = masks.overlap(reference, other)
    if reference.any() or other.any():
        flat = reference.ravel(), other.ravel()
        assert found.dice == pytest.approx(sklearn.metrics.f1_score(*flat, zero_division=0.0))
        assert found.iou == pytest.approx(sklearn.metrics.jaccard_score(*flat, zero_division=0.0))
    else:
        assert (found.dice, found.iou) == (1.0, 1.0)
    assert masks.pixel_agreement(reference, other) == pytest.approx(np.mean(reference == other))


@given(mask_pairs())
def test_confusion_equals_scikit_learn(pair: tuple[Mask, Mask]) -> None:
    truth, other = pair
    tn, fp, fn, tp = sklearn.metrics.confusion_matrix(truth.ravel(), other.ravel(), labels=[0, 1]).ravel()
    assert masks.confusion(truth, other) == masks.Confusion(int(tp), int(fp), int(fn), int(tn))


def outline(mask: Mask) -> npt.NDArray[np.float64]:
    """Coordinates of mask pixels that lack one of their four neighbours."""
    padded = np.pad(mask != 0, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere((mask != 0) & ~inner).astype(np.float64)


@given(mask_pairs())
@settings(max_examples=200)
def test_hausdorff_equals_all_pairs_of_distances(pair: tuple[Mask, Mask]) -> None:
    reference, other = pair
    found = masks.hausdorff95(reference, other)
    first, second = outline(reference), outline(other)
    if len(first) and len(second):
        distances = scipy.spatial.distance.cdist(first, second)
        expected = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
        assert found == pytest.approx(expected, abs=1e-4)
    else:
        assert found == (0.0 if not len(first) and not len(second) else None)


@given(mask_pairs())
def test_hausdorff_is_below_scipys_maximum_and_symmetric(pair: tuple[Mask, Mask]) -> None:
    reference, other = pair
    found = masks.hausdorff95(reference, other)
    assert found == masks.hausdorff95(other, reference)
    first, second = outline(reference), outline(other)
    if found is not None and len(first):
        directed = scipy.spatial.distance.directed_hausdorff
        assert found <= max(directed(first, second)[0], directed(second, first)[0]) + 1e-4


def test_hausdorff_of_a_shift_is_the_shift() -> None:
    square = np.zeros((60, 60), np.uint8)
    square[20:40, 20:40] = 1
    assert masks.hausdorff95(square, np.roll(square, 7, axis=1)) == pytest.approx(7.0)


@given(mask_pairs())
def test_components_equal_scipys_labels(pair: tuple[Mask, Mask]) -> None:
    reference, other = pair

    def untouched(mask: Mask, by: Mask) -> int:
        labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
        return sum(not by[labels == index].any() for index in range(1, count + 1))

    expected = (untouched(reference, other), untouched(other, reference))
    assert masks.component_changes(reference, other) == expected


def test_components_touch_over_corners() -> None:
    diagonal = np.eye(6, dtype=np.uint8)
    one = np.zeros_like(diagonal)
    one[5, 5] = 1
    assert masks.component_changes(diagonal, one) == (0, 0)
    one[0, 5] = 1
    assert masks.component_changes(diagonal, one) == (0, 1)


def test_empty_masks() -> None:
    full = EMPTY + np.uint8(1)
    assert masks.overlap(EMPTY, EMPTY) == masks.Overlap(1.0, 1.0)
    assert masks.overlap(EMPTY, full) == masks.Overlap(0.0, 0.0)
    assert masks.hausdorff95(EMPTY, EMPTY) == 0.0
    assert masks.hausdorff95(EMPTY, full) is None
    assert masks.hausdorff95(full, EMPTY) is None
    assert masks.hausdorff95(full, full) == 0.0
    assert masks.component_changes(full, EMPTY) == (1, 0)


def test_classes_are_averaged_where_present() -> None:
    reference = np.array([[1, 1, 0, 0], [2, 2, 0, 0]], np.uint8)
    other = np.array([[1, 0, 0, 0], [2, 2, 0, 0]], np.uint8)
    # Class 1: 2 * 1 / 3; class 2: 1; a class 3 that neither has does not count.
    assert masks.overlap(reference, other).dice == pytest.approx((2 / 3 + 1.0) / 2)
    assert masks.overlap(reference, np.where(reference == 2, 1, reference)).dice == pytest.approx((2 / 3) / 2)


@pytest.mark.parametrize(
    "compare",
    [masks.overlap, masks.confusion, masks.pixel_agreement, masks.hausdorff95, masks.component_changes],
)
def test_shapes_must_agree(compare: Any) -> None:
    with pytest.raises(ValueError, match=r"\(8, 9\) and \(9, 8\)"):
        compare(EMPTY, EMPTY.T)
