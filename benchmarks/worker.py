"""The measuring process: ``python -m nanonet_edge.benchmarks.worker``.

It answers the requests of `worker_protocol` for one artifact on one runtime. Engines print
on stdout as they like, so the pipe it was started with is moved aside before any engine is
imported, and stdout becomes stderr.

An error that nanonet-edge raises on purpose becomes the answer. Anything else ends the
process, and the parent reports how.
"""

from __future__ import annotations

import os
import sys
import time
from typing import IO, TYPE_CHECKING, Literal

from nanonet_edge.benchmarks.memory import memory_above, memory_of, take_baseline
from nanonet_edge.benchmarks.pacing import (
    PACED_SECONDS,
    Trace,
    judge_pacing,
    judge_sustained,
    run_back_to_back,
    run_paced,
)
from nanonet_edge.benchmarks.scopes import FrameLoop, is_remote, time_invokes
from nanonet_edge.benchmarks.statistics import summarize
from nanonet_edge.benchmarks.timing import (
    WARMUP_RUNS,
    WARMUP_SECONDS,
    camera_frames,
    run_until,
    warm_up,
)
from nanonet_edge.benchmarks.worker_protocol import (
    REQUEST,
    DescribeRequest,
    LoadRequest,
    MeasureRequest,
    Reply,
    Request,
    RoundRequest,
)
from nanonet_edge.bundle import Bundle
from nanonet_edge.contract import preprocess
from nanonet_edge.errors import NanonetEdgeError, UsageError
from nanonet_edge.results import Figure, Latency, Measurement, RuntimeInfo
from nanonet_edge.runtimes import Runtime, open_reference, open_runtime
from nanonet_edge.runtimes.keras_reference import reference_contracts

if TYPE_CHECKING:
    from collections.abc import Callable

    from nanonet_edge.contract import Array, InputContract


_NOT_ASKED = "not asked for"
_BEHIND_A_PIPE = "the engine runs in another process: such a run would time the pipe too"


class Session:
    """One artifact, or the reference, on one runtime: from load to the last figure.

    Raises:
        NanonetEdgeError: by any method: the bundle is damaged, the engine refused.
    """

    def __init__(self, request: LoadRequest) -> None:
        import cv2

        cv2.setNumThreads(request.threads)
        bundle = Bundle.open(request.bundle)
        takes, self._open = _subject(bundle, request)
        frames, _ = camera_frames(bundle)
        # Preprocessing once before the baseline: what OpenCV sets up is not the engine's.
        self._tensor: Array = preprocess(frames[0], takes)
        self._baseline = take_baseline()
        start = time.perf_counter_ns()
        self._runtime = self._open()
        self._startup_ns = time.perf_counter_ns() - start
        self.first_ns = self.time_invokes(1, 0.0)[0]
        self._loop = FrameLoop(self._runtime, frames)

    def close(self) -> None:
        """Let go of the model."""
        self._runtime.close()

    def describe(self) -> RuntimeInfo:
        """What the engine says of itself."""
        return self._runtime.info

    def time_invokes(self, min_count: int, min_seconds: float) -> tuple[int, ...]:
        """Durations of invocations on a prepared tensor, in nanoseconds."""
        return time_invokes(self._runtime, self._tensor, min_count, min_seconds)

    def time_round(self, request: RoundRequest) -> tuple[int, ...]:
        """Durations of one round, in nanoseconds."""
        if request.scope == "frame":
            return run_until(self._loop.sample, min_seconds=request.min_seconds, min_count=request.min_count)
        return self.time_invokes(request.min_count, request.min_seconds)

    def measure(self, request: MeasureRequest) -> Measurement:
        """Everything, in an order in which no figure disturbs another.

        Memory is read before the runs whose length the user chose, before the second load,
        and before the engine is asked to describe itself, which may load the model again.
        """
        loop = self._loop
        invoke, frame = self._time_invoke(request), self._time_frame(request, loop)
        memory = self._read_memory()
        trace = None if is_remote(self._runtime) else _run_long(request, loop)
        fps, minutes = request.fps, request.sustained_minutes
        pacing = judge_pacing(trace, fps) if trace and fps else None
        sustained = judge_sustained(trace, minutes=minutes, fps=fps) if trace and minutes else None
        asked = {"pacing": fps, "sustained": minutes}
        found = {"pacing": pacing, "sustained": sustained}
        return Measurement(
            startup=_milliseconds(self._startup_ns),
            first_inference=_milliseconds(self.first_ns),
            invoke=invoke,
            frame=frame,
            memory=memory,
            pacing=pacing,
            sustained=sustained,
            missing={
                name: _BEHIND_A_PIPE if asked[name] else _NOT_ASKED for name in found if not found[name]
            },
            load=self._time_load(),
            runtime=self.describe(),
        )

    def _time_invoke(self, request: MeasureRequest) -> Latency:
        warmup_runs = len(self.time_invokes(WARMUP_RUNS, WARMUP_SECONDS))
        start = time.monotonic_ns()
        samples = self.time_invokes(request.min_count, request.min_seconds)
        # The start of a program and of its engine is no inference.
        window_ns = None if self._runtime.is_spawned else (start, time.monotonic_ns())
        return _latency("invoke", warmup_runs, samples, window_ns=window_ns)

    def _time_frame(self, request: MeasureRequest, loop: FrameLoop) -> Latency:
        warmup_runs = warm_up(loop.sample)
        start = time.monotonic_ns()
        samples = run_until(loop.sample, min_seconds=request.min_seconds, min_count=request.min_count)
        # What is put together from parts does more than it is timed for.
        window_ns = None if loop.note else (start, time.monotonic_ns())
        return _latency("frame", warmup_runs, samples, window_ns=window_ns, note=loop.note)

    def _read_memory(self) -> Figure:
        if is_remote(self._runtime):
            return memory_of(self._runtime.process_memory())
        return memory_above(self._baseline)

    def _time_load(self) -> Figure:
        with self._open() as runtime:
            return _milliseconds(runtime.load_ns)


