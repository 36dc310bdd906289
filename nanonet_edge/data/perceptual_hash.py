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
- 75 lies between. Crops of 10 percent at every side were missed in 4 of 200, and so are other frames
  of the same video once the camera has moved (two more pairs of one scene across the splits, at 88
  and 92): no finding means no copy, not no patient in common.

`tests/nanonet_edge/test_perceptual_hash.py` repeats this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

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
    whole = slice(0, 1)
    mirrored = [_hashes(np.flip(thumbnail, axes), whole)[0] for axes in (1, 0, (0, 1))]
    views = _hashes(thumbnail, slice(None))
    return Fingerprint(views[0], np.stack(mirrored), views)


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


def _hashes(thumbnail: npt.NDArray[np.uint8], crops: slice) -> Bits:
    """Hash crops of a thumbnail: (n * n, 64) uint8 for n crops of its height and its width each."""
    grey = thumbnail.astype(np.float32)
    few, many = _averaging(_CELLS)[crops], _averaging(_CELLS + 1)[crops]
    wide, tall = _cells(few, grey, many), _cells(many, grey, few)
    across, down = wide[..., 1:] > wide[..., :-1], tall[..., 1:, :] > tall[..., :-1, :]
    views = len(few) ** 2
    return np.packbits(np.concatenate((across.reshape(views, -1), down.reshape(views, -1)), axis=1), axis=1)


def _cells(
    down: npt.NDArray[np.float32], grey: npt.NDArray[np.float32], across: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Means over the cells of each crop: (n, n, rows, columns), from (n, rows, 144) and (n, columns, 144)."""
    product = down.reshape(-1, _THUMBNAIL) @ grey @ across.reshape(-1, _THUMBNAIL).T
    # Rounded as a picture is: the noise in the black corners must not decide a bit.
    means = np.rint(product).reshape(*down.shape[:2], *across.shape[:2])
    return np.asarray(means.transpose(0, 2, 1, 3), np.float32)


@cache
def _averaging(cells: int) -> npt.NDArray[np.float32]:
    """Weights that average the pixels of a line into cells, for each crop: (9, cells, 144) float32."""
    lines = np.arange(_THUMBNAIL, dtype=np.float64)
    weights = []
    for before, after in itertools.product(_MARGINS, repeat=2):
        edges = np.linspace(before, _THUMBNAIL - after, cells + 1)[:, np.newaxis]
        overlap = np.minimum(lines + 1.0, edges[1:]) - np.maximum(lines, edges[:-1])
        weights.append(np.clip(overlap, 0.0, None) / (edges[1] - edges[0]))
    return np.stack(weights).astype(np.float32)


def _signs(packed: Bits) -> npt.NDArray[np.float32]:
    """(n, 64) uint8 to (n, 512) float32 of 1 and -1."""
    return np.unpackbits(packed, axis=-1).astype(np.float32) * 2.0 - 1.0
