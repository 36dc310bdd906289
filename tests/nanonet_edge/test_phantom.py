from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge import phantom
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


def test_wet_tissue_glitters() -> None:
    shares = [float((frame.min(axis=2) > 225).mean()) for frame, _ in generate(40, 256)]
    assert np.mean([share > 0.0 for share in shares]) > 0.8
    assert 0.002 < np.mean(shares) < 0.03


def test_motion_blurs_some_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    def still(rng: np.random.Generator, frame: np.ndarray) -> np.ndarray:
        real(rng, frame)  # draws as many random numbers
        return frame

    moved, real = list(generate(24, 256)), phantom._blur
    monkeypatch.setattr(phantom, "_blur", still)
    kept = [
        detail(frame) / detail(sharp) for (frame, _), (sharp, _) in zip(moved, generate(24, 256), strict=True)
    ]
    assert 0.25 < np.mean([share < 1.0 for share in kept]) < 0.75
    assert max(kept) == 1.0
    assert min(kept) < 0.8


def detail(frame: np.ndarray) -> float:
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


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


def test_corners_are_as_dark_as_in_real_frames(test_data: Path) -> None:
    paths = list_images(test_data / "data" / "kvasir-seg" / "train" / "images")
    real = np.nanmean([vignette(read_frame(path)) for path in paths[::8]], axis=0)
    drawn = np.nanmean([vignette(frame) for frame, _ in generate(60, 128)], axis=0)
    assert drawn == pytest.approx(real, abs=20.0)
    for profile in (real, drawn):
        assert profile[-1] < 0.8 * profile[0]


def vignette(frame: np.ndarray) -> np.ndarray:
    """Brightness of what is not black border, in rings from the centre (0) to the corners (1.2)."""
    small = cv2.resize(frame, (128, 128)).max(axis=2).astype(np.float64)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    radius, inside = np.hypot(x, y), small > 25
    rings = [inside & (radius >= inner) & (radius < inner + 0.3) for inner in (0.0, 0.3, 0.6, 0.9)]
    return np.array([small[ring].mean() if ring.sum() > 20 else np.nan for ring in rings])


def statistics(frame: np.ndarray) -> np.ndarray:
    pixels = frame.reshape(-1, 3).astype(np.float64)
    return np.concatenate([pixels.mean(0), pixels.std(0), [(frame.max(axis=2) < 20).mean()]])
