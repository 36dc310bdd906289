"""The agent: measures a list of pairs on a board and tells everything raw. Python >= 3.9 alone.

It reads a job (one line of JSON, see `nanonet_edge.benchmarks.remote.job`) and writes events, one
JSON object per line (see `nanonet_edge.benchmarks.remote.events`). Nothing is judged here: the files
in which the board describes itself and its state are sent home as they are.

While it serves over a connection it wants to hear from home: without a line for a minute and a half,
or at the end of stdin, it stops measuring, waits for home to come back, and if nobody does removes its
folder. A later agent in the same folder ends an earlier one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import IO, Any

from nanonet_edge.benchmarks.remote.agent_engines import ENGINES
from nanonet_edge.benchmarks.remote.agent_looks import Looks, describe_machine
from nanonet_edge.benchmarks.remote.board import PID_NAME, end_agent

SILENCE_SECONDS = 90.0
ALIVE_SECONDS = 10.0
RETURN_SECONDS = 300.0
#: Longest wait for an answer beyond what was asked to be measured, and how much slower than the first a
#: run may be; as at home.
PATIENCE_SECONDS = 300.0
SLOWEST = 5.0
_WARMUP_RUNS = 5
_BOOT = (
    "import sys; sys.path[:0] = sys.argv[1:]; "
    "from nanonet_edge.benchmarks.remote.agent_measure import main; main()"
)


class HomeIsGoneError(Exception):
    """The other end of the connection fell silent or closed it."""


class Events:
    """Writes events; several threads may."""

    def __init__(self, sink: IO[str]) -> None:
        self._sink = sink
        self._lock = threading.Lock()

    def tell(self, event: str, **fields: Any) -> None:
        """Write one event at once."""
        line = json.dumps(dict(fields, event=event), separators=(",", ":"))
        try:
            with self._lock:
                self._sink.write(line + "\n")
                self._sink.flush()
        except (BrokenPipeError, ConnectionError):
            raise HomeIsGoneError from None


class Home:
    """Listens to home on stdin: any line says that it is still there."""

    def __init__(self, source: IO[str] | None) -> None:
        self._last = time.monotonic()
        self._closed = False
        self._is_watched = source is not None
        if source is not None:
            threading.Thread(target=self._listen, args=(source,), daemon=True).start()

    @property
    def is_gone(self) -> bool:
        """Whether it closed the connection or fell silent."""
        silent = time.monotonic() - self._last > SILENCE_SECONDS
        return self._is_watched and (self._closed or silent)

    def _listen(self, source: IO[str]) -> None:
        while source.readline(4096):
            self._last = time.monotonic()
        self._closed = True


def unpack_wheels(folder: Path) -> Path | None:
    """Unpack the wheels for this Python into one folder; None if there are none."""
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    wheels = sorted((folder / "wheels" / version).glob("*.whl"))
    site = folder / "site" / version
    for wheel in wheels:
        mark = site / f".{wheel.name}.unpacked"
        if not mark.exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            mark.touch()
    return site if wheels else None


def missing_modules(job: dict[str, Any]) -> list[str]:
    """What the pairs need and this Python does not find."""
    engines = sorted({ENGINES[pair["runtime"]][0] for pair in job["pairs"]})
    return [name for name in ("numpy", "cv2", *engines) if importlib.util.find_spec(name) is None]


class Measuring:
    """One pair in its own process."""

    def __init__(self, folder: Path, paths: list[str], job: dict[str, Any], pair: dict[str, Any]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._seconds, self._count = job["min_seconds"], job["min_count"]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=folder,
            text=True,
            start_new_session=True,
        )
        request = {key: job[key] for key in ("threads", "min_seconds", "min_count")}
        request.update(pair, path=str(folder / pair["path"]), golden=str(folder / job["golden"]))
        assert self._process.stdin is not None  # noqa: S101 - it was asked to be a pipe
        assert self._process.stdout is not None  # noqa: S101
        # Left open: at its end the process knows that the agent is gone, killed perhaps.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The outcome if it is there within `seconds`; a dead or late process is an error in it."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            if time.monotonic() > self._deadline:
                return {"error": "the measuring process did not answer in time"}
            return None
        if not line:
            return {"error": self._death()}
        found: dict[str, Any] = json.loads(line)
        if "first_ns" in found and "invoke" not in found:
            run = SLOWEST * found["first_ns"] / 1e9
            most = 2 * (self._seconds + (self._count + 2 * _WARMUP_RUNS) * run)
            self._deadline = time.monotonic() + most + PATIENCE_SECONDS
            return None
        return found

    def close(self) -> None:
        """Kill it, and what it may have started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._stderr.close()

    def _read(self, lines: IO[str]) -> None:
        with contextlib.suppress(ValueError):
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def _death(self) -> str:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4096))
        words = self._stderr.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(words) if line.strip()), "")
        return f"the measuring process died: {how}{hint}" + (f": {last[:300]}" if last else "")


