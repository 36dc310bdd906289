"""`nanonet-edge bench`: how fast each artifact is on this machine, and what memory it needs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_INPUT, UnsupportedError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.benchmarks.plan import Plan
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import BenchResult, BenchRow, ReferenceRow

_TFLITE_RUNTIME = "tflite-runtime"


def bench(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")] = common.DEFAULT_BUNDLE,
    device: Annotated[str, typer.Option(help="Only cpu: this machine.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine.")] = 1,
    runtime: Annotated[
        list[str] | None, typer.Option(help="Runtime spec, as `runtimes` lists them; repeatable.")
    ] = None,
    artifact: Annotated[list[str] | None, typer.Option(help="Name of an artifact; repeatable.")] = None,
    fps: Annotated[
        float | None, typer.Option(help="Also run with frames on a clock; count missed deadlines.")
    ] = None,
    sustained: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Also run for so long; judge the drift.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="straight", help="Compare with the unrewritten graph in interleaved rounds."),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option("--reference", help="Measure the Keras reference too: model.predict, image by image."),
    ] = False,
    min_seconds: Annotated[float, typer.Option(min=0.0, help="Least duration of each scope.")] = 3.0,
    min_count: Annotated[int, typer.Option(min=1, help="Least number of runs in each scope.")] = 100,
    output: Annotated[
        Path | None, typer.Option(help="Where to write the JSON.", show_default="BUNDLE.results/bench.json")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure latency, memory and frame rate of each artifact, each in a fresh process.

    With --artifact or --runtime the other results that are already there are kept.
    """
    _check(device, against, fps, sustained)
    if not 0 <= min_seconds < math.inf:
        raise UsageError(f"--min-seconds: expected a number of seconds, found {min_seconds:g}")

    from nanonet_edge.benchmarks.bench import bench as run
    from nanonet_edge.benchmarks.merge import bench_joined_to
    from nanonet_edge.benchmarks.plan import make_plan
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import (
        BENCH_NAME,
        BenchSettings,
        check_writable,
        results_folder,
        save_result,
        set_aside,
    )

    opened = Bundle.open(bundle)
    common.mention_untrained(opened.manifest.weights)
    path = output or results_folder(bundle) / BENCH_NAME
    check_writable(path)
    settings = BenchSettings(
        threads=threads, min_seconds=min_seconds, min_count=min_count, fps=fps, sustained_minutes=sustained
    )
    _mention_tflite_runtime(opened, runtime)
    straight = _straight(opened, make_plan(opened, runtime, artifact)) if against else None
    with common.progress() as progress:
        result = run(
            opened,
            settings,
            runtimes=runtime,
            artifacts=artifact,
            straight=straight,
            reference=reference,
            progress=progress,
        )
    joint, lost = bench_joined_to(path, result) if runtime or artifact else (result, None)
    if lost is not None:
        common.note(f"earlier results moved to {set_aside(path)}: {lost}")
    save_result(joint, path)
    if as_json:
        common.print_json(result)
    else:
        _print(result)
    _explain_gaps(result)
    if joint is not result:
        common.note(f"joined to the earlier results of {len(joint.rows) - len(result.rows)} others")
    common.note(f"raw samples: {path}")
    if result.failures:
        raise typer.Exit(EXIT_INPUT)


def _check(device: str, against: str | None, fps: float | None, sustained: float | None) -> None:
    if device != "cpu":
        raise UnsupportedError(f"device '{device}': only cpu, this machine, can be measured by this version")
    if against not in (None, "straight"):
        raise UsageError(f"--against '{against}' is unknown: expected straight")
    for option, value in (("--fps", fps), ("--sustained", sustained)):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{option}: expected a positive number, found {value:g}")


def _explain_gaps(result: BenchResult) -> None:
    for skipped in result.skipped:
        common.note(f"{skipped.artifact} was skipped: {skipped.reason}")
    asked = {"pacing": result.settings.fps, "sustained": result.settings.sustained_minutes}
    for row in result.rows:
        missing = row.measurement.missing if row.measurement else {}
        for name, reason in missing.items():
            if asked[name] is not None:
                common.note(f"{row.artifact} on {row.spec}: no {name}: {reason}")
    for duel in result.failed_duels:
        if duel.baseline is None:
            common.note(f"not compared: {duel.failure}")
    for failure in result.failures:
        common.note(f"failed: {failure}")


def _mention_tflite_runtime(bundle: Bundle, named: list[str] | None) -> None:
    """The old engine is measured on request only; say that it is there."""
    from nanonet_edge.runtimes import runtimes_for
    from nanonet_edge.variants import Format

    has_tflite = any(record.format is Format.TFLITE for record in bundle.manifest.artifacts)
    if named is None and has_tflite and _TFLITE_RUNTIME in runtimes_for(Format.TFLITE):
        common.note(f"{_TFLITE_RUNTIME} is installed too: add --runtime {_TFLITE_RUNTIME} to measure it")


def _straight(bundle: Bundle, plan: Plan) -> Bundle:
    """A bundle with the straight graphs: this one, if it has them all, else one beside its results."""
    from nanonet_edge.benchmarks.against_straight import straight_counterpart
    from nanonet_edge.export import cached_straight
    from nanonet_edge.results import results_folder

    records = [job.artifact.record for job in plan.jobs if job.artifact.record.graph == "rewritten"]
    if all(straight_counterpart(bundle.artifact(record.name), bundle) for record in records):
        return bundle
    return cached_straight(
        bundle,
        results_folder(bundle.root) / "straight",
        formats=tuple(dict.fromkeys(record.format for record in records)),
        precisions=tuple(dict.fromkeys(record.precision for record in records)),
        report=common.note,
    )


def _print(result: BenchResult) -> None:
    common.print_table(_table(result))
    if any(row.measurement and row.measurement.pacing for row in result.rows):
        common.print_table(_pacing_table(result))
    if any(row.measurement and row.measurement.sustained for row in result.rows):
        common.print_table(_sustained_table(result))
    if result.duels:
        from nanonet_edge.benchmarks.rewrite_gain import summarize_gain

        common.print_table(_duel_table(result))
        typer.echo(str(summarize_gain(result.duels)))


def _table(result: BenchResult) -> Table:
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
    title = f"measured on {processor}, threads: {result.settings.threads}; times in ms"
    table = Table(title=title, caption=caption)
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
    size = f"{row.bytes / 1024:.0f}"
    found = row.measurement
    if found is None:
        return ["failed", *["-"] * 9, size]
    cells = [found.runtime.computed_precision]
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
    for row in result.rows:
        if row.measurement and (pacing := row.measurement.pacing):
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
    for row in result.rows:
        if not (row.measurement and (sustained := row.measurement.sustained)):
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
