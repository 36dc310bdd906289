"""The timing harness: warm up, then run until both a duration and a count are reached.

The clock is `time.perf_counter_ns`. Every sample is kept, in order, and nothing is trimmed:
a frame that took long took long. Python's garbage collector stays on, as it is in the
application.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanonet_edge.bundle import Bundle
from nanonet_edge.contract import Array
from nanonet_edge.results import FrameSource

Clock = Callable[[], int]
Call = Callable[[], object]

WARMUP_NS = 200_000_000
WARMUP_RUNS = 5
DEFAULT_SECONDS = 3.0
DEFAULT_COUNT = 100

#: What a small camera delivers: VGA, decoded.
CAMERA_WIDTH, CAMERA_HEIGHT = 640, 480


@dataclass(frozen=True)
class Timing:
    """Samples in nanoseconds, in order, and how many runs went before them."""

    warmup_runs: int
    samples_ns: tuple[int, ...]


def time_once(call: Call, clock: Clock = time.perf_counter_ns) -> int:
    """Nanoseconds that one call takes."""
    start = clock()
    call()
    return clock() - start


def warm_up(
    call: Call, clock: Clock = time.perf_counter_ns, *, min_ns: int = WARMUP_NS, min_runs: int = WARMUP_RUNS
) -> int:
    """Call until at least `min_ns` have passed and `min_runs` are done; return the number of runs."""
    runs = 0
    end = clock() + min_ns
    while runs < min_runs or clock() < end:
        call()
        runs += 1
    return runs


def run_until(
    call: Call, *, min_seconds: float, min_count: int, clock: Clock = time.perf_counter_ns
) -> tuple[int, ...]:
    """Call until at least `min_seconds` have passed and `min_count` calls are done.

    Returns:
        The duration of each call in nanoseconds, at least one.
    """
    samples: list[int] = []
    now = clock()
    end = now + round(min_seconds * 1e9)
    while not samples or len(samples) < min_count or now < end:
        start = clock()
        call()
        now = clock()
        samples.append(now - start)
    return tuple(samples)


def time_call(
    call: Call,
    *,
    min_seconds: float = DEFAULT_SECONDS,
    min_count: int = DEFAULT_COUNT,
    clock: Clock = time.perf_counter_ns,
) -> Timing:
    """Warm `call` up, then time it."""
    runs = warm_up(call, clock)
    return Timing(runs, run_until(call, min_seconds=min_seconds, min_count=min_count, clock=clock))


def camera_frames(bundle: Bundle) -> tuple[tuple[npt.NDArray[np.uint8], ...], FrameSource]:
    """Decoded frames as a camera would hand them over, and what they are.

    Returns:
        (480, 640, 3) uint8 BGR arrays: the bundle's golden frames, enlarged or reduced.
    """
    import cv2

    golden = bundle.golden().frames
    size = (CAMERA_WIDTH, CAMERA_HEIGHT)
    frames = tuple(
        np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR), np.uint8) for frame in golden
    )
    height, width = golden.shape[1:3]
    description = f"golden frames ({width}x{height}) resized to {CAMERA_WIDTH}x{CAMERA_HEIGHT}, bilinear, uint8 BGR"
    return frames, FrameSource(
        description=description, width=CAMERA_WIDTH, height=CAMERA_HEIGHT, count=len(frames)
    )


def cycle_frames(process: Callable[[Array], object], frames: Sequence[Array]) -> Call:
    """A call that gives `process` the next frame each time, round and round."""
    index = 0

    def call() -> None:
        nonlocal index
        process(frames[index])
        index = (index + 1) % len(frames)

    return call
