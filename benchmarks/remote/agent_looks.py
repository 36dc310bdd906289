"""How the agent looks at the board: its files and what its programs print, raw. Python >= 3.9 alone."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_OUTPUT_LIMIT = 1 << 16
_COMMAND_SECONDS = 2.0


class Looks:
    """Reads the board's files and asks its programs, as the job says which."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._root = job["root"]
        self._patterns = job["state_files"]
        self._commands = job["commands"]
        self._during = job["during"]
        self._answers: dict[str, str] = {}
        self._stream = Stream(job["stream"]) if job["stream"] else None

    def close(self) -> None:
        """End the program that prints all the time."""
        if self._stream is not None:
            self._stream.close()

    def look(self, whole: bool) -> dict[str, Any]:
        """The state now; the dearer programs are asked only for the `whole` of it."""
        now = time.monotonic_ns()
        names = self._commands if whole else self._during
        asked = {name: text for name in names for text in ask(self._commands[name])}
        self._answers = asked if whole else {**self._answers, **asked}
        outputs = dict(self._answers)
        if self._stream is not None and self._stream.last_line:
            outputs[self._stream.name] = self._stream.last_line
        return {
            "monotonic_ns": now,
            "files": dict(read_files(self._root, self._patterns)),
            "outputs": outputs,
        }


class Stream:
    """A program that prints a line now and then (tegrastats); the last one counts."""

    def __init__(self, command: list[str]) -> None:
        self.name = command[0]
        self.last_line = ""
        self._process: subprocess.Popen[bytes] | None = None
        program = shutil.which(command[0])
        if program is None:
            return
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def close(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _read(self, lines: IO[bytes]) -> None:
        with contextlib.suppress(ValueError):
            while line := lines.readline(8192):
                self.last_line = line.decode("utf-8", "replace")


def ask(command: list[str]) -> Iterator[str]:
    """What a program prints, if it is there and ends in time."""
    program = shutil.which(command[0])
    if program is None:
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        yield done.stdout[:_OUTPUT_LIMIT].decode("utf-8", "replace")


def read_files(root: str, patterns: list[Any]) -> Iterator[tuple[str, str | None]]:
    """Files below `root` by pattern and limit: their bytes as Latin-1; None for what is no file."""
    for pattern, limit in patterns:
        for path in sorted(Path(root).glob(pattern)):
            yield str(path.relative_to(root)), _read(path, limit + 1)


def _read(path: Path, limit: int) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(limit).decode("latin-1") if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:
        return None


def describe_machine(job: dict[str, Any]) -> dict[str, Any]:
    """What the board is: its files, and what only its Python can tell."""
    return {
        "files": dict(read_files(job["root"], job["machine_files"])),
        "facts": {
            "architecture": platform.machine(),
            "kernel": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            "usable_cores": len(os.sched_getaffinity(0)),
            "logical_cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
    }
