"""What came home of a job, line by line, in a file on this side: nothing that was measured is lost.

The file holds a board's own lines, after they were checked, behind one that names the job. It is read by
the same code as a connection, and so is the file that a run without a network leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from nanonet_edge.benchmarks.remote.events import (
    Event,
    FailureEvent,
    JobEvent,
    Lines,
    ResultEvent,
    parse_event,
)
from nanonet_edge.benchmarks.remote.job import Job, job_that_asked
from nanonet_edge.benchmarks.remote.outcome import Outcome
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import DeviceError, InputError

_CHUNK = 1 << 20


class Journal:
    """The file and what follows from it.

    Args:
        path: of the file; None to keep nothing. One of the same job is gone on from, one of another
            job, or a damaged one, is begun anew.
        job: what is measured.
        source: the board's name, for messages.
        expected: the device that the board must be.
    """

    def __init__(self, path: Path | None, job: Job, source: str, expected: str | None = None) -> None:
        self.path = path
        self.outcome = Outcome(job, source)
        self.resumed = 0
        self._job = job
        if path is not None:
            self._open(path, source)
        self.outcome.expected = expected

    def _open(self, path: Path, source: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            outcome = read_events(path, self._job)
        except (DeviceError, InputError):
            outcome = None
        if outcome is not None and outcome.done:
            self.outcome, self.resumed = outcome, len(outcome.done)
            self.outcome.source = source
            _cut_off_last_line(path)
            return
        path.write_text(self._job.asked.model_dump_json() + "\n", encoding="utf-8")

    def take(self, line: bytes, event: Event, report: Callable[[str], None]) -> None:
        """Note one line of the board's, and what it means."""
        self.outcome.take(event)
        self._append(line)
        if isinstance(event, ResultEvent | FailureEvent):
            pair = self._job.pairs[event.pair]
            word = "measured" if isinstance(event, ResultEvent) else "failed"
            report(
                f"{self.outcome.source}: {pair.artifact.name} on {pair.spec} {word} ({self.outcome.progress})"
            )

    def _append(self, line: bytes) -> None:
        if self.path is not None:
            with self.path.open("ab") as file:
                file.write(line + b"\n")


def forget(path: Path) -> None:
    """Remove a journal whose results are safe elsewhere, and its folder with the last one."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def _cut_off_last_line(path: Path) -> None:
    """A line that was cut off in the middle must not join the next one."""
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def read_events(path: Path, job: Job | None = None, bundle: Bundle | None = None) -> Outcome:
    """Read a file of events; a last line that was cut off is left out.

    Args:
        path: a journal, or the result of a run without a network.
        job: whose results they must be; None for the job that the file tells of, on `bundle`.

    Raises:
        InputError: there is no such file, it does not begin with its job, or that is of another bundle.
        DeviceError: it holds what no agent says, or is of another job.
    """
    outcome = None
    lines = Lines(str(path))
    try:
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                for line in lines.feed(data):
                    event = parse_event(line, str(path))
                    if outcome is None:
                        outcome = _begin(path, event, job, bundle)
                    outcome.take(event)
    except FileNotFoundError:
        raise InputError(f"{path}: expected a board's result, found nothing") from None
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, found {error.strerror}") from None
    if outcome is None:
        raise InputError(f"{path}: expected the events of a job, found none")
    return outcome


def _begin(path: Path, event: Event, job: Job | None, bundle: Bundle | None) -> Outcome:
    if not isinstance(event, JobEvent):
        raise InputError(f"{path}: expected the events of a job, found '{event.event}' first")
    if job is None:
        assert bundle is not None  # noqa: S101 - one of the two is given
        job = job_that_asked(bundle, event, str(path))
    return Outcome(job, str(path))
