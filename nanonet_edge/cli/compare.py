"""`nanonet-edge compare`: which artifact to ship, and why not the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_VERDICT

_VERDICTS = {"pass": "pass", "fail": "FAIL", "not judged": "-", None: "-"}

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.benchmarks.compare_result import CompareResult, CompareRow
    from nanonet_edge.results import Figure


def compare(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")] = common.DEFAULT_BUNDLE,
    min_dice: Annotated[float, typer.Option(help="Least mean Dice with the reference's masks.")] = 0.98,
    max_p90_ms: Annotated[float | None, typer.Option(help="Largest p90 latency of a frame.")] = None,
    max_mib: Annotated[float | None, typer.Option(help="Largest size of the files.")] = None,
    max_memory_mib: Annotated[
        float | None, typer.Option(help="Largest memory above the interpreter's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Join what verify and bench found, recommend one artifact, say why the others lost."""
    from nanonet_edge.benchmarks.compare import compare as run
    from nanonet_edge.benchmarks.compare_result import COMPARE_NAME
    from nanonet_edge.benchmarks.constraints import Constraints
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import results_folder, save_result

    constraints = Constraints(min_dice, max_p90_ms, max_mib, max_memory_mib)
    opened = Bundle.open(bundle)
    common.mention_untrained(opened.manifest.weights)
    result = run(opened, constraints)
    save_result(result, results_folder(bundle) / COMPARE_NAME)
    if as_json:
        common.print_json(result)
    else:
        common.print_table(_table(result))
        typer.echo(_verdict(result))
    if result.recommended is None:
        raise typer.Exit(EXIT_VERDICT)


def _verdict(result: CompareResult) -> str:
    if result.recommended is not None:
        chosen = next(row for row in result.rows if row.recommended)
        missed = f" (it failed verify: {'; '.join(chosen.verdict_reasons)})"
        return f"recommended: {result.recommended}{missed if chosen.verdict == 'fail' else ''}"
    if result.nearest is None:
        return "nothing satisfies the constraints"
    reason = next(row.reason for row in result.rows if _label(row) == result.nearest)
    return f"nothing satisfies the constraints; nearest: {result.nearest}: {reason}"


def _label(row: CompareRow) -> str:
    return f"{row.artifact} on {row.runtime or 'no runtime'}"


def _table(result: CompareResult) -> Table:
    from rich.table import Table

    processor = result.machine.cpu_model or "an unnamed processor"
    limits = result.thresholds
    table = Table(
        title=f"measured on {processor}, threads: {result.threads}; agreement on {result.data}",
        caption="* in the Pareto set of size, median frame latency and mean Dice, among those that satisfy; "
        f"verify: mean Dice >= {limits.mean_dice:g} and 5th percentile >= {limits.p5_dice:g}",
    )
    table.add_column("")
    for column in ("artifact", "runtime", "computed in"):
        table.add_column(column)
    for column in ("KiB", "mean Dice", "verify", "frame p50 ms", "p90 ms", "FPS", "memory MiB"):
        table.add_column(column, justify="right")
    table.add_column("why not")
    for row in result.rows:
        table.add_row(
            ">" if row.recommended else "*" if row.pareto else "",
            row.artifact,
            row.runtime or "-",
            row.computed_precision or "-",
            f"{1024 * (row.size.value or 0.0):.0f}",
            _cell(row.mean_dice, 4),
            _VERDICTS[row.verdict],
            _cell(row.frame_p50, 2),
            _cell(row.frame_p90, 2),
            _cell(row.fps, 1),
            _cell(row.memory, 1),
            "recommended" if row.recommended else row.reason,
        )
    return table


def _cell(figure: Figure, digits: int) -> str:
    return "-" if figure.value is None else f"{figure.value:.{digits}f}"
