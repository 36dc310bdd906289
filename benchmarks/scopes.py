"""The two scopes: `invoke`, the engine alone, and `frame`, from decoded frame to mask.

tflite-runtime lives in another process and times its own invocations. Its frame latency is
put together from preprocessing and thresholding here and the invocation there, so that no
pipe, which a deployed application would not have, is timed. A program that is started anew for
each run, as trtexec is, is run once for many invocations, which the frames then share out.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

from nanonet_edge.benchmarks.timing import Sampler, timed
from nanonet_edge.contract import Array, preprocess, to_mask
from nanonet_edge.runtimes import Runtime
from nanonet_edge.runtimes.tflite_runtime import TfliteRuntime

#: Engines stop by themselves after this; the parent's patience ends before.
_NO_LIMIT_SECONDS = 1e6

COMPOSED = "preprocessing + invocation timed in the engine's own process + thresholding"
SHARED_OUT = "preprocessing + one of 100 invocations timed in one run of the engine's program + thresholding"
_SHARED_RUNS = 100


def is_remote(runtime: Runtime) -> bool:
    """Whether the engine lives in a process of its own, behind a pipe or started for each call."""
    return runtime.is_spawned or isinstance(runtime, TfliteRuntime)


def time_invokes(runtime: Runtime, tensor: Array, min_count: int, min_seconds: float) -> tuple[int, ...]:
    """Durations of consecutive invocations on the same tensor, in nanoseconds."""
    samples = runtime.time_invoke(tensor, min_count, min_seconds, _NO_LIMIT_SECONDS)
    return tuple(int(sample) for sample in samples)


class FrameLoop:
    """Processes frame after frame, round and round.

    Attributes:
        sample: processes the next frame and tells how long it took, in nanoseconds.
        note: how a sample is put together, None if it is plain wall-clock time.
    """

    def __init__(self, runtime: Runtime, frames: Sequence[Array]) -> None:
        self._runtime = runtime
        self._frames = frames
        self._index = 0
        self._shared: Iterator[int] | None = None
        self.sample: Sampler
        self.note: str | None
        if runtime.is_spawned:
            self.sample, self.note = self._sample_shared, SHARED_OUT
        elif is_remote(runtime):
            self.sample, self.note = self._sample_composed, COMPOSED
        else:
            self.sample, self.note = timed(self.process_next), None

    def process_next(self) -> None:
        """Turn the next frame into a mask."""
        tensor = preprocess(self._next(), self._runtime.input)
        to_mask(self._runtime.invoke_unchecked(tensor), self._runtime.output)

    def _next(self) -> Array:
        frame = self._frames[self._index]
        self._index = (self._index + 1) % len(self._frames)
        return frame

    def _sample_composed(self) -> int:
        clock = time.perf_counter_ns
        start = clock()
        tensor = preprocess(self._next(), self._runtime.input)
        before = clock() - start
        (invocation,) = time_invokes(self._runtime, tensor, 1, 0.0)[:1]
        output = self._runtime.invoke_unchecked(tensor)
        start = clock()
        to_mask(output, self._runtime.output)
        return before + invocation + (clock() - start)

    def _sample_shared(self) -> int:
        clock = time.perf_counter_ns
        start = clock()
        tensor = preprocess(self._next(), self._runtime.input)
        before = clock() - start
        if self._shared is None:
            self._shared = itertools.cycle(time_invokes(self._runtime, tensor, _SHARED_RUNS, 0.0))
            self._output = self._runtime.invoke_unchecked(tensor)
        start = clock()
        to_mask(self._output, self._runtime.output)
        return before + next(self._shared) + (clock() - start)
