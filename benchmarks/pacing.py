"""Frames on a clock, and runs long enough to get warm.

Running and judging are apart: `run_paced` and `run_back_to_back` return a `Trace`; deadlines,
buckets and drift are computed from traces and from nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.statistics import STABLE_VARIATION, excludes_one, ratio_of_medians, summarize
from nanonet_edge.benchmarks.timing import Call, Clock
from nanonet_edge.machine import Conditions, read_conditions
from nanonet_edge.results import Bucket, Drift, Pacing, Sustained

BUCKET_SECONDS = 60.0
PACED_SECONDS = 10.0
#: A bucket is cut into this many rounds for the drift's interval.
_ROUNDS_PER_BUCKET = 12

Integers = npt.NDArray[np.int64]
Sleep = Callable[[float], None]
Probe = Callable[[], Conditions]


@dataclass(frozen=True)
class Trace:
    """A run, frame by frame, in nanoseconds since its start.

    Attributes:
        arrived: when each frame that was served was there; back to back, when its work began.
        finished: when its mask was.
        conditions: read at the end of every bucket that was completed, and of the run.
        unserved: how many more frames had arrived when the run ended.
    """

    arrived: tuple[int, ...]
    finished: tuple[int, ...]
    conditions: tuple[Conditions, ...]
    unserved: int = 0

    @property
    def latencies(self) -> Integers:
        """From arrival to mask, (n,) int64 nanoseconds."""
        return np.subtract(self.finished, self.arrived, dtype=np.int64)


class _Recorder:
    """Collects frames and reads the conditions as each bucket ends."""

    def __init__(self, bucket_seconds: float, probe: Probe) -> None:
        self._bucket_ns = round(bucket_seconds * 1e9)
        self._probe = probe
        self._arrived: list[int] = []
        self._finished: list[int] = []
        self._conditions: list[Conditions] = []

    def add(self, arrived: int, finished: int) -> None:
        # A bucket is over when a frame that belongs to a later one is done.
        while finished > (len(self._conditions) + 1) * self._bucket_ns:
            self._conditions.append(self._probe())
        self._arrived.append(arrived)
        self._finished.append(finished)

    def trace(self, arrived: int | None = None) -> Trace:
        """Everything, `arrived` being how many frames there were, if not all were served."""
        unserved = 0 if arrived is None else arrived - len(self._arrived)
        conditions = (*self._conditions, self._probe())
        return Trace(tuple(self._arrived), tuple(self._finished), conditions, unserved)


def run_paced(
    call: Call,
    *,
    fps: float,
    seconds: float,
    bucket_seconds: float = BUCKET_SECONDS,
    clock: Clock = time.perf_counter_ns,
    sleep: Sleep = time.sleep,
    probe: Probe = read_conditions,
) -> Trace:
    """Process frames that arrive every 1 / `fps` seconds, in order, until `seconds` have passed.

    At least one frame is served. An engine that cannot keep up leaves frames unserved at the
    end: the run is not prolonged for them. The processor sleeps between frames, as it would on
    a camera, so its clocks may fall and the time it takes to wake up is part of the latency.
    """
    period = 1e9 / fps
    end = round(seconds * 1e9)
    arrivals = max(1, math.floor(seconds * fps))
    recorder = _Recorder(bucket_seconds, probe)
    start = clock()
    for frame in range(arrivals):
        if frame > 0 and clock() - start >= end:
            break
        arrival = round(frame * period)
        while (wait := start + arrival - clock()) > 0:
            sleep(wait / 1e9)
        call()
        recorder.add(arrival, clock() - start)
    return recorder.trace(arrivals)


def run_back_to_back(
    call: Call,
    *,
    seconds: float,
    bucket_seconds: float = BUCKET_SECONDS,
    clock: Clock = time.perf_counter_ns,
    probe: Probe = read_conditions,
) -> Trace:
    """Process frame after frame without a pause for `seconds`, at least one."""
    recorder = _Recorder(bucket_seconds, probe)
    start = clock()
    end = round(seconds * 1e9)
    now = 0
    while True:
        begun = clock() - start
        call()
        now = clock() - start
        recorder.add(begun, now)
        if now >= end:
            return recorder.trace()


def judge_pacing(trace: Trace, fps: float) -> Pacing:
    """Deadlines of a paced trace: each frame should be done before the next one arrives."""
    lateness = trace.latencies - round(1e9 / fps)
    frames = len(trace.arrived) + trace.unserved
    missed = int((lateness > 0).sum()) + trace.unserved
    return Pacing(
        obtained="measured",
        fps=fps,
        frames=frames,
        missed=missed,
        unserved=trace.unserved,
        missed_ratio=missed / frames,
        worst_lateness_ms=max(0.0, float(lateness.max()) / 1e6),
        latency=summarize(trace.latencies),
        latencies_ns=tuple(int(value) for value in trace.latencies),
    )


def judge_sustained(
    trace: Trace, *, minutes: float, fps: float | None, bucket_seconds: float = BUCKET_SECONDS
) -> Sustained:
    """Buckets and drift of a long trace; a frame belongs to the bucket in which it was done."""
    bucket_ns = round(bucket_seconds * 1e9)
    # The last frame may end after the run's time was over; it opens no bucket of its own.
    last = math.ceil(60.0 * minutes / bucket_seconds) - 1
    indices = np.minimum((np.asarray(trace.finished, np.int64) - 1) // bucket_ns, last)
    groups = [(int(index), trace.latencies[indices == index]) for index in np.unique(indices)]
    buckets = tuple(
        Bucket(
            start_s=index * bucket_seconds,
            summary=summarize(samples),
            conditions=trace.conditions[index],
        )
        for index, samples in groups
    )
    # A last bucket that the run filled by less than half says little about its end.
    is_stub = 2 * (trace.finished[-1] - groups[-1][0] * bucket_ns) < bucket_ns
    return Sustained(
        obtained="measured",
        minutes=minutes,
        fps=fps,
        bucket_seconds=bucket_seconds,
        buckets=buckets,
        drift=judge_drift([samples for _, samples in (groups[:-1] if is_stub else groups)]),
        samples_ns=tuple(int(value) for value in trace.latencies),
    )


def judge_drift(buckets: Sequence[Integers]) -> Drift:
    """Compare the last bucket with the first.

    Consecutive frames resemble each other, so each bucket is cut into rounds and the rounds
    are resampled.
    """
    if len(buckets) < 2:
        return Drift(verdict=None, ratio=None, reason="the run was shorter than two buckets")
    first, last = buckets[0], buckets[-1]
    fewest, needed = min(len(first), len(last)), 2 * _ROUNDS_PER_BUCKET
    if fewest < needed:
        reason = f"expected at least {needed} frames in a bucket, found {fewest}"
        return Drift(verdict=None, ratio=None, reason=reason)
    ratio = ratio_of_medians(
        np.array_split(last, _ROUNDS_PER_BUCKET), np.array_split(first, _ROUNDS_PER_BUCKET), paired=False
    )
    if not excludes_one(ratio) or abs(ratio.value - 1.0) <= STABLE_VARIATION:
        return Drift(verdict="steady", ratio=ratio)
    return Drift(verdict="slower" if ratio.value > 1.0 else "faster", ratio=ratio)
