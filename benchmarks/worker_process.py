"""The parent's end of a measuring process: start it, ask it, and say clearly how it died."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from types import TracebackType

from pydantic import ValidationError
from typing_extensions import Self

from nanonet_edge.benchmarks.pacing import PACED_SECONDS
from nanonet_edge.benchmarks.timing import WARMUP_RUNS, WARMUP_SECONDS
from nanonet_edge.benchmarks.worker_protocol import (
    DescribeRequest,
    LoadRequest,
    MeasureRequest,
    Reply,
    Request,
    RoundRequest,
)
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.results import Measurement, RuntimeInfo
from nanonet_edge.runtimes import builds_engine

WORKER_MODULE = "nanonet_edge.benchmarks.worker"
#: Longest wait for an answer beyond the time that was asked to be measured.
PATIENCE_SECONDS = 300.0
#: How many times longer than the first inference a run may take: a frame is more than an inference.
_SLOWEST = 5.0
_STDERR_TAIL = 4096
#: TensorRT tries many kernels before it has an engine: minutes on a small Jetson.
_BUILD_SECONDS = 3600.0


class Worker:
    """A fresh process that holds one artifact on one runtime.

    Raises:
        RuntimeFailure: by any method: the engine refused the artifact, or the process died;
            the message names the artifact, the runtime and the signal.
    """

    def __init__(self, load: LoadRequest, *, patience: float = PATIENCE_SECONDS) -> None:
        self._load = load
        self._patience = patience
        self._run_seconds = 0.0
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER_MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            # A module of the user's working folder must not shadow one of Python's.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    @property
    def pid(self) -> int:
        """The process's identifier."""
        return self._process.pid

    def load(self) -> None:
        """Load the artifact and run it once: how long that took tells how long to wait later."""
        reply = self._ask(self._load, _BUILD_SECONDS if builds_engine(self._load.spec) else 0.0)
        if reply.first_ns is None:
            raise self._failure("the worker answered without a first inference")
        self._run_seconds = _SLOWEST * reply.first_ns / 1e9

    def describe(self) -> RuntimeInfo:
        """What the engine says of itself."""
        reply = self._ask(DescribeRequest(), 0.0)
        if reply.runtime is None:
            raise self._failure("the worker answered without a runtime")
        return reply.runtime

    def round(self, request: RoundRequest) -> tuple[int, ...]:
        """Durations of one round of invocations, in nanoseconds."""
        reply = self._ask(request, self._expected(request.min_seconds, request.min_count))
        if not reply.samples_ns:
            raise self._failure("the worker answered without samples")
        return reply.samples_ns

    def measure(self, request: MeasureRequest) -> Measurement:
        """Measure everything."""
        scope = self._expected(request.min_seconds, request.min_count)
        warm_up = self._expected(WARMUP_SECONDS, WARMUP_RUNS)
        long_run = 60 * request.sustained_minutes if request.sustained_minutes else PACED_SECONDS
        reply = self._ask(request, 2 * (scope + warm_up) + long_run + self._run_seconds)
        if reply.measurement is None:
            raise self._failure("the worker answered without a measurement")
        return reply.measurement

    def _expected(self, seconds: float, count: int) -> float:
        """The longest that runs should take until both a duration and a count are reached."""
        return seconds + count * self._run_seconds

    def _ask(self, request: Request, seconds: float) -> Reply:
        assert self._process.stdin is not None  # noqa: S101 - it was asked to be a pipe
        try:
            self._process.stdin.write(request.model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        timeout = seconds + self._patience
        try:
            line = self._replies.get(timeout=timeout)
        except queue.Empty:
            self._process.kill()
            raise self._failure(f"no answer within {timeout:.0f} s") from None
        if not line:
            raise self._death()
        try:
            reply = Reply.model_validate_json(line)
        except ValidationError:
            raise self._failure(f"the worker answered {line[:80]!r}") from None
        if reply.error is not None:
            raise self._failure(reply.error)
        return reply

    def _read(self) -> None:
        """Hand on every line the process answers, then an empty one."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked to be a pipe
        with self._process.stdout as lines:
            for line in lines:
                self._replies.put(line)
        self._replies.put("")

    def _failure(self, what: str) -> RuntimeFailure:
        return RuntimeFailure(f"{self._load.subject} on {self._load.spec}: {what}")

    def _death(self) -> RuntimeFailure:
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            hint = " (often: out of memory)" if -code == signal.SIGKILL else ""
            return self._failure(f"the engine's process was killed by {name}{hint}")
        last = self._last_line()
        return self._failure(f"the engine's process ended with code {code}{': ' + last if last else ''}")

    def _last_line(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""
