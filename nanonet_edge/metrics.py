"""Agreement and accuracy: figures per image, and what is said of a whole set.

Agreement holds an artifact's mask against the reference's; accuracy holds a mask against
ground truth. Both are taken at the network's own resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanonet_edge import masks
from nanonet_edge.manifest import Record
from nanonet_edge.masks import Labels

Columns = npt.NDArray[np.float64]

#: A polyp is small below this share of the frame: a fifth of Kvasir-SEG's images.
SMALL_POLYP_AREA = 0.05
BOOTSTRAP_RESAMPLES = 2000
LOW_PERCENTILE = 5.0
#: Reasons why an image has no `max_delta_p`.
NO_PROBABILITY = "a mask has no probability"
NOT_FINITE = "the output holds NaN or infinity"
_CONFIDENCE = 95.0
_BLOCK = 1 << 20


class ImageAgreement(Record):
    """One artifact against the reference on one image.

    `hd95_px` is the 95th-percentile Hausdorff distance in pixels of the network's input.
    `reference_area` is the reference mask's share of the frame. A figure that is None has its
    reason in `missing`.
    """

    name: str
    dice: float
    iou: float
    pixel_agreement: float
    max_delta_p: float | None
    hd95_px: float | None
    components_lost: int
    components_invented: int
    reference_area: float
    missing: dict[str, str] = Field(default_factory=dict)


class ImageAccuracy(Record):
    """A mask against ground truth on one image.

    Where a ratio has no denominator: precision and recall (and so DSC, IoU, F2) are 1 if mask
    and truth are both empty, else 0; specificity is 1 if the truth covers the whole frame.
    """

    dsc: float
    iou: float
    precision: float
    recall: float
    specificity: float
    f2: float
    accuracy: float


class Estimate(Record):
    """A mean over images, or a figure of all of them together, with its bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


class AgreementSummary(Record):
    """Agreement over a set of images; `p5_dice` is the 5th percentile.

    Component counts are totals. `hd95_count` is how many images have a distance: none exists
    where exactly one of the two masks is empty.
    """

    count: int = Field(ge=1)
    mean_dice: float
    p5_dice: float
    min_dice: float
    worst_image: str
    dice_ci95: tuple[float, float]
    mean_iou: float
    min_iou: float
    mean_pixel_agreement: float
    min_pixel_agreement: float
    max_delta_p: float | None
    max_delta_p_image: str | None
    mean_hd95_px: float | None
    max_hd95_px: float | None
    max_hd95_image: str | None
    hd95_count: int
    components_lost: int
    components_invented: int
    missing: dict[str, str] = Field(default_factory=dict)


class Stratum(Record):
    """Agreement on the images whose reference mask is small but not empty."""

    max_area: float = SMALL_POLYP_AREA
    summary: AgreementSummary | None
    reason: str | None = None


#: Heading -> field of ModelAccuracy, in the order of the NanoNet paper's tables; specificity is ours.
ACCURACY_FIGURES = {
    "DSC": "dsc",
    "mIoU": "miou",
    "recall": "recall",
    "precision": "precision",
    "F2": "f2",
    "accuracy": "accuracy",
    "specificity": "specificity",
}
#: The same of PooledAccuracy, where the IoU is no mean.
POOLED_FIGURES = {name.removeprefix("m"): field.removeprefix("m") for name, field in ACCURACY_FIGURES.items()}


class ModelAccuracy(Record):
    """Accuracy over a set of images; `miou` is the mean over images of the polyp's IoU."""

    dsc: Estimate
    miou: Estimate
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f2: Estimate
    accuracy: Estimate


class PooledAccuracy(Record):
    """Accuracy of the pixels of all images counted together (the micro average).

    A large image, or a large polyp, weighs more than a small one. Images are resampled for the
    intervals, as for the means over images.
    """

    dsc: Estimate
    iou: Estimate
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f2: Estimate
    accuracy: Estimate


class AccuracySummary(Record):
    """Accuracy of reference and artifact; `difference` is artifact minus reference, paired by image."""

    count: int = Field(ge=1)
    reference: ModelAccuracy
    artifact: ModelAccuracy
    difference: ModelAccuracy


