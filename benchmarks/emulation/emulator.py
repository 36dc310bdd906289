"""Run a model in an emulated machine, one process per job, and say clearly how it died.

The guest's own child processes would not be emulated, so nothing is started there but the one
script, `guest`. What it prints is checked line by line: it is a stranger's.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from nanonet_edge.benchmarks.emulation import guest
from nanonet_edge.benchmarks.emulation.cache import Place
from nanonet_edge.benchmarks.emulation.cpus import make_prefix
from nanonet_edge.benchmarks.emulation.setup import check_emulator
from nanonet_edge.bundle import Artifact
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.manifest import Record

Array = npt.NDArray[Any]
#: Called with the number of tensors that are done.
Progress = Callable[[int], None]

#: Longest silence of a guest: under emulation a frame takes from 2 s (int8) to 2 min (fp32, busy host).
PATIENCE_SECONDS: Final = 900.0
_LINE_LIMIT: Final = 1 << 16
_STDERR_TAIL: Final = 4096
_VERSION_SECONDS: Final = 20.0


class GuestInfo(Record):
    """What the guest says of itself once a model is loaded; `delegated`: XNNPACK took operators."""

    engine: str
    numpy: str
    python: str
    machine: str
    delegated: bool


@dataclass(frozen=True)
class Job:
    """One model on one engine, on tensors (n, ...) that each fit its input, batch of 1 included."""

    artifact: Artifact
    engine: str
    inputs: Array

    def __str__(self) -> str:
        return f"{self.artifact.path.name} on emulated {self.engine}"


class Emulator:
    """A machine that is set up, with the processor that it is to have.

    Attributes:
        place: where the machine is kept.
        core: QEMU's name of the processor.
        version: of QEMU.

    Raises (from the constructor):
        UsageError: this system has no QEMU for it, or the machine is not set up or not whole.
    """

    def __init__(self, place: Place, core: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self.program = check_emulator(place.machine)
        place.check()
        self.place = place
        self.core = place.machine.core or core
        self.patience = patience
        self.version = qemu_version(self.program)

    def outputs(self, job: Job, progress: Progress = lambda done: None) -> tuple[Array, GuestInfo]:
        """Run a model on tensors.

        Args:
            job: what to run.
            progress: called with the number of tensors that are done.

        Returns:
            (n, ...) raw outputs, of the shape and dtype that the artifact's record gives.

        Raises:
            RuntimeFailure: the guest crashed, fell silent, or gave something else.
        """
        with self._work(job) as work:
            results = work / "outputs.npy"
            info = self._run(job, work, {"outputs": str(results)}, progress)
            expected = (len(job.inputs), *job.artifact.record.output.shape)
            dtype = np.dtype(job.artifact.record.output.dtype)
            try:
                # Mapped, so that a header which claims too much takes no memory.
                found = np.load(results, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise RuntimeFailure(f"{job}: expected outputs (.npy), found {error}") from None
            if (found.shape, found.dtype) != (expected, dtype):
                raise RuntimeFailure(
                    f"{job}: expected outputs of shape {expected} and dtype {dtype}, "
                    f"found {found.shape} and {found.dtype}"
                )
            return np.array(found), info

    def marked(self, job: Job, invokes: int, plugin: Path, *, program: str) -> tuple[str, GuestInfo]:
        """Run a model on its first tensor between marks, under a plugin that writes what it counts.

        Args:
            job: what to run.
            invokes: how many, after one that is not marked.
            plugin: the shared object.
            program: a QEMU that takes plugins.

        Returns:
            The text that the plugin wrote.

        Raises:
            RuntimeFailure: the guest crashed or fell silent, or nothing was written.
        """
        with self._work(job) as work:
            counts = work / "counts.txt"
            options = ("-plugin", f"file={plugin},out={counts}")
            info = self._run(job, work, {"marked": invokes}, program=program, options=options)
            try:
                return counts.read_text(encoding="ascii"), info
            except (OSError, ValueError) as error:
                raise RuntimeFailure(f"{job}: expected counts, found {error}") from None

    @contextlib.contextmanager
    def _work(self, job: Job) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="nanonet-edge-emulation-") as name:
            work = Path(name)
            (work / "prefix").mkdir()
            make_prefix(self.place.tree("root"), work / "prefix", self.core)
            np.save(work / "inputs.npy", job.inputs, allow_pickle=False)
            yield work

    def _run(
        self,
        job: Job,
        work: Path,
        extra: dict[str, Any],
        progress: Progress = lambda done: None,
        *,
        program: str | None = None,
        options: tuple[str, ...] = (),
    ) -> GuestInfo:
        request = {
            "engine": job.engine,
            "model": str(job.artifact.path.resolve()),
            "threads": 1,
            "inputs": str(work / "inputs.npy"),
            "marked": 0,
            **extra,
        }
        (work / "job.json").write_text(json.dumps(request), encoding="utf-8")
        python = self.place.tree("root") / "usr/bin/python3"
        command = [
            *(program or self.program, "-cpu", self.core, *options, "-L", str(work / "prefix")),
            *(str(python), str(Path(guest.__file__).resolve()), str(work / "job.json")),
        ]
        with _Process(command, self._environment(), str(job), self.patience) as process:
            return _listen(process, progress)

    def _environment(self) -> dict[str, str]:
        """Nothing of this process's own: it would change what the guest does."""
        return {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": "/nonexistent",
            "PYTHONPATH": str(self.place.tree("site").resolve()),
            "PYTHONSAFEPATH": "1",
            "PYTHONNOUSERSITE": "1",
            # Two runs shall execute the same instructions.
            "PYTHONHASHSEED": "0",
            # The trees stay as their digests have them.
            "PYTHONPYCACHEPREFIX": str(self.place.bytecode.resolve()),
            "OMP_NUM_THREADS": "1",
        }


