"""Find images that show the same scene, whatever was done to the files: re-encoded, resized, cropped.

An image's fingerprint is a difference hash (Krawetz's dHash) of 512 bits: of its grey picture,
reduced to 17x16 and 16x17 cells, each bit says whether a cell is brighter than its neighbour to the
left or above. Two images are as far apart as the bits in which they differ; unrelated endoscopy
frames by about 200. A crop moves every cell, so one image's fingerprint is also compared with
those of the other's 81 views, each side cut by 0, 4 or 8 percent, and with those of
its mirror images.

How `SAME_SCENE` was chosen, on the 900 Kvasir-SEG images at 352x352, measured:

- Of all 404,550 pairs 14 are at 72 or less. Each shows one scene, when looked at (the same frame with
  another border, or the next frame of a video), so none was found wrongly; three of them lie across
  the two splits. The first pair of two scenes is at 90.
- Of 200 images, copies that were saved as JPEG of quality 30, resized to 128x128, brightened by a fifth,
  gamma-corrected by 1.4 or mirrored were at 25 or less; cropped by 6 percent at every side at 66;
  cropped at random, brightened, resized to 224x224 and saved at quality 50 at 71.
- 75 lies between. Crops of 10 percent were missed in 9 of 200, and so are other frames of the same
  video once the camera has moved (two more pairs of one scene across the splits, at 88 and 92): no
  finding means no copy, not no patient in common.

`tests/nanonet_edge/test_perceptual_hash.py` repeats this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanonet_edge.datasets import Frame

BITS = 512
#: Most bits in which two pictures of one scene differ.
SAME_SCENE = 75
_CELLS = 16
#: Thumbnail that all views are cut from, and the pixels that may be cut from each of its sides.
_THUMBNAIL = 144
_MARGINS = (0, 6, 12)
#: Below this deviation of grey levels there is nothing to compare: black and blank frames.
_LEAST_CONTRAST = 2.0
#: Rows that are compared at once: 2,048 x 512 float32 are 4 MiB.
_BLOCK = 2048

Bits = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fingerprint:
    """An image's hashes, eight bits to a byte.

    Attributes:
        upright: (64,) uint8, of the whole image.
        mirrored: (3, 64) uint8: left and right exchanged, top and bottom exchanged, both.
        views: (81, 64) uint8, of the image cropped at each side; the first is `upright`.
    """

    upright: Bits
    mirrored: Bits
    views: Bits


@dataclass(frozen=True)
class Match:
    """Two images of one scene by their positions, `first` < `second`, and the bits that differ."""

    first: int
    second: int
    distance: int


def fingerprint(frame: Frame) -> Fingerprint | None:
    """Hash a frame (H, W, 3) uint8; None if it is too uniform to be told from others."""
    import cv2

    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    size = (_THUMBNAIL, _THUMBNAIL)
    thumbnail = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    if thumbnail.std() < _LEAST_CONTRAST:
        return None
    views = np.stack(
        [
            _hash(thumbnail[top : _THUMBNAIL - bottom, left : _THUMBNAIL - right])
            for top, bottom, left, right in itertools.product(_MARGINS, repeat=4)
        ]
    )
    mirrored = np.stack([_hash(np.flip(thumbnail, axes)) for axes in (1, 0, (0, 1))])
    return Fingerprint(views[0], mirrored, views)


def distance(first: Fingerprint, second: Fingerprint) -> int:
    """Fewest bits that differ, over the views of either against the whole of the other."""
    pairs = (
        (first.views, second.upright),
        (second.views, first.upright),
        (first.mirrored, second.upright),
        (second.mirrored, first.upright),
    )
    return min(int(np.unpackbits(many ^ one, axis=-1).sum(-1).min()) for many, one in pairs)


def find_matches(
    prints: Sequence[Fingerprint | None], limit: int = SAME_SCENE, progress: Progress | None = None
) -> list[Match]:
    """All pairs at most `limit` apart, by position; the work grows with the square of their number.

    Args:
        prints: fingerprints; None (a blank frame) matches nothing.
        limit: largest distance that counts.
        progress: called with how many views of 84 are compared.
    """
    there = [index for index, one in enumerate(prints) if one is not None]
    known = [one for one in prints if one is not None]
    if len(known) < 2:
        return []
    whole = _signs(np.stack([one.upright for one in known]))
    others = np.stack([np.vstack((one.views, one.mirrored)) for one in known])
    found: dict[tuple[int, int], int] = {}
    for view in range(others.shape[1]):
        for start in range(0, len(known), _BLOCK):
            rows = _signs(others[start : start + _BLOCK, view])
            # Of signs, the product counts agreeing bits less differing ones.
            differing = (BITS - rows @ whole.T) / 2.0
            for row, column in np.argwhere(differing <= limit):
                first, second = sorted((start + int(row), int(column)))
                if first != second:
                    bits = int(differing[row, column])
                    found[first, second] = min(bits, found.get((first, second), BITS))
        if progress is not None:
            progress(view + 1, others.shape[1])
    return [Match(there[first], there[second], bits) for (first, second), bits in sorted(found.items())]


def _hash(grey: npt.NDArray[np.uint8]) -> Bits:
    import cv2

    grey = np.ascontiguousarray(grey)
    wide = cv2.resize(grey, (_CELLS + 1, _CELLS), interpolation=cv2.INTER_AREA)
    tall = cv2.resize(grey, (_CELLS, _CELLS + 1), interpolation=cv2.INTER_AREA)
    across, down = wide[:, 1:] > wide[:, :-1], tall[1:] > tall[:-1]
    return np.packbits(np.concatenate((across.ravel(), down.ravel())))


def _signs(packed: Bits) -> npt.NDArray[np.float32]:
    """(n, 64) uint8 to (n, 512) float32 of 1 and -1."""
    return np.unpackbits(packed, axis=-1).astype(np.float32) * 2.0 - 1.0
