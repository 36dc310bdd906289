from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge import metrics
from nanonet_edge.metrics import ImageAgreement

Mask = npt.NDArray[np.uint8]


def image(name: str, dice: float, area: float = 0.2, hd95: float | None = 1.0) -> ImageAgreement:
    missing = {} if hd95 is not None else {"hd95_px": "one of the two masks is empty"}
    return ImageAgreement(
        name=name,
        dice=dice,
        iou=dice / (2.0 - dice),
        pixel_agreement=0.5 + dice / 2.0,
        max_delta_p=1.0 - dice,
        hd95_px=hd95,
        components_lost=1,
        components_invented=2,
        reference_area=area,
        missing=missing,
    )


def random_mask(seed: int, share: float) -> Mask:
    return (np.random.default_rng(seed).random((16, 16)) < share).astype(np.uint8)


# --- one image -------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 2**31), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_accuracy_equals_scikit_learn(first: int, second: int, share: float, other: float) -> None:
    truth, mask = random_mask(first, share), random_mask(second, other)
    found = metrics.image_accuracy(truth, mask)
    flat = truth.ravel(), mask.ravel()
    assert found.dsc == pytest.approx(sklearn.metrics.f1_score(*flat))
    assert found.iou == pytest.approx(sklearn.metrics.jaccard_score(*flat))
    assert found.precision == pytest.approx(sklearn.metrics.precision_score(*flat))
    assert found.recall == pytest.approx(sklearn.metrics.recall_score(*flat))
    assert found.specificity == pytest.approx(sklearn.metrics.recall_score(*flat, pos_label=0))
    assert found.f2 == pytest.approx(sklearn.metrics.fbeta_score(*flat, beta=2.0))
    assert found.accuracy == pytest.approx(sklearn.metrics.accuracy_score(*flat))


def test_accuracy_where_ratios_have_no_denominator() -> None:
    empty, full = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    assert set(metrics.image_accuracy(empty, empty).model_dump().values()) == {1.0}
    invented = metrics.image_accuracy(empty, full)
    assert (invented.dsc, invented.precision, invented.recall, invented.f2, invented.specificity) == (0,) * 5
    missed = metrics.image_accuracy(full, empty)
    assert (missed.dsc, missed.precision, missed.recall, missed.f2) == (0.0,) * 4
    assert missed.specificity == 1.0


def test_agreement_of_an_image() -> None:
    reference, other = np.zeros((2, 10, 10), np.uint8)
    reference[2:6, 2:6] = 1
    other[2:6, 3:7] = 1
    other[9, 9] = 1
    p, q = np.full((10, 10, 1), 0.5, np.float32), np.full((10, 10, 1), 0.5, np.float32)
    q[0, 0] = 0.625
    found = metrics.image_agreement("x", reference, other, p, q)
    assert found.dice == pytest.approx(2 * 12 / (16 + 17))
    assert found.iou == pytest.approx(12 / 21)
    assert found.pixel_agreement == pytest.approx(0.91)
    assert found.max_delta_p == 0.125
    assert (found.components_lost, found.components_invented) == (0, 1)
    assert found.reference_area == pytest.approx(0.16)
    assert found.missing == {}


def test_missing_figures_have_reasons() -> None:
    empty, full = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)
    found = metrics.image_agreement("x", empty, full)
    assert found.max_delta_p is None
    assert found.hd95_px is None
    assert found.missing["max_delta_p"] == metrics.NO_PROBABILITY
    assert found.missing["hd95_px"] == "one of the two masks is empty"
    p = np.zeros((4, 4, 1), np.float32)
    for bad in (np.nan, np.inf):
        broken = metrics.image_agreement("x", empty, empty, p, np.full_like(p, bad))
        assert broken.max_delta_p is None
        assert broken.missing == {"max_delta_p": metrics.NOT_FINITE}
    with pytest.raises(ValueError, match="shape"):
        metrics.image_agreement("x", empty, empty, p, p[:2])


# --- a set -----------------------------------------------------------------------------


