"""`nanonet-edge predict`: how long artifacts would take on a device that is not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.benchmarks.prediction import CheckResult, Prediction, PredictResult
    from nanonet_edge.benchmarks.prediction.check import CheckRow
    from nanonet_edge.benchmarks.prediction.result import Capacity
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.devices import Profile

_MIB = 1 << 20


def predict(
    artifact: Annotated[
        Path,
        typer.Argument(
            metavar="ARTIFACT", help="A .tflite, .onnx or OpenVINO .xml file, or the folder of a bundle."
        ),
    ] = common.DEFAULT_BUNDLE,
    device: Annotated[
        str | None,
        typer.Option(
            help="A device or a family, as `devices list` names them; cpu is this machine, whose rates are "
            "measured first, for two seconds.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a CPU engine.")] = 1,
    operators: Annotated[bool, typer.Option("--operators", help="Print every operator, too.")] = False,
    counts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What `emulate count` counted on that device. Default: BUNDLE.results/count.DEVICE.json",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with what was measured here: BUNDLE.results/bench.json."),
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--devices", metavar="DIR", help="A folder of your own device profiles.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write the JSON, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Predict latency and memory on a device; nothing is run, nothing is measured."""
    if device is None and not check:
        raise UsageError("--device: expected a device or a family, as `nanonet-edge devices list` names them")
    if check and counts is not None:
        raise UsageError("--check takes no --counts: it predicts this machine, where nothing is emulated")
    from nanonet_edge.results import check_writable, save_result

    if output is not None:
        check_writable(output)
    profile = _profile(device or "cpu", folder)
    result = _checked(artifact, profile) if check else _predicted(artifact, profile, threads, counts)
    if output is not None:
        save_result(result, output)
    if as_json:
        common.print_json(result)
    elif result.kind == "predict-check":
        _show_check(result)
    else:
        show(result)
        if operators:
            for row in result.rows:
                common.print_table(_operators(row))


def _profile(device: str, folder: Path | None) -> Profile:
    """The device that was meant; this machine is measured first."""
    from nanonet_edge.benchmarks.prediction import calibrated_profile, is_host
    from nanonet_edge.devices import load_catalogue, resolve

    if is_host(device):
        common.note("measuring the rates of this machine, for two seconds: it should be idle")
        return calibrated_profile()
    resolution = resolve(device, load_catalogue(folder))
    if resolution.rule != "named":
        common.note(resolution.explanation)
    return resolution.profile


def _checked(artifact: Path, profile: Profile) -> CheckResult:
    from nanonet_edge.benchmarks.prediction import check_bundle
    from nanonet_edge.bundle import Bundle

    return check_bundle(Bundle.open(artifact), profile)


def _predicted(artifact: Path, profile: Profile, threads: int, counts: Path | None) -> PredictResult:
    from nanonet_edge.benchmarks.prediction import load_counts, predict_artifact, predict_bundle, result_of
    from nanonet_edge.bundle import Bundle

    if artifact.is_dir():
        bundle = Bundle.open(artifact)
        return predict_bundle(bundle, profile, threads=threads, counts=_counts(counts, bundle, profile))
    counted = {} if counts is None else load_counts(counts, profile)
    row = predict_artifact(artifact, profile, threads=threads, instructions=counted.get(artifact.name))
    return result_of([row], profile)


def _counts(path: Path | None, bundle: Bundle, profile: Profile) -> dict[str, int] | None:
    """Counts from the file that was named, else from beside the bundle; None: those that ship."""
    from nanonet_edge.benchmarks.emulation.result import count_name
    from nanonet_edge.benchmarks.prediction import load_counts
    from nanonet_edge.results import results_folder

    if path is not None:
        return load_counts(path, profile, bundle.manifest_sha256)
    beside = results_folder(bundle.root) / count_name(profile.name)
    if not beside.is_file():
        return None
    try:
        return load_counts(beside, profile, bundle.manifest_sha256)
    except InputError as error:
        common.note(f"not used: {error}")
        return None


def show(result: PredictResult) -> None:
    """Print a result on stdout: latencies, memory, sources, and the line to type to measure instead."""
    from rich.text import Text

    common.print_table(_latencies(result))
    common.print_table(_memory(result))
    common.print_table(_sources(result))
    for line in (
        "These figures are predicted, not measured.",
        f"the fit and its errors: {result.reproduce}",
        f"to measure: {result.measure}",
    ):
        common.print_table(Text(line))
    said: dict[str, list[str]] = {}
    for row in result.rows:
        for line in row.notes if row.reason is None else (f"not predicted: {row.reason}", *row.notes):
            said.setdefault(line, []).append(row.artifact)
    for line, artifacts in said.items():
        common.note(line if len(artifacts) == len(result.rows) else f"{', '.join(artifacts)}: {line}")


def _latencies(result: PredictResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"predicted, not measured: {escape(result.title)}",
        caption="range: nine of ten are expected within it; error: median on published figures that the fit "
        "had not seen",
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
    return table


def _memory(result: PredictResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="memory, predicted; at least: the engine itself is not counted")
    table.add_column("artifact")
    for column in ("weights KiB", "activations KiB"):
        table.add_column(column, justify="right")
    table.add_column("fits in RAM of")
    table.add_column("fits on the chip: last cache, or SRAM for weights")
    for row in result.rows:
        need = row.memory
        sizes = (f"{need.weight_bytes / 1024:,.0f}", f"{need.peak_activation_bytes / 1024:,.0f}")
        table.add_row(escape(row.artifact), *sizes, _fits(need.ram), _fits(need.on_chip))
    return table


def _fits(memory: Capacity) -> str:
    if memory.available_bytes is None:
        return f"- ({memory.note})"
    return (
        f"{'yes' if memory.fits else 'no'}: {memory.available_bytes / _MIB:,.3f}".rstrip("0").rstrip(".")
        + " MiB"
    )


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


def _show_check(result: CheckResult) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"predicted against measured: {escape(result.title)}",
        caption="measured: median of invoke; predicted: the fit on other machines, the rates of this one",
    )
    for column in ("artifact", "engine"):
        table.add_column(column)
    for column in ("measured ms", "predicted ms", "range ms", "predicted / measured", "in range"):
        table.add_column(column, justify="right")
    for row in result.rows:
        table.add_row(escape(row.artifact), escape(row.spec), *_compared(row))
    common.print_table(table)
    for row in result.rows:
        if row.reason is not None:
            common.note(f"{row.artifact} on {row.spec}: not compared: {row.reason}")
    if result.median_error is not None:
        within = f"{result.in_range} of {result.compared} within their range"
        common.note(f"median error {result.median_error:.0%}; {within}")


def _compared(row: CheckRow) -> list[str]:
    measured = "-" if row.measured_ms is None else f"{row.measured_ms:.2f}"
    if row.predicted is None or row.ratio is None:
        return [measured, "-", "-", "-", "-"]
    found = row.predicted
    spread = f"{_digits(found.low_ms)} to {_digits(found.high_ms)}"
    return [measured, _digits(found.ms), spread, f"{row.ratio:.2f}", "yes" if row.in_range else "no"]