def run_pair(
    folder: Path, paths: list[str], job: dict[str, Any], pair: dict[str, Any], events: Events, home: Home
) -> None:
    """Measure one pair while the board's state is looked at."""
    looks = Looks(job)
    number = pair["pair"]
    try:
        events.tell("state", pair=number, at="before", **looks.look(whole=True))
        measuring = Measuring(folder, paths, job, pair)
        try:
            while (found := measuring.answer(job["interval_s"])) is None:
                if home.is_gone:
                    raise HomeIsGoneError
                events.tell("state", pair=number, at="during", **looks.look(whole=False))
        finally:
            measuring.close()
        events.tell("state", pair=number, at="after", **looks.look(whole=True))
    finally:
        looks.close()
    if "error" in found:
        events.tell("failure", pair=number, error=found["error"])
    else:
        events.tell("result", pair=number, figures=found)


def run_job(folder: Path, job: dict[str, Any], events: Events, home: Home) -> list[str]:
    """Do the whole job, unless modules are missing, which are returned."""
    site = unpack_wheels(folder)
    paths = [str(folder), *([str(site)] if site else []), *job["site"]]
    sys.path[:0] = paths
    importlib.invalidate_caches()
    missing = missing_modules(job)
    events.tell("machine", missing=missing, **describe_machine(job))
    if not missing:
        for pair in job["pairs"]:
            run_pair(folder, paths, job, pair, events, home)
        events.tell("end")
    return missing


def replace_earlier_agent(folder: Path) -> None:
    """End an agent that lost its connection, and is still running in this folder, before it disturbs."""
    end_agent(folder)
    (folder / PID_NAME).write_text(str(os.getpid()), encoding="ascii")


def wait_for_return(folder: Path) -> None:
    """Home is gone: if no other agent takes over for a while, leave nothing behind."""
    time.sleep(RETURN_SECONDS)
    with contextlib.suppress(OSError, ValueError):
        if int((folder / PID_NAME).read_text(encoding="ascii")) == os.getpid():
            shutil.rmtree(folder, ignore_errors=True)


def serve(folder: str) -> int:
    """Do the job that comes on stdin; events go to stdout."""
    here = Path(folder)
    replace_earlier_agent(here)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    try:
        return _do_what_comes(here, Events(sys.stdout))
    except HomeIsGoneError:
        _leave_the_connection()
        wait_for_return(here)
        return 1


def _do_what_comes(here: Path, events: Events) -> int:
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        raise HomeIsGoneError
    threading.Thread(target=_stay_heard, args=(events,), daemon=True).start()
    try:
        run_job(here, json.loads(line), events, Home(sys.stdin))
    except OSError as error:
        events.tell("error", error=error.strerror or str(error))
        return 1
    return 0


def _stay_heard(events: Events) -> None:
    """Home takes a long silence for a dropped connection, and unpacking on a slow card is long."""
    with contextlib.suppress(HomeIsGoneError, ValueError):
        while True:
            time.sleep(ALIVE_SECONDS)
            events.tell("alive")


def _leave_the_connection() -> None:
    """Hold no end of the connection open, and have Python write nothing more to it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def run_offline(folder: str, output: str, site: str = "") -> int:
    """Do the job in ``job.json`` of `folder`; events go to the file `output`, made all at once.

    `site` is a folder of the board's own that has the engine, for a Python that `folder` has no wheels for.
    """
    here = Path(folder)
    job = json.loads((here / "job.json").read_text(encoding="utf-8"))
    job["site"] = [site] if site else []
    partial = Path(f"{output}.part")
    try:
        with partial.open("w", encoding="utf-8") as sink:
            events = Events(sink)
            events.tell(**job["asked"])
            missing = run_job(here, job, events, Home(None))
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        print(f"nanonet-edge: {error.filename or partial}: {error.strerror}", file=sys.stderr)
        return 1
    if missing:
        partial.unlink()
        print(
            f"nanonet-edge: Python {platform.python_version()} has no {', '.join(missing)}, "
            f"and there are no wheels for it in {here / 'wheels'}: name another by PYTHON=...",
            file=sys.stderr,
        )
        return 1
    partial.replace(output)
    print(f"result: {output}")
    return 0
