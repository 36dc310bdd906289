"""Benchmark a bundle on boards that are reached by SSH: on one, or on several at once."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import model_validator
from typing_extensions import Self

from nanonet_edge.benchmarks.remote.boards import Board, board_at
from nanonet_edge.benchmarks.remote.job import Job, make_job
from nanonet_edge.benchmarks.remote.journal import Journal, forget
from nanonet_edge.benchmarks.remote.outcome import boards_called
from nanonet_edge.benchmarks.remote.session import measure_board
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import DeviceError, NanonetEdgeError
from nanonet_edge.extras import ensure
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.results import BenchResult, BenchSettings

Report = Callable[[str], None]
BOARDS_NAME: Final = "bench-boards.json"


class BoardResult(Record):
    """One board of several: its result, or why there is none; both if it was lost in the middle."""

    host: str
    name: str
    result: BenchResult | None = None
    failure: str | None = None

    @model_validator(mode="after")
    def _result_or_failure(self) -> Self:
        if self.result is None and self.failure is None:
            raise ValueError("expected a result or a failure")
        return self


class BoardsResult(Record):
    """`bench-boards.json`: the same bundle on several boards."""

    schema_version: Literal[1] = 1
    kind: Literal["bench-boards"] = "bench-boards"
    created: str
    bundle: str
    manifest_sha256: Sha256
    boards: tuple[BoardResult, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """The boards that were lost, one line each."""
        return tuple(board.failure for board in self.boards if board.failure is not None)


def bench_remote(
    bundle: Bundle,
    board: Board | str,
    settings: BenchSettings | None = None,
    *,
    runtimes: Sequence[str] | None = None,
    artifacts: Sequence[str] | None = None,
    journal: Path | None = None,
    report: Report | None = None,
) -> BenchResult:
    """Measure artifacts on a board that is reached by SSH.

    The board needs an SSH server that lets us in with a key, and Python 3.9 or newer. It is sent a
    small agent, wheels for its architecture and the artifacts, into a private temporary folder that is
    removed at the end. A lost connection is taken up again, with what is missing.

    Args:
        bundle: what to measure.
        board: how it is reached, or only its address: "pi5", "user@pi5.local".
        settings: how; `device` in it is not looked at.
        runtimes: specs of litert, tflite-runtime, onnxruntime; None for the engine of each format.
        artifacts: names; none for all.
        journal: a file that keeps what came home; a later call with the same file and the same settings
            goes on with what is missing. Remove it once the result is safe.
        report: called with one line now and then.

    Returns:
        A result with the board's own description; `settings.device` is the profile that the board
        was recognised as.

    Raises:
        MissingExtraError: asyncssh is not installed.
        UsageError, UnsupportedError, BundleError: see `make_job`.
        DeviceError: the board cannot be reached or used, or is not the device that `board` says; what
            was measured is in the journal.
    """
    ensure("asyncssh")
    board = board_at(board) if isinstance(board, str) else board
    job = _job(bundle, board, settings or BenchSettings(), runtimes, artifacts)
    found = asyncio.run(_measure(board, job, journal, report or (lambda line: None)))
    if found.failure is not None:
        raise DeviceError(found.failure)
    assert found.result is not None  # noqa: S101 - a result or a failure
    return found.result


def bench_many(
    bundle: Bundle,
    boards: Sequence[Board],
    settings: BenchSettings | None = None,
    *,
    runtimes: Sequence[str] | None = None,
    artifacts: Sequence[str] | None = None,
    journals: Path | None = None,
    report: Report | None = None,
) -> BoardsResult:
    """Measure artifacts on several boards at once; a board that fails does not stop the others.

    Args:
        boards: as `read_boards` gives them.
        journals: a folder for the journals, one file per board.
        bundle, settings, runtimes, artifacts, report: as of `bench_remote`.

    Raises:
        MissingExtraError, UsageError, UnsupportedError, BundleError: as `bench_remote`.
    """
    ensure("asyncssh")
    settings = settings or BenchSettings()
    jobs = [_job(bundle, board, settings, runtimes, artifacts) for board in boards]

    async def all_of_them() -> list[BoardResult]:
        say = report or (lambda line: None)
        return await asyncio.gather(
            *(
                _measure(board, job, journals / f"{board.file_stem}.jsonl" if journals else None, say)
                for board, job in zip(boards, jobs, strict=True)
            )
        )

    return BoardsResult(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        boards=tuple(asyncio.run(all_of_them())),
    )


def _job(
    bundle: Bundle,
    board: Board,
    settings: BenchSettings,
    runtimes: Sequence[str] | None,
    artifacts: Sequence[str] | None,
) -> Job:
    if board.device is not None:
        boards_called(board.device)  # refuses an unknown name before any board is asked
    if board.threads is not None:
        settings = settings.model_copy(update={"threads": board.threads})
    return make_job(bundle, settings, runtimes, artifacts)


async def _measure(board: Board, job: Job, path: Path | None, report: Report) -> BoardResult:
    """Measure one board; whatever goes wrong with it is its failure."""
    journal = Journal(path, job, board.name, board.device)
    if journal.resumed:
        report(f"{board.name}: {journal.resumed} of {len(job.pairs)} were measured earlier: {path}")
    failure = None
    try:
        await measure_board(board, job, journal, report)
    except NanonetEdgeError as error:
        failure = str(error)
        if journal.outcome.done and path is not None:
            failure += f"; {journal.outcome.progress} measured, kept in {path}: run again to go on"
    result = None
    try:
        result = journal.outcome.result() if journal.outcome.done else None
    except DeviceError as error:
        failure = failure or str(error)
    if path is not None and not journal.outcome.done:
        forget(path)
    return BoardResult(host=board.host, name=board.name, result=result, failure=failure)
