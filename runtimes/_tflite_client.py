"""The parent's end of `tflite_worker`: find an interpreter, start it, ask, time out, kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from nanonet_edge.errors import MissingExtraError, RuntimeFailure, UsageError
from nanonet_edge.extras import is_installed
from nanonet_edge.runtimes import tflite_worker
from nanonet_edge.runtimes.base import one_line

PYTHON_VARIABLE = "NANONET_EDGE_TFLITE_RUNTIME_PYTHON"
_ENVIRONMENT = ".venv-tflite-runtime"
_STDERR_TAIL = 1000
_EXIT_SECONDS = 5.0


def find_python() -> Path:
    """The Python interpreter that has tflite_runtime.

    It is the one that NANONET_EDGE_TFLITE_RUNTIME_PYTHON names, or that of the environment
    ``.venv-tflite-runtime`` beside this environment's folder, or this one.

    Raises:
        UsageError: the variable names no file.
        MissingExtraError: there is none.
    """
    if named := os.environ.get(PYTHON_VARIABLE):
        if not Path(named).is_file():
            raise UsageError(f"{PYTHON_VARIABLE}: expected a Python interpreter, found nothing at {named}")
        return Path(named)
    beside = Path(sys.prefix).parent / _ENVIRONMENT / "bin" / "python"
    if beside.is_file():
        return beside
    if is_installed("tflite_runtime"):
        return Path(sys.executable)
    raise MissingExtraError("tflite_runtime", "tflite-runtime")


class WorkerClient:
    """A worker process, started at once and killed by `close`.

    Raises (from the constructor):
        RuntimeFailure: `python` cannot be started.
    """

    def __init__(self, python: Path) -> None:
        script = Path(tflite_worker.__file__).resolve()
        # A file, not a pipe: nobody has to drain it while an answer is awaited.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        try:
            self._process = subprocess.Popen(
                [str(python), "-I", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        except OSError as error:
            self._stderr.close()
            raise RuntimeFailure(
                f"{python}: expected a Python interpreter, found {error.strerror}"
            ) from error

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def ask(
        self, source: str, header: tflite_worker.Header, payload: bytes = b"", *, timeout: float
    ) -> tuple[tflite_worker.Header, bytes]:
        """Send one request and wait for its answer.

        Args:
            source: the model, for messages.
            timeout: in seconds; the worker is killed when they have passed.

        Raises:
            RuntimeFailure: the worker answered with an error, died, sent no frame, or did not
                answer in time.
        """
        operation = header["op"]
        answer: tuple[tflite_worker.Header, bytes] | None = None
        broken = ""
        with self._deadline(timeout) as expired:
            try:
                answer = self._exchange(header, payload)
            except (OSError, tflite_worker.ProtocolError) as error:
                broken = one_line(error)
        if expired.is_set():
            raise RuntimeFailure(
                f"{source}: tflite-runtime was killed: '{operation}' took more than {timeout:g} s"
            )
        if answer is None:
            raise RuntimeFailure(f"{source}: tflite-runtime {self._last_words(broken)} during '{operation}'")
        fields, data = answer
        if fields.get("ok") is not True:
            raise RuntimeFailure(f"{source}: tflite-runtime: {one_line(str(fields.get('error')))}")
        return fields, data

    def close(self) -> None:
        """Kill the worker, reap it, close its pipes."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                # Closing flushes: a request the dead worker never read is of no interest now.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _exchange(
        self, header: tflite_worker.Header, payload: bytes
    ) -> tuple[tflite_worker.Header, bytes] | None:
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None or requests.closed:
            raise tflite_worker.ProtocolError("its pipes are closed")
        tflite_worker.write_frame(requests, header, payload)
        return tflite_worker.read_frame(answers)

    @contextlib.contextmanager
    def _deadline(self, seconds: float) -> Iterator[threading.Event]:
        """Kill the worker if the block lasts longer: that ends every read and write on its pipes."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            self._process.kill()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield expired
        finally:
            timer.cancel()

    def _last_words(self, broken: str) -> str:
        """How the worker ended, with the end of what it said on stderr."""
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return f"broke the protocol ({broken or 'its pipe was closed'})"
        how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_TAIL))
        lines = self._stderr.read().decode(errors="replace").split("\n")
        said = one_line(
            " ".join(line for line in lines if not line.startswith("INFO: ")).strip() or "nothing"
        )
        return f"{how}, saying {said}," if said != "nothing" else how
