"""`nanonet-edge predict`: how long artifacts would take on a device that is not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.benchmarks.prediction import Prediction, PredictResult
    from nanonet_edge.benchmarks.prediction.result import Fit

_MIB = 1 << 20


def predict(
    artifact: Annotated[
        Path,
        typer.Argument(
            metavar="ARTIFACT", help="A .tflite, .onnx or OpenVINO .xml file, or the folder of a bundle."
        ),
    ] = common.DEFAULT_BUNDLE,
    device: Annotated[
        str, typer.Option(help="A device or a family, as `devices list` names them.", show_default=False)
    ] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads of a CPU engine.")] = 1,
    operators: Annotated[bool, typer.Option("--operators", help="Print every operator, too.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--devices", metavar="DIR", help="A folder of your own device profiles.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the JSON, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Predict latency and memory on a device; nothing is run, nothing is measured."""
    if not device:
        raise UsageError("--device: expected a device or a family, as `nanonet-edge devices list` names them")
    from nanonet_edge.benchmarks.prediction import predict_artifact, predict_bundle, result_of
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.devices import load_catalogue, resolve
    from nanonet_edge.results import check_writable, save_result

    if output is not None:
        check_writable(output)
    resolution = resolve(device, load_catalogue(folder))
    if resolution.rule != "named":
        common.note(resolution.explanation)
    profile = resolution.profile
    if artifact.is_dir():
        result = predict_bundle(Bundle.open(artifact), profile, threads=threads)
    else:
        result = result_of([predict_artifact(artifact, profile, threads=threads)], profile)
    if output is not None:
        save_result(result, output)
    if as_json:
        common.print_json(result)
        return
    show(result)
    if operators:
        for row in result.rows:
            common.print_table(_operators(row))


def show(result: PredictResult) -> None:
    """Print a result on stdout: latencies, memory, sources, and the line to type to measure instead."""
    common.print_table(_latencies(result))
    common.print_table(_memory(result))
    common.print_table(_sources(result))
    for row in result.rows:
        if row.reason is not None:
            common.note(f"{row.artifact}: not predicted: {row.reason}")
    for row in result.rows:
        for line in row.notes:
            common.note(f"{row.artifact}: {line}")


def _latencies(result: PredictResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"predicted, not measured: {escape(result.title)}",
        caption="range: nine of ten are expected within it; error: median on published figures that the fit "
        f"had not seen\nto measure: {escape(result.measure)}",
    )
    for column in ("artifact", "runs on", "arithmetic"):
        table.add_column(column)
    for column in ("MMACs", "MiB moved", "predicted ms", "range ms", "FPS", "error"):
        table.add_column(column, justify="right")
    for row in result.rows:
        where = row.engine if row.threads is None else f"{row.engine}, threads: {row.threads}"
        cells = [escape(row.artifact), f"{row.unit}: {where}", row.arithmetic]
        cells += [f"{row.macs / 1e6:,.0f}", f"{row.bytes_moved / _MIB:,.1f}"]
        table.add_row(*cells, *_latency(row))
    return table


def _latency(row: Prediction) -> list[str]:
    found = row.latency
    if found is None:
        return ["-", "-", "-", "-"]
    spread = f"{_digits(found.low_ms)} to {_digits(found.high_ms)}"
    return [_digits(found.ms), spread, _digits(1e3 / found.ms), f"{found.error.median:.0%}"]


def _digits(value: float) -> str:
    """Two significant digits: a prediction has no more."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.2g}".removesuffix(".")


def _sources(result: PredictResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("where the predicted figures are from")
    for line in dict.fromkeys(line for row in result.rows for line in row.sources):
        table.add_row(escape(line))
    table.add_row(escape(f"the fit, again: {result.reproduce}"))
    return table


def _memory(result: PredictResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="memory, predicted; at least: the engine itself is not counted")
    table.add_column("artifact")
    for column in ("weights KiB", "activations KiB"):
        table.add_column(column, justify="right")
    table.add_column("fits in RAM")
    table.add_column("fits on the chip")
    for row in result.rows:
        need = row.memory
        sizes = (f"{need.weight_bytes / 1024:,.0f}", f"{need.peak_activation_bytes / 1024:,.0f}")
        table.add_row(escape(row.artifact), *sizes, _fits(need.ram), _fits(need.on_chip))
    return table


def _fits(fit: Fit) -> str:
    if fit.available_bytes is None:
        return f"- ({fit.note})"
    size = fit.available_bytes / _MIB
    return f"{'yes' if fit.fits else 'no'}, of {size:,.3g} MiB ({fit.note})"


def _operators(row: Prediction) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{escape(row.artifact)}: operators, predicted")
    for column in ("", "operator", "kind", "arithmetic", "on"):
        table.add_column(column)
    for column in ("kMACs", "KiB moved", "operations per byte", "ms", "bound by"):
        table.add_column(column, justify="right")
    for one in row.operators:
        table.add_row(
            str(one.index),
            escape(one.op),
            one.kind,
            one.arithmetic,
            one.unit,
            f"{one.macs / 1e3:,.0f}",
            f"{one.bytes_moved / 1024:,.1f}",
            f"{one.intensity:.1f}",
            "-" if one.ms is None else f"{one.ms:.3f}",
            one.bound or "-",
        )
    return table