def test_summary_of_known_figures() -> None:
    figures = ((1.0, 0.0), (0.9, 1.0), (0.4, 2.0), (0.8, None))
    images = [image(f"{index}.jpg", dice, hd95=hd95) for index, (dice, hd95) in enumerate(figures)]
    found = metrics.summarise_agreement(images)
    assert found.count == 4
    assert found.mean_dice == pytest.approx(0.775)
    assert found.p5_dice == pytest.approx(0.4 + 0.15 * 0.4)
    assert (found.min_dice, found.worst_image) == (0.4, "2.jpg")
    assert (found.max_delta_p, found.max_delta_p_image) == (pytest.approx(0.6), "2.jpg")
    assert found.mean_hd95_px == pytest.approx(1.0)
    assert (found.max_hd95_px, found.max_hd95_image, found.hd95_count) == (2.0, "2.jpg", 3)
    assert (found.components_lost, found.components_invented) == (4, 8)
    assert found.dice_ci95[0] < found.mean_dice < found.dice_ci95[1]


def test_summary_without_any_distance_says_why() -> None:
    found = metrics.summarise_agreement([image("a", 0.0, hd95=None)])
    assert found.mean_hd95_px is None
    assert "empty" in found.missing["mean_hd95_px"]


def test_small_polyps_are_those_below_the_share_but_not_empty() -> None:
    figures = {"none": (1.0, 0.0), "small": (0.5, 0.049), "edge": (0.9, 0.05), "big": (1.0, 0.6)}
    images = [image(name, dice, area) for name, (dice, area) in figures.items()]
    found = metrics.summarise_small_polyps(images)
    assert found.summary is not None
    assert (found.summary.count, found.summary.worst_image) == (1, "small")
    none = metrics.summarise_small_polyps(images[2:])
    assert none.summary is None
    assert none.reason is not None
    assert "5%" in none.reason


def test_paired_difference_is_narrower_than_either_model() -> None:
    truths = [random_mask(seed, 0.3) for seed in range(40)]
    rng = np.random.default_rng(0)
    theirs = [np.where(rng.random(t.shape) < rng.random() / 2, 1 - t, t) for t in truths]
    ours = [np.where(rng.random(m.shape) < 0.01, 1 - m, m) for m in theirs]
    found = metrics.summarise_accuracy(
        [metrics.image_accuracy(t, m) for t, m in zip(truths, theirs, strict=True)],
        [metrics.image_accuracy(t, m) for t, m in zip(truths, ours, strict=True)],
    )
    gap = found.difference.dsc
    assert gap.mean == pytest.approx(found.artifact.dsc.mean - found.reference.dsc.mean)
    assert gap.low < gap.mean < gap.high
    assert gap.high - gap.low < (found.artifact.dsc.high - found.artifact.dsc.low) / 3
    pairs = zip(truths, ours, strict=True)
    expected = [sklearn.metrics.jaccard_score(truth.ravel(), mask.ravel()) for truth, mask in pairs]
    assert found.artifact.miou.mean == pytest.approx(np.mean(expected))


def test_bootstrap_equals_scipys() -> None:
    values = np.random.default_rng(5).beta(20.0, 1.0, 100)
    (found,) = metrics.bootstrap_mean(values[:, np.newaxis], seed=1)
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=3)
    width = expected.confidence_interval.high - expected.confidence_interval.low
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.08 * width)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.08 * width)


def test_bootstrap_is_seeded_and_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).random((30, 2))
    whole = metrics.bootstrap_mean(values, seed=1)
    assert whole == metrics.bootstrap_mean(values, seed=1)
    assert whole != metrics.bootstrap_mean(values, seed=2)
    monkeypatch.setattr(metrics, "_BLOCK", 100)
    assert metrics.bootstrap_mean(values, seed=1) == whole


def test_sets_must_not_be_empty_or_unequal() -> None:
    one = metrics.image_accuracy(random_mask(0, 0.5), random_mask(1, 0.5))
    with pytest.raises(ValueError, match="at least one"):
        metrics.summarise_agreement([])
    with pytest.raises(ValueError, match="found 1 and 2"):
        metrics.summarise_accuracy([one], [one, one])
