"""The timing harness: warm up, then run until both a duration and a count are reached.

The clock is `time.perf_counter_ns`. Every sample is kept, in order, and nothing is trimmed:
a frame that took long took long. Python's garbage collector stays on, as it is in the
application.

All but `camera_frames` needs Python >= 3.9, NumPy and OpenCV alone: boards without the toolkit are
timed by it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import FrameSource

Clock = Callable[[], int]
Call = Callable[[], object]
#: Does something once and returns how many nanoseconds it took.
Sampler = Callable[[], int]

WARMUP_SECONDS = 0.2
WARMUP_RUNS = 5

#: What a small camera delivers: VGA, decoded.
CAMERA_WIDTH, CAMERA_HEIGHT = 640, 480


def timed(call: Call, clock: Clock = time.perf_counter_ns) -> Sampler:
    """A sampler that runs `call` and tells how long it took."""

    def sample() -> int:
        start = clock()
        call()
        return clock() - start

    return sample


def run_until(
    sample: Sampler, *, min_seconds: float, min_count: int, clock: Clock = time.perf_counter_ns
) -> tuple[int, ...]:
    """Sample until at least `min_seconds` have passed and `min_count` samples are taken.

    Returns:
        The samples in nanoseconds, at least one.
    """
    samples: list[int] = []
    end = clock() + round(min_seconds * 1e9)
    while not samples or len(samples) < min_count or clock() < end:
        samples.append(sample())
    return tuple(samples)


def warm_up(sample: Sampler, clock: Clock = time.perf_counter_ns) -> int:
    """Run for at least 200 ms and 5 times; return how often."""
    return len(run_until(sample, min_seconds=WARMUP_SECONDS, min_count=WARMUP_RUNS, clock=clock))


def camera_frames(bundle: Bundle) -> tuple[tuple[npt.NDArray[np.uint8], ...], FrameSource]:
    """Decoded frames as a camera would hand them over, and what they are.

    Returns:
        (480, 640, 3) uint8 BGR arrays: the bundle's golden frames, enlarged or reduced.
    """
    from nanonet_edge.results import FrameSource

    golden = bundle.golden().frames
    frames = to_camera_size(golden)
    height, width = golden.shape[1:3]
    description = (
        f"golden frames ({width}x{height}) resized to {CAMERA_WIDTH}x{CAMERA_HEIGHT}, bilinear, uint8 BGR"
    )
    return frames, FrameSource(
        description=description, width=CAMERA_WIDTH, height=CAMERA_HEIGHT, count=len(frames)
    )


def to_camera_size(frames: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], ...]:
    """Frames (n, H, W, 3) uint8, each resized to (480, 640, 3) as OpenCV does it, bilinear."""
    import cv2

    size = (CAMERA_WIDTH, CAMERA_HEIGHT)
    return tuple(
        np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        for frame in frames
    )
