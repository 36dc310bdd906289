"""`nanonet-edge paper-table`: the networks of the paper's tables, measured here and as published."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_INPUT, UsageError
from nanonet_edge.variants import (
    COMPARATORS,
    DEFAULT_SIZE,
    VARIANTS,
    Format,
    Network,
    Precision,
    Variant,
    get_network,
    topology_of,
)

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.benchmarks.paper_table import PaperRow, PaperTable, Published
    from nanonet_edge.bundle import Bundle

#: The tables whose figures are printed; the JSON has all five. Only VI has U-Net and DoubleU-Net.
_PRINTED = ("III", "VI")


def paper_table(
    variant: Annotated[
        list[str] | None, typer.Option(help="Only this network; repeatable. Default: all seven.")
    ] = None,
    file_format: Annotated[Format, typer.Option("--format", help="Of the artifacts.")] = Format.TFLITE,
    precision: Annotated[
        Precision, typer.Option(help="Of the artifacts; integer ones are calibrated first, for minutes.")
    ] = Precision.FP32,
    runtime: Annotated[
        str | None, typer.Option(help="Runtime spec, as `runtimes` lists them. Default: the format's.")
    ] = None,
    size: Annotated[int, typer.Option(help="Input height and width, a multiple of 32.")] = DEFAULT_SIZE,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    duration: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Least duration of each scope.")
    ] = 3.0,
    min_count: Annotated[int, typer.Option(min=1, help="Least number of runs in each scope.")] = 20,
    output: Annotated[Path | None, typer.Option(help="Where to write the JSON, raw samples and all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the seven networks of the paper's tables beside the figures that the paper prints.

    Shipped weights are taken where there are any, random ones elsewhere: they are as fast.
    """
    if not math.isfinite(duration):
        raise UsageError(f"--duration: expected a number of seconds, found {duration:g}")
    networks = [get_network(name) for name in dict.fromkeys(variant or (*COMPARATORS, *VARIANTS))]
    from nanonet_edge.benchmarks.paper_table import engine_for
    from nanonet_edge.benchmarks.paper_table import paper_table as run
    from nanonet_edge.results import BenchSettings, check_writable, save_result

    if output is not None:
        check_writable(output)
    spec = engine_for(file_format, runtime)
    settings = BenchSettings(threads=threads, min_seconds=duration, min_count=min_count)
    with tempfile.TemporaryDirectory(prefix="nanonet-edge-") as folder, common.progress() as progress:
        bundles = []
        for index, network in enumerate(networks):
            progress("export", index, len(networks))
            bundles.append(_export(network, Path(folder) / network.stem, file_format, precision, size))
        progress("export", len(networks), len(networks))
        result = run(bundles, settings, runtime=spec, progress=progress)
    if output is not None:
        save_result(result, output)
    if as_json:
        common.print_json(result)
    else:
        common.print_table(_table(result))
    for failure in result.failures:
        common.note(f"failed: {failure}")
    if result.failures:
        raise typer.Exit(EXIT_INPUT)


def _export(network: Network, folder: Path, file_format: Format, precision: Precision, size: int) -> Bundle:
    from nanonet_edge.export import ExportOptions, export_bundle

    options = ExportOptions(
        variant=network.name,
        untrained=not _is_shipped(network),
        size=size,
        formats=(file_format,),
        precisions=(precision,),
    )
    return export_bundle(options, folder)


def _is_shipped(network: Network) -> bool:
    from nanonet_edge.weights import files_of

    topology = topology_of(network)
    if not isinstance(network, Variant) or topology is None:
        return False
    return files_of(network, topology).checkpoint.is_file()


def _table(result: PaperTable) -> Table:
    from rich.table import Table

    first = result.rows[0]
    processor = result.machine.cpu_model or "an unnamed processor"
    size = first.counted.size
    table = Table(
        title=f"counted and measured here, published by the paper; {size}x{size}, "
        f"{first.measured.format} {first.measured.precision} on {first.measured.spec}",
        caption=f"measured: on {processor}, threads: {result.settings.threads}; FPS: 1000 / p50 of a frame; "
        "~: coefficient of variation above 2.5 %\n"
        f"published: CBMS 2021, on {result.paper.machine}\n"
        "untrained: random weights, as fast as trained ones; -: not printed there (--json says why)",
    )
    table.add_column("network")
    table.add_column("weights")
    for column in ("parameters", "MMACs", "exported MMACs"):
        table.add_column(f"counted\n{column}", justify="right")
    for column in ("MiB", "computed in", "invoke p50 ms", "frame p50 ms", "FPS"):
        table.add_column(f"measured\n{column}", justify="right")
    table.add_column("published\nparameters", justify="right")
    for published in first.published:
        if published.table in _PRINTED:
            for column in ("DSC", "FPS"):
                table.add_column(
                    f"published {column}\n{published.dataset}\nTable {published.table}", justify="right"
                )
    for row in result.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: PaperRow) -> list[str]:
    counted = row.counted
    cells = [row.title, "trained" if row.trained else "untrained", f"{counted.parameters:,}"]
    cells += [f"{counted.macs / 1e6:,.0f}", f"{counted.rewritten_macs / 1e6:,.0f}"]
    cells += [f"{row.measured.bytes / (1 << 20):.2f}", *_times(row)]
    printed = [one for one in row.published if one.table in _PRINTED]
    counts = {one.figures.parameters for one in printed if one.figures and one.figures.parameters}
    cells.append(", ".join(f"{value:,}" for value in counts) or "-")
    return cells + [cell for one in printed for cell in _printed(one)]


def _times(row: PaperRow) -> list[str]:
    found = row.measured.valid_measurement
    if found is None:
        return ["does not count" if row.measured.objection else "failed", "-", "-", "-"]
    invoke, frame = found.invoke.summary, found.frame.summary
    return [
        found.runtime.computed_precision,
        f"{'~' if invoke.warning else ''}{invoke.p50_ms:.2f}",
        f"{'~' if frame.warning else ''}{frame.p50_ms:.2f}",
        f"{frame.fps:.2f}",
    ]


def _printed(published: Published) -> list[str]:
    if published.figures is None:
        return ["-", "-"]
    return [f"{published.figures.dsc:.4f}", f"{published.figures.fps:.2f}"]