def image_agreement(
    name: str,
    reference: Labels,
    other: Labels,
    reference_p: npt.NDArray[np.float32] | None = None,
    other_p: npt.NDArray[np.float32] | None = None,
) -> ImageAgreement:
    """Compare two masks (H, W) and, where both are given, probabilities (H, W, classes).

    Raises:
        ValueError: shapes differ.
    """
    overlap = masks.overlap(reference, other)
    lost, invented = masks.component_changes(reference, other)
    distance = masks.hausdorff95(reference, other)
    missing = {}
    if distance is None:
        missing["hd95_px"] = "one of the two masks is empty"
    delta: float | None = None
    if reference_p is None or other_p is None:
        missing["max_delta_p"] = NO_PROBABILITY
    elif reference_p.shape != other_p.shape:
        raise ValueError(f"probabilities differ in shape: {reference_p.shape} and {other_p.shape}")
    else:
        delta = float(np.abs(reference_p - other_p).max())
        if not np.isfinite(delta):
            delta, missing["max_delta_p"] = None, NOT_FINITE
    return ImageAgreement(
        name=name,
        dice=overlap.dice,
        iou=overlap.iou,
        pixel_agreement=masks.pixel_agreement(reference, other),
        max_delta_p=delta,
        hd95_px=distance,
        components_lost=lost,
        components_invented=invented,
        reference_area=float(np.count_nonzero(reference) / reference.size),
        missing=missing,
    )


def image_accuracy(truth: Labels, mask: Labels) -> ImageAccuracy:
    """Hold a mask (H, W) against ground truth of the same shape; every label above 0 is positive.

    Raises:
        ValueError: shapes differ.
    """
    return accuracy_of(masks.confusion(truth, mask))


def accuracy_of(counts: masks.Confusion) -> ImageAccuracy:
    """The ratios of pixel counts, of one image or of several together."""
    tp, fp, fn, tn = counts.tp, counts.fp, counts.fn, counts.tn
    both_empty = 1.0 if tp + fp + fn == 0 else 0.0
    return ImageAccuracy(
        dsc=_ratio(2 * tp, 2 * tp + fp + fn, both_empty),
        iou=_ratio(tp, tp + fp + fn, both_empty),
        precision=_ratio(tp, tp + fp, both_empty),
        recall=_ratio(tp, tp + fn, both_empty),
        specificity=_ratio(tn, tn + fp, 1.0),
        f2=_ratio(5 * tp, 5 * tp + 4 * fn + fp, both_empty),
        accuracy=_ratio(tp + tn, tp + fp + fn + tn, 1.0),
    )


def summarise_agreement(images: Sequence[ImageAgreement], seed: int = 0) -> AgreementSummary:
    """Agreement over at least one image.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("expected at least one image")
    dice = np.array([image.dice for image in images])
    iou = np.array([image.iou for image in images])
    pixels = np.array([image.pixel_agreement for image in images])
    worst = min(images, key=lambda image: (image.dice, image.pixel_agreement))
    interval = bootstrap_mean(dice[:, np.newaxis], seed)[0]
    deltas = [(image.max_delta_p, image.name) for image in images if image.max_delta_p is not None]
    distances = [(image.hd95_px, image.name) for image in images if image.hd95_px is not None]
    missing = {}
    if not deltas:
        missing["max_delta_p"] = next(i.missing["max_delta_p"] for i in images if i.max_delta_p is None)
    if not distances:
        missing["mean_hd95_px"] = "in every image one of the two masks is empty"
    top_delta = max(deltas, default=(None, None))
    top_distance = max(distances, default=(None, None))
    return AgreementSummary(
        count=len(images),
        mean_dice=float(dice.mean()),
        p5_dice=float(np.percentile(dice, LOW_PERCENTILE)),
        min_dice=worst.dice,
        worst_image=worst.name,
        dice_ci95=(interval.low, interval.high),
        mean_iou=float(iou.mean()),
        min_iou=float(iou.min()),
        mean_pixel_agreement=float(pixels.mean()),
        min_pixel_agreement=float(pixels.min()),
        max_delta_p=top_delta[0],
        max_delta_p_image=top_delta[1],
        mean_hd95_px=float(np.mean([value for value, _ in distances])) if distances else None,
        max_hd95_px=top_distance[0],
        max_hd95_image=top_distance[1],
        hd95_count=len(distances),
        components_lost=sum(image.components_lost for image in images),
        components_invented=sum(image.components_invented for image in images),
        missing=missing,
    )


def summarise_small_polyps(
    images: Sequence[ImageAgreement], max_area: float = SMALL_POLYP_AREA, seed: int = 0
) -> Stratum:
    """Agreement on the images whose reference mask covers less than `max_area` but something."""
    small = [image for image in images if 0.0 < image.reference_area < max_area]
    if not small:
        reason = f"no reference mask covers between 0 and {max_area:.0%} of its frame"
        return Stratum(max_area=max_area, summary=None, reason=reason)
    return Stratum(max_area=max_area, summary=summarise_agreement(small, seed))


def summarise_accuracy(
    reference: Sequence[ImageAccuracy], artifact: Sequence[ImageAccuracy], seed: int = 0
) -> AccuracySummary:
    """Accuracy of two models over the same images, in the same order.

    Raises:
        ValueError: there is no image, or their numbers differ.
    """
    if not reference or len(reference) != len(artifact):
        raise ValueError(f"expected as many images of each, found {len(reference)} and {len(artifact)}")
    ours, theirs = _matrix(artifact), _matrix(reference)
    return AccuracySummary(
        count=len(reference),
        reference=_model_accuracy(theirs, seed),
        artifact=_model_accuracy(ours, seed),
        difference=_model_accuracy(ours - theirs, seed),
    )


def mean_accuracy(images: Sequence[ImageAccuracy], seed: int = 0) -> ModelAccuracy:
    """Accuracy of one model, averaged over at least one image.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("expected at least one image")
    return _model_accuracy(_matrix(images), seed)