def qemu_version(program: str) -> str:
    """What QEMU calls its version, such as "7.2.22"; "unknown" where it does not say."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    words = done.stdout.split()
    return words[2][:40] if len(words) > 2 and words[1] == "version" else "unknown"


def _listen(process: _Process, progress: Progress) -> GuestInfo:
    info: GuestInfo | None = None
    while True:
        line = process.line()
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if not isinstance(said, dict):
            raise process.failure(f"expected a line of JSON, found {line[:60]!r}")
        if said == {"finished": True} and info is not None:
            process.finish()
            return info
        if info is None:
            try:
                info = GuestInfo.model_validate(said)
            except ValidationError:
                raise process.failure(f"expected what the guest is, found {line[:60]!r}") from None
        elif set(said) == {"done"} and isinstance(said["done"], int):
            progress(said["done"])
        else:
            raise process.failure(f"expected progress, found {line[:60]!r}")


class _Process:
    """An emulator at work: its lines within a time limit, its death in words. Killed at the end."""

    def __init__(
        self, command: list[str], environment: dict[str, str], subject: str, patience: float
    ) -> None:
        self._subject = subject
        self._patience = patience
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise RuntimeFailure(f"{command[0]}: cannot be started: {error.strerror}") from None
        assert self._process.stdout is not None  # noqa: S101 - it was asked to be a pipe
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._stderr.close()

    def line(self) -> bytes:
        """The next line.

        Raises:
            RuntimeFailure: none comes.
        """
        try:
            line = self._lines.get(timeout=self._patience)
        except queue.Empty:
            raise self.failure(f"no word within {self._patience:.0f} s, so it was killed") from None
        if not line:
            raise self._death()
        return line

    def finish(self) -> None:
        """Wait for a good end.

        Raises:
            RuntimeFailure: it ends otherwise.
        """
        try:
            code = self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            raise self.failure("it did not end, so it was killed") from None
        if code:
            raise self._death()

    def failure(self, what: str) -> RuntimeFailure:
        """An error that names the job."""
        return RuntimeFailure(f"{self._subject}: {what}")

    def _read(self, lines: IO[bytes]) -> None:
        """Hand on every line, then an empty one."""
        with lines, contextlib.suppress(ValueError, OSError):
            while line := lines.readline(_LINE_LIMIT):
                self._lines.put(line)
        self._lines.put(b"")

    def _death(self) -> RuntimeFailure:
        try:
            code = self._process.wait(self._patience)
        except subprocess.TimeoutExpired:
            return self.failure("it closed its output but did not end, so it was killed")
        said = self._last_words()
        if code < 0:
            return self.failure(f"it was killed by {signal.Signals(-code).name}{said}")
        return self.failure(f"it ended with code {code}{said}")

    def _last_words(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL))
        lines = self._stderr.read().decode("utf-8", "replace").splitlines()
        told = [line.strip() for line in lines if line.strip() and not line.startswith("INFO: ")]
        last = "".join(sign if sign.isprintable() else "?" for sign in told[-1][:300]) if told else ""
        return f", saying: {last}" if last else ""
