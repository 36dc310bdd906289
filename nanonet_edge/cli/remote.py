"""`nanonet-edge bench --host`, `--hosts`: the same table, measured on boards reached by SSH."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanonet_edge.cli import common
from nanonet_edge.cli.bench_tables import print_tables
from nanonet_edge.errors import EXIT_DEVICE, EXIT_INPUT, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from nanonet_edge.benchmarks.remote.bench import BoardsResult
    from nanonet_edge.benchmarks.remote.boards import Board
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import BenchResult, BenchRow, BenchSettings


def bench_hosts(
    bundle: Path,
    settings: BenchSettings,
    *,
    host: str | None,
    hosts: Path | None,
    runtimes: Sequence[str] | None,
    artifacts: Sequence[str] | None,
    device: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure a bundle on other machines and print what came home; `bench` calls it.

    Args:
        bundle: its folder.
        settings: as for this machine; `device` in it is not looked at.
        host: one board, as ssh is told: "pi5", "user@pi5.local".
        hosts: a file of boards (see `nanonet_edge.benchmarks.remote.read_boards`); one of the two.
        runtimes, artifacts: see `nanonet_edge.benchmarks.remote.make_job`.
        device: what the board is expected to be, by profile or family; None to take what it says.
        output: where the JSON goes; None for a file in the bundle's results named after the host.
        as_json: print JSON instead of tables.

    Raises:
        typer.Exit: 3 if an artifact failed on a board, 4 if one of several boards did.
        UsageError: both `host` and `hosts`, or neither.
        DeviceError: the only board cannot be reached or used.
    """
    if (host is None) == (hosts is None):
        raise UsageError("expected one of --host and --hosts")

    from nanonet_edge.benchmarks.remote.boards import board_at, read_boards
    from nanonet_edge.bundle import Bundle

    opened = Bundle.open(bundle)
    if host is not None:
        board = board_at(host, device)
        _bench_one(opened, board, settings, runtimes, artifacts, output, as_json)
    elif hosts is not None:
        boards = [_expecting(board, device) for board in read_boards(hosts)]
        _bench_several(opened, boards, settings, runtimes, artifacts, output, as_json)


def _bench_one(
    bundle: Bundle,
    board: Board,
    settings: BenchSettings,
    runtimes: Sequence[str] | None,
    artifacts: Sequence[str] | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from nanonet_edge.benchmarks.remote.bench import bench_remote
    from nanonet_edge.benchmarks.remote.journal import forget
    from nanonet_edge.results import check_writable, results_folder, save_result

    folder = results_folder(bundle.root)
    journal = folder / "journals" / f"{board.file_stem}.jsonl"
    path = output or folder / f"bench.{board.file_stem}.json"
    check_writable(path)
    result = bench_remote(
        bundle,
        board,
        settings,
        runtimes=runtimes,
        artifacts=artifacts,
        journal=journal,
        report=common.note,
    )
    save_result(result, path)
    forget(journal)
    if as_json:
        common.print_json(result)
    else:
        print_tables(result, where=board.name)
    explain_gaps(board.name, result)
    common.note(f"raw samples: {path}")
    if result.failures:
        raise typer.Exit(EXIT_INPUT)


def _bench_several(
    bundle: Bundle,
    boards: Sequence[Board],
    settings: BenchSettings,
    runtimes: Sequence[str] | None,
    artifacts: Sequence[str] | None,
    output: Path | None,
    as_json: bool,
) -> None:
    from nanonet_edge.benchmarks.remote.bench import BOARDS_NAME, bench_many
    from nanonet_edge.benchmarks.remote.journal import forget
    from nanonet_edge.results import check_writable, results_folder, save_result

    folder = results_folder(bundle.root)
    journals = folder / "journals"
    path = output or folder / BOARDS_NAME
    check_writable(path)
    found = bench_many(
        bundle,
        boards,
        settings,
        runtimes=runtimes,
        artifacts=artifacts,
        journals=journals,
        report=common.note,
    )
    save_result(found, path)
    for board, one in zip(boards, found.boards, strict=True):
        if one.failure is None:
            forget(journals / f"{board.file_stem}.jsonl")
    if as_json:
        common.print_json(found)
    else:
        common.print_table(_joint_table(found))
    for one in found.boards:
        if one.result is not None:
            explain_gaps(one.name, one.result)
        if one.failure is not None:
            common.note(f"lost: {one.failure}")
    common.note(f"raw samples: {path}")
    if found.failures:
        raise typer.Exit(EXIT_DEVICE)
    if any(one.result is not None and one.result.failures for one in found.boards):
        raise typer.Exit(EXIT_INPUT)


def _expecting(board: Board, device: str | None) -> Board:
    """A board of a file, with --device for those that do not say what they are."""
    return (
        board if device is None or board.device is not None else board.model_copy(update={"device": device})
    )


def explain_gaps(name: str, result: BenchResult) -> None:
    """Say what was not measured on a board, or does not count, and why."""
    for skipped in result.skipped:
        common.note(f"{name}: {skipped.artifact} was skipped: {skipped.reason}")
    for failure in result.failures:
        common.note(f"{name}: failed: {failure}")
    for objection in result.objections:
        common.note(f"{name}: does not count: {objection}")


def _joint_table(found: BoardsResult) -> Table:
    """One row per board, artifact and runtime; a board that was lost has a row that says so."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="measured on each board; p50 in ms", caption="MiB: memory; the boards' states: in the JSON"
    )
    for column in ("board", "device", "artifact", "runtime", "computed in"):
        table.add_column(column)
    for column in ("threads", "invoke", "frame", "FPS", "MiB"):
        table.add_column(column, justify="right")
    for one in found.boards:
        for row in one.result.rows if one.result is not None else ():
            assert one.result is not None  # noqa: S101 - it has rows
            head = (escape(one.name), one.result.settings.device, row.artifact, row.spec)
            table.add_row(*head, *_cells(row, one.result.settings.threads))
        if one.failure is not None:
            table.add_row(escape(one.name), "", "lost")
        table.add_section()
    return table


def _cells(row: BenchRow, threads: int) -> tuple[str, ...]:
    from rich.markup import escape

    found = row.valid_measurement
    if found is None:
        return ("failed" if row.measurement is None else "does not count", str(threads))
    memory = "-" if found.memory.value is None else f"{found.memory.value:.1f}"
    return (
        escape(found.runtime.computed_precision),
        str(threads),
        f"{found.invoke.summary.p50_ms:.2f}",
        f"{found.frame.summary.p50_ms:.2f}",
        f"{found.frame.summary.fps:.1f}",
        memory,
    )