def pooled_accuracy(images: Sequence[masks.Confusion], seed: int = 0) -> PooledAccuracy:
    """Accuracy of one model over the pixels of at least one image, counted together.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("expected at least one image")
    counts = np.array([(image.tp, image.fp, image.fn, image.tn) for image in images], np.float64)
    resampled = np.rint(_resampled_means(counts, seed, BOOTSTRAP_RESAMPLES) * len(images))
    pools = [masks.Confusion(*map(int, row)) for row in (counts.sum(axis=0), *resampled)]
    values = _matrix([accuracy_of(pool) for pool in pools])
    return PooledAccuracy(
        **dict(zip(PooledAccuracy.model_fields, _estimates(values[0], values[1:]), strict=True))
    )


def bootstrap_mean(
    values: Columns, seed: int = 0, resamples: int = BOOTSTRAP_RESAMPLES
) -> tuple[Estimate, ...]:
    """Means of the columns of (n, k) values with percentile-bootstrap 95 % intervals.

    Images (rows) are resampled; a seed gives the same resamples for every set of n images, so
    intervals of two artifacts can be compared.
    """
    return _estimates(values.mean(axis=0), _resampled_means(values, seed, resamples))


def _resampled_means(values: Columns, seed: int, resamples: int) -> Columns:
    """(n, k) values -> (resamples, k) means of n rows drawn with replacement."""
    count, columns = values.shape
    rng = np.random.Generator(np.random.PCG64(seed))
    means = np.empty((resamples, columns))
    step = max(1, _BLOCK // (count * columns))
    for start in range(0, resamples, step):
        rows = rng.integers(0, count, (min(step, resamples - start), count))
        means[start : start + step] = values[rows].mean(axis=1)
    return means


def _estimates(found: Columns, resampled: Columns) -> tuple[Estimate, ...]:
    """(k,) figures with the percentile intervals of their (resamples, k) resampled ones."""
    tail = (100.0 - _CONFIDENCE) / 2.0
    low, high = np.percentile(resampled, (tail, 100.0 - tail), axis=0)
    return tuple(
        Estimate(mean=float(m), low=float(a), high=float(b)) for m, a, b in zip(found, low, high, strict=True)
    )


def _ratio(part: int, whole: int, otherwise: float) -> float:
    return part / whole if whole else otherwise


def _matrix(images: Sequence[ImageAccuracy]) -> npt.NDArray[np.float64]:
    fields = tuple(ImageAccuracy.model_fields)
    return np.array([[getattr(image, field) for field in fields] for image in images], np.float64)


def _model_accuracy(values: npt.NDArray[np.float64], seed: int) -> ModelAccuracy:
    # The fields of ModelAccuracy stand in the order of ImageAccuracy's.
    return ModelAccuracy(**dict(zip(ModelAccuracy.model_fields, bootstrap_mean(values, seed), strict=True)))
