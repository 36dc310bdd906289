from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge.datasets import list_images, read_frame
from nanonet_edge.phantom import draw_frame, generate


def test_shapes_and_values() -> None:
    for size in (32, 97, 352):
        for frame, mask in generate(2, size):
            assert (frame.shape, frame.dtype) == ((size, size, 3), np.uint8)
            assert (mask.shape, mask.dtype) == ((size, size), np.uint8)
            assert set(np.unique(mask)) <= {0, 1}


def test_same_seed_same_frames_whatever_the_count() -> None:
    long, short = list(generate(4, 96, seed=5)), list(generate(2, 96, seed=5))
    for (frame, mask), (again, mask_again) in zip(long, short, strict=False):
        assert np.array_equal(frame, again)
        assert np.array_equal(mask, mask_again)
    assert np.array_equal(draw_frame(3, 96, seed=5)[0], long[3][0])
    assert not np.array_equal(long[0][0], next(generate(1, 96, seed=6))[0])
    assert not np.array_equal(long[0][0], long[1][0])


def test_frames_are_fixed_for_all_time() -> None:
    # Means, not digests: builds of OpenCV may round a pixel differently.
    frame, mask = draw_frame(0, 128, seed=0)
    assert frame.reshape(-1, 3).mean(0) == pytest.approx((51.40, 77.79, 136.05), abs=0.2)
    assert mask.mean() == pytest.approx(0.1435, abs=0.001)


def test_polyps_are_where_the_picture_is() -> None:
    areas = []
    for frame, mask in generate(60, 128):
        areas.append(mask.mean())
        outside = cv2.erode((frame.max(axis=2) < 8).astype(np.uint8), np.ones((5, 5)))
        assert not (mask & outside).any()
    assert 1 <= sum(area == 0.0 for area in areas) <= 15
    assert 0.05 < np.median(areas) < 0.2


def test_polyps_differ_from_what_surrounds_them() -> None:
    """A frame without signal in the polyps would be no test of a mask."""
    contrasts = []
    for frame, mask in generate(40, 128):
        ring = cv2.dilate(mask, np.ones((9, 9))) - cv2.dilate(mask, np.ones((3, 3)))
        if mask.any():
            grey = frame.astype(np.float64)
            contrasts.append(np.abs(grey[mask == 1].mean(0) - grey[ring == 1].mean(0)).max())
    assert np.median(contrasts) > 8.0


def test_impossible_wishes_are_refused() -> None:
    for count, size, seed in ((-1, 352, 0), (1, 31, 0), (1, 352, -1)):
        with pytest.raises(ValueError, match="cannot draw"):
            generate(count, size, seed)


def test_colour_statistics_are_those_of_real_frames(test_data: Path) -> None:
    paths = list_images(test_data / "data" / "kvasir-seg" / "train" / "images")
    real = np.stack([statistics(read_frame(path)) for path in paths[::8]])
    drawn = np.stack([statistics(frame) for frame, _ in islice(generate(60), 60)])
    # Blue, green, red: means within 8 grey levels, deviations within 8, black share within 4 %.
    assert drawn.mean(0)[:3] == pytest.approx(real.mean(0)[:3], abs=8.0)
    assert drawn.mean(0)[3:6] == pytest.approx(real.mean(0)[3:6], abs=8.0)
    assert drawn.mean(0)[6] == pytest.approx(real.mean(0)[6], abs=0.04)


def statistics(frame: np.ndarray) -> np.ndarray:
    pixels = frame.reshape(-1, 3).astype(np.float64)
    return np.concatenate([pixels.mean(0), pixels.std(0), [(frame.max(axis=2) < 20).mean()]])
