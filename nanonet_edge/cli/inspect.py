"""`nanonet-edge inspect`: the operators of a `.tflite` file, and which of them a target maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanonet_edge.cli import common
from nanonet_edge.variants import Target

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.edgetpu import CoralReport
    from nanonet_edge.tflite_file import Tensor, TfliteFile


def inspect(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.tflite", help="Any TFLite model.", show_default=False)
    ],
    target: Annotated[
        Target | None,
        typer.Option(help="Say per operator whether this accelerator's compiler would map it, and why not."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List a TFLite file's operators; with --target coral, which run on the Edge TPU."""
    if target is Target.CORAL:
        from nanonet_edge.edgetpu import coral_report

        report = coral_report(file)
        if as_json:
            common.print_json(report)
        else:
            common.print_table(_coral_operators(report))
            common.print_table(_coral_summary(report))
        return

    from nanonet_edge.tflite_file import read_tflite

    model = read_tflite(file)
    if as_json:
        common.print_json(_listing(model))
    else:
        common.print_table(_operators(model))


def _listing(model: TfliteFile) -> dict[str, Any]:
    from nanonet_edge.tflite_cost import multiply_accumulates, parameters

    operators = [
        {
            "index": operator.index,
            "name": operator.name,
            "version": operator.version,
            "inputs": [_tensor(tensor) for tensor in model.input_tensors(operator)],
            "outputs": [_tensor(tensor) for tensor in model.output_tensors(operator)],
            "macs": multiply_accumulates(model, operator),
            "parameters": parameters(model, operator),
        }
        for operator in model.operators
    ]
    return {
        "schema_version": 1,
        "file": str(model.path),
        "description": model.description,
        "subgraphs_in_file": model.subgraphs,
        "inputs": [_tensor(model.tensors[index]) for index in model.inputs if index >= 0],
        "outputs": [_tensor(model.tensors[index]) for index in model.outputs if index >= 0],
        "operators": operators,
        "macs": sum(operator["macs"] for operator in operators),
        "parameters": sum(operator["parameters"] for operator in operators),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "constant": tensor.is_constant,
    }


def _operators(model: TfliteFile) -> Table:
    from rich.markup import escape
    from rich.table import Table

    listing = _listing(model)
    table = Table("", "operator", "version", "inputs", "outputs", "MACs", "parameters", show_footer=True)
    for operator in listing["operators"]:
        flowing = [tensor for tensor in operator["inputs"] if not tensor["constant"]]
        table.add_row(
            str(operator["index"]),
            escape(operator["name"]),
            str(operator["version"]),
            escape("\n".join(_typed_shape(tensor) for tensor in flowing)),
            escape("\n".join(_typed_shape(tensor) for tensor in operator["outputs"])),
            f"{operator['macs']:,}",
            f"{operator['parameters']:,}",
        )
    table.columns[1].footer = "total"
    table.columns[5].footer, table.columns[6].footer = f"{listing['macs']:,}", f"{listing['parameters']:,}"
    for column in (0, 2, 5, 6):
        table.columns[column].justify = "right"
    return table


def _typed_shape(tensor: dict[str, Any]) -> str:
    return f"{'x'.join(map(str, tensor['shape'])) or 'scalar'} {tensor['dtype']}"


def _coral_operators(report: CoralReport) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "operator", "version", "MACs", "Edge TPU", "because")
    for operator in report.operators:
        table.add_row(
            str(operator.index),
            escape(operator.name),
            str(operator.version),
            f"{operator.macs:,}",
            escape(operator.reason),
            escape(operator.detail),
        )
    for column in (0, 2, 3):
        table.columns[column].justify = "right"
    return table


def _coral_summary(report: CoralReport) -> Table:
    from rich.markup import escape
    from rich.table import Table

    summary, memory = report.summary, report.summary.memory
    table = Table("predicted from the compiler's documented rules", "Edge TPU", "CPU")
    table.add_row("operators", str(summary.mapped), str(summary.on_cpu))
    table.add_row("MACs", f"{summary.macs_tpu:,}", f"{summary.macs_cpu:,}")
    table.add_row("share of MACs", _percent(summary.share_macs_tpu), _percent(summary.share_macs_cpu))
    table.add_row("parameters", _kib(memory.parameters_tpu), _kib(memory.parameters_cpu))
    table.add_row("activations, most at once", _kib(memory.activations_tpu), "")
    table.add_row("on-chip memory", _kib(memory.on_chip), "")
    table.add_row("parameters fit on the chip", "yes" if memory.parameters_fit else "no", "")
    table.add_row("and activations beside them", "yes" if memory.everything_fits else "no", "")
    end = summary.ended_by
    table.add_row("the subgraph ends at", "" if end is None else escape(f"{end.index} {end.name}"), "")
    return table


def _percent(share: float | None) -> str:
    return "no MACs" if share is None else f"{100 * share:.1f} %"


def _kib(size: int) -> str:
    return f"{size / 1024:,.1f} KiB"
