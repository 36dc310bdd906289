"""Watching the device while it is measured: once a second, from the process that only waits.

What is measured runs in a process of its own, so a look at the device's files, about a
millisecond per core, takes no turn of its loop. Programs are dearer than files: nvpmodel is asked
before and after a run only, vcgencmd meanwhile only where no file tells of throttling.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from nanonet_edge.devices import (
    DeviceState,
    WatchedRun,
    ask_commands,
    energy_per_inference,
    judge,
    read_state,
)
from nanonet_edge.devices.state import TEGRASTATS
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.results import Measurement

SAMPLE_SECONDS = 1.0
_LINE_LIMIT = 8192
_GRACE_SECONDS = 5.0


class DeviceProbe:
    """Reads the state of this machine; use it as a context manager, around all runs.

    Args:
        root: where its files are; another folder than / only for tests.
    """

    def __init__(self, root: Path | str = "/") -> None:
        self._root = root
        self._answers: dict[str, str] = {}
        self._tegrastats: _Tegrastats | None = None

    def __enter__(self) -> Self:
        self._tegrastats = _Tegrastats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tegrastats is not None:
            self._tegrastats.stop()

    def read(self) -> DeviceState:
        """The whole state, the programs' answers too."""
        self._answers = ask_commands()
        return self._read(self._answers)

    def glance(self) -> DeviceState:
        """The state by its files, with the programs' earlier answers where nothing else would tell."""
        answers = {name: text for name, text in self._answers.items() if name != "vcgencmd"}
        state = self._read(answers)
        if state.throttling is not None or "vcgencmd" not in self._answers:
            return state
        return self._read(answers | ask_commands(names=("vcgencmd",)))

    def _read(self, answers: dict[str, str]) -> DeviceState:
        line = "" if self._tegrastats is None else self._tegrastats.last_line
        return read_state(self._root, answers | ({TEGRASTATS: line} if line else {}))


class Watch:
    """One run under watch: the state before it on entry, samples meanwhile, the state after it on exit."""

    def __init__(self, probe: DeviceProbe, interval_s: float | None = None) -> None:
        self._probe = probe
        self._interval_s = SAMPLE_SECONDS if interval_s is None else interval_s
        self._over = threading.Event()
        self._samples: list[DeviceState] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        self._before = self._probe.read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._after = self._probe.read()

    def result(self, measurement: Measurement | None = None) -> WatchedRun:
        """What was seen, after the block; with the energy of what was measured in it."""
        states = (self._before, *self._samples, self._after)
        scopes = () if measurement is None else (measurement.invoke, measurement.frame)
        return WatchedRun(
            before=self._before,
            samples=tuple(self._samples),
            after=self._after,
            validity=judge(self._before, self._samples, self._after),
            energy=tuple(
                energy
                for one in scopes
                for energy in energy_per_inference(one.scope, states, one.window_ns, len(one.samples_ns))
            ),
        )

    def require_valid(self, what: str) -> None:
        """Refuse a comparison that was made on a throttled device, after the block.

        Raises:
            RuntimeFailure: `what` does not count, and why.
        """
        if (objection := self.result().objection) is not None:
            raise RuntimeFailure(f"{what} does not count: {objection}")

    def _sample(self) -> None:
        while not self._over.wait(self._interval_s):
            self._samples.append(self._probe.glance())


class _Tegrastats:
    """NVIDIA's tegrastats, printing a line a second; the last one counts."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.last_line = ""
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def start(cls) -> _Tegrastats | None:
        """Start it where it is installed."""
        program = shutil.which(TEGRASTATS)
        if program is None:
            return None
        command = [program, "--interval", str(round(1e3 * SAMPLE_SECONDS))]
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError:
            return None
        return cls(process)

    def stop(self) -> None:
        """End it, by force if need be."""
        self._process.terminate()
        try:
            self._process.wait(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked to be a pipe
        with self._process.stdout as lines, contextlib.suppress(ValueError):
            while line := lines.readline(_LINE_LIMIT):
                self.last_line = line
        # It has ended: what it said last is not true for ever.
        self.last_line = ""
