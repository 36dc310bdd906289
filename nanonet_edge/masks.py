"""How alike two masks are: overlap, outline, connected parts.

Masks are (H, W) arrays of labels, 0 for background. Overlap is counted per class and averaged
over the classes that either mask has; with one class that is the plain Dice or IoU. Outlines
and parts look at everything that is not background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]

HAUSDORFF_PERCENTILE = 95.0


@dataclass(frozen=True)
class Overlap:
    """`dice` and `iou` in [0, 1]; 1 where both masks are empty."""

    dice: float
    iou: float


@dataclass(frozen=True)
class Confusion:
    """Pixel counts of a mask against the truth."""

    tp: int
    fp: int
    fn: int
    tn: int


def overlap(reference: Labels, other: Labels) -> Overlap:
    """Dice and intersection over union of two masks.

    Raises:
        ValueError: their shapes differ.
    """
    _check_shapes(reference, other)
    classes = max(int(reference.max(initial=0)), int(other.max(initial=0)))
    dice, iou = [], []
    for label in range(1, classes + 1):
        counts = confusion(reference == label, other == label)
        either = counts.tp + counts.fp + counts.fn
        if either:
            dice.append(2.0 * counts.tp / (either + counts.tp))
            iou.append(counts.tp / either)
    return Overlap(float(np.mean(dice)), float(np.mean(iou))) if dice else Overlap(1.0, 1.0)


def confusion(truth: Labels, other: Labels) -> Confusion:
    """Count pixels that are positive (not 0) in both, one or none of two masks.

    Raises:
        ValueError: their shapes differ.
    """
    _check_shapes(truth, other)
    t, o = truth != 0, other != 0
    tp = int(np.count_nonzero(t & o))
    fp, fn = int(np.count_nonzero(o)) - tp, int(np.count_nonzero(t)) - tp
    return Confusion(tp, fp, fn, t.size - tp - fp - fn)


def pixel_agreement(reference: Labels, other: Labels) -> float:
    """Share of pixels that have the same label.

    Raises:
        ValueError: their shapes differ.
    """
    _check_shapes(reference, other)
    return float(np.count_nonzero(reference == other) / reference.size)


def hausdorff95(reference: Labels, other: Labels) -> float | None:
    """95th-percentile Hausdorff distance of the outlines, in pixels.

    The outline of a mask is its pixels that touch background (or the picture's edge) on one of
    four sides. From each outline pixel of one mask the Euclidean distance to the nearest
    outline pixel of the other is taken; the result is the larger of the two directions' 95th
    percentiles (linear interpolation).

    Returns:
        0 where both masks are empty; None where one of them is, as no distance exists.

    Raises:
        ValueError: their shapes differ.
    """
    import cv2

    _check_shapes(reference, other)
    outlines = [_outline(mask) for mask in (reference, other)]
    empty = [not outline.any() for outline in outlines]
    if any(empty):
        return 0.0 if all(empty) else None
    # The transform gives each pixel's distance to the nearest zero: to the outline.
    maps = [cv2.distanceTransform(1 - line, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for line in outlines]
    there, back = _exact(maps[1][outlines[0] != 0]), _exact(maps[0][outlines[1] != 0])
    return float(max(np.percentile(there, HAUSDORFF_PERCENTILE), np.percentile(back, HAUSDORFF_PERCENTILE)))


def _exact(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Distances between pixels without the transform's float32 rounding, which differs by code path."""
    return np.sqrt(np.rint(np.square(distances, dtype=np.float64)))


def component_changes(reference: Labels, other: Labels) -> tuple[int, int]:
    """How many connected parts were lost and how many invented.

    Parts are 8-connected. One of the reference is lost if no pixel of it is in the other mask;
    one of the other mask is invented if no pixel of it is in the reference.

    Returns:
        (lost, invented)

    Raises:
        ValueError: their shapes differ.
    """
    _check_shapes(reference, other)
    return _untouched(reference, other), _untouched(other, reference)


def _check_shapes(first: Labels, second: Labels) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"expected two masks (H, W) of one shape, found {first.shape} and {second.shape}")


def _outline(mask: Labels) -> npt.NDArray[np.uint8]:
    import cv2

    solid = (mask != 0).astype(np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(solid, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(solid - inner, np.uint8)


def _untouched(mask: Labels, by: Labels) -> int:
    import cv2

    count, labels = cv2.connectedComponents((mask != 0).astype(np.uint8), connectivity=8)
    touched = np.unique(labels[by != 0])
    return int(count - 1 - np.count_nonzero(touched))
