"""The tables of `nanonet-edge bench`; what does not count is not printed as a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nanonet_edge.cli import common

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from nanonet_edge.results import BenchResult, BenchRow, Measurement, ReferenceRow


def print_tables(result: BenchResult, *, where: str = "this machine") -> None:
    """Print a result on stdout: one table, and one more for each kind of run that was made."""
    common.print_table(_table(result, where))
    if any(found.pacing for _, found in _counting(result)):
        common.print_table(_pacing_table(result))
    if any(found.sustained for _, found in _counting(result)):
        common.print_table(_sustained_table(result))
    if any(_energy(row) for row, _ in _counting(result)):
        common.print_table(_energy_table(result))
    if result.duels:
        from nanonet_edge.benchmarks.rewrite_gain import summarize_gain

        common.print_table(_duel_table(result))
        typer.echo(str(summarize_gain(result.duels)))


def _counting(result: BenchResult) -> Iterator[tuple[BenchRow, Measurement]]:
    """The rows whose figures count, with them."""
    for row in result.rows:
        if (found := row.valid_measurement) is not None:
            yield row, found


def _table(result: BenchResult, where: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    processor = result.machine.cpu_model or "an unnamed processor"
    caption = (
        f"frame: {result.frames.description}; MiB: memory; KiB: files; "
        "~: coefficient of variation above 2.5 %"
    )
    if result.reference is not None:
        caption += (
            "\nreference: the unrewritten Keras model at fp32, model.predict image by image; "
            "FPS ratio: to it, in interleaved rounds, with its 95 % interval"
        )
    caption += "".join(f"\ndoes not count: {objection}" for objection in result.objections)
    board = "" if result.settings.device == "cpu" else f"{result.settings.device}, "
    title = f"measured on {where} ({board}{processor}), threads: {result.settings.threads}; times in ms"
    table = Table(title=escape(title), caption=escape(caption))
    for column in ("artifact", "runtime", "computed in"):
        table.add_column(column)
    columns = ["invoke p50", "p90", "p99", "frame p50", "p90", "p99", "FPS", "load", "first", "MiB", "KiB"]
    for column in columns:
        table.add_column(column, justify="right")
    found = result.reference
    if found is not None:
        table.add_column("FPS ratio", justify="right")
        table.add_row("reference", found.spec, *_cells(found), "", end_section=True)
    for row in result.rows:
        ratio = row.frame_speedup_over_reference.ratio
        interval = "-" if ratio is None else f"{ratio.value:.1f}x [{ratio.low:.1f}, {ratio.high:.1f}]"
        table.add_row(row.artifact, row.spec, *_cells(row), *([] if found is None else [interval]))
    return table


def _cells(row: BenchRow | ReferenceRow) -> list[str]:
    from rich.markup import escape

    size = f"{row.bytes / 1024:.0f}"
    found = row.valid_measurement
    if found is None:
        return ["does not count" if row.objection else "failed", *["-"] * 10, size]
    cells = [escape(found.runtime.computed_precision)]  # by an engine's word, a board's perhaps
    for latency in (found.invoke, found.frame):
        summary = latency.summary
        mark = "~" if summary.warning else ""
        p99 = "-" if summary.p99_ms is None else f"{summary.p99_ms:.2f}"
        cells += [f"{mark}{summary.p50_ms:.2f}", f"{summary.p90_ms:.2f}", p99]
    memory = "-" if found.memory.value is None else f"{found.memory.value:.1f}"
    cells += [
        f"{found.frame.summary.fps:.1f}",
        f"{found.load.value:.1f}",
        f"{found.first_inference.value:.1f}",
    ]
    return [*cells, memory, size]


def _pacing_table(result: BenchResult) -> Table:
    from rich.table import Table

    table = Table(
        "artifact", "runtime", title=f"measured with frames on a clock, {result.settings.fps:g} FPS; ms"
    )
    for column in ("frames", "missed", "missed %", "worst lateness", "p50", "p90", "p99"):
        table.add_column(column, justify="right")
    for row, found in _counting(result):
        if pacing := found.pacing:
            summary = pacing.latency
            p99 = "-" if summary.p99_ms is None else f"{summary.p99_ms:.2f}"
            table.add_row(
                row.artifact,
                row.spec,
                str(pacing.frames),
                str(pacing.missed),
                f"{100 * pacing.missed_ratio:.1f}",
                f"{pacing.worst_lateness_ms:.2f}",
                f"{summary.p50_ms:.2f}",
                f"{summary.p90_ms:.2f}",
                p99,
            )
    return table


def _sustained_table(result: BenchResult) -> Table:
    from rich.table import Table

    table = Table("artifact", "runtime", title="measured over minutes; ms")
    for column in ("minute", "p50", "p90", "MHz", "Celsius"):
        table.add_column(column, justify="right")
    table.add_column("drift")
    for row, found in _counting(result):
        if not (sustained := found.sustained):
            continue
        for index, bucket in enumerate(sustained.buckets):
            clock, heat = bucket.conditions.frequency_mhz, bucket.conditions.temperature_c
            is_last = index == len(sustained.buckets) - 1
            table.add_row(
                row.artifact if index == 0 else "",
                row.spec if index == 0 else "",
                str(index + 1),
                f"{bucket.summary.p50_ms:.2f}",
                f"{bucket.summary.p90_ms:.2f}",
                "-" if clock is None else f"{clock:.0f}",
                "-" if heat is None else f"{heat:.0f}",
                (sustained.drift.verdict or sustained.drift.reason or "") if is_last else "",
            )
    return table


def _energy(row: BenchRow) -> dict[str, dict[str, tuple[float, float]]]:
    """Meter -> scope -> watts and millijoules, where they are known."""
    meters: dict[str, dict[str, tuple[float, float]]] = {}
    for one in row.watched.energy if row.watched else ():
        if one.meter and one.watts.value is not None and one.millijoules.value is not None:
            meters.setdefault(one.meter, {})[one.scope] = (one.watts.value, one.millijoules.value)
    return meters


def _energy_table(result: BenchResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    title = "energy measured by the device's own rails and counters, idle power included"
    table = Table("artifact", "runtime", "rail or counter", title=title)
    for scope in ("invoke", "frame"):
        for unit in ("W", "mJ"):
            table.add_column(f"{scope} {unit}", justify="right")
    for row, _ in _counting(result):
        for index, (meter, scopes) in enumerate(_energy(row).items()):
            cells = [
                f"{value:.2f}" if scope in scopes else "-"
                for scope in ("invoke", "frame")
                for value in scopes.get(scope, (0.0, 0.0))
            ]
            names = (row.artifact, row.spec) if index == 0 else ("", "")
            table.add_row(*names, escape(meter), *cells)
    return table


def _duel_table(result: BenchResult) -> Table:
    from rich.table import Table

    table = Table(
        "artifact", "runtime", "computed in", title="measured against the straight graph, interleaved"
    )
    for column in ("speed-up", "95 % interval", "noise floor"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for duel in result.duels:
        speedup, floor = duel.speedup, duel.noise_floor
        table.add_row(
            duel.contender,
            duel.spec,
            duel.runtime.computed_precision,
            f"{speedup.value:.2f}x",
            f"{speedup.low:.2f} to {speedup.high:.2f}",
            f"{floor.low:.3f} to {floor.high:.3f}",
            duel.verdict,
        )
    return table