def _subject(bundle: Bundle, request: LoadRequest) -> tuple[InputContract, Callable[[], Runtime]]:
    """What is to be loaded: the tensor that it takes, and how to open it."""
    if request.artifact is None:
        takes, _ = reference_contracts(bundle)
        return takes, lambda: open_reference(bundle, request.spec, request.threads)
    artifact = bundle.artifact(request.artifact)
    return artifact.record.input, lambda: open_runtime(artifact, request.spec, request.threads)


def _run_long(request: MeasureRequest, loop: FrameLoop) -> Trace | None:
    """The paced or sustained run, if one was asked for."""
    seconds = 60.0 * request.sustained_minutes if request.sustained_minutes else PACED_SECONDS
    if request.fps:
        return run_paced(loop.process_next, fps=request.fps, seconds=seconds)
    return run_back_to_back(loop.process_next, seconds=seconds) if request.sustained_minutes else None


def _milliseconds(nanoseconds: int) -> Figure:
    return Figure(obtained="measured", unit="ms", value=nanoseconds / 1e6)


def _latency(
    scope: Literal["invoke", "frame"],
    warmup_runs: int,
    samples_ns: tuple[int, ...],
    *,
    window_ns: tuple[int, int] | None,
    note: str | None = None,
) -> Latency:
    return Latency(
        obtained="measured",
        scope=scope,
        note=note,
        window_ns=window_ns,
        warmup_runs=warmup_runs,
        summary=summarize(samples_ns),
        samples_ns=samples_ns,
    )


def _answer(session: Session, request: Request) -> Reply:
    if isinstance(request, DescribeRequest):
        return Reply(runtime=session.describe())
    if isinstance(request, RoundRequest):
        return Reply(samples_ns=session.time_round(request))
    if isinstance(request, MeasureRequest):
        return Reply(measurement=session.measure(request))
    raise UsageError("expected one load request per worker, found a second one")


def serve(requests: IO[str], replies: IO[str]) -> None:
    """Answer requests, one JSON object per line, until there are no more."""
    session: Session | None = None
    try:
        for line in requests:
            request = REQUEST.validate_json(line)
            try:
                if session is not None:
                    reply = _answer(session, request)
                elif isinstance(request, LoadRequest):
                    session = Session(request)
                    reply = Reply(first_ns=session.first_ns)
                else:
                    raise UsageError(f"expected a load request first, found '{request.op}'")
            except NanonetEdgeError as error:
                reply = Reply(error=str(error))
            replies.write(reply.model_dump_json() + "\n")
            replies.flush()
    finally:
        if session is not None:
            session.close()


def main() -> None:
    """Serve stdin, and the pipe that stdout is at this moment."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
