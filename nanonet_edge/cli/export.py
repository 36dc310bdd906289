"""`nanonet-edge export`: a checkpoint in, a bundle of artifacts out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanonet_edge.cli import common
from nanonet_edge.variants import Format, Head, Name, Precision, Target, Topology, get_network

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.bundle import Bundle


class InputDtype(Name):
    """The dtypes that `--input` offers."""

    FLOAT32 = "float32"
    UINT8 = "uint8"
    INT8 = "int8"


class RangeMethod(Name):
    """How activation ranges are chosen from what calibration saw."""

    MIN_MAX = "min-max"
    PERCENTILE = "percentile"
    MSE = "mse"


class WeightRounding(Name):
    """How weights become integers."""

    COMPENSATED = "compensated"
    NEAREST = "nearest"


class TensorLayout(Name):
    """Order of the dimensions of an ONNX or OpenVINO input."""

    NHWC = "nhwc"
    NCHW = "nchw"


class Channels(Name):
    """Order of the colour channels."""

    BGR = "bgr"
    RGB = "rgb"


def export(
    variant: Annotated[
        str | None,
        typer.Option(
            help="a, b, c, resunet, resunet++, unet or doubleunet. Default: what --weights holds, else c."
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Checkpoint (.h5, .weights.h5, .keras). Default: the shipped weights."),
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Random weights: measure speed before there are trained ones.")
    ] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="Add precision fp32.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add precision fp16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Add precision static_wi8_ai8.")] = False,
    precision: Annotated[
        list[Precision] | None,
        typer.Option(help="Add a precision; repeatable. Default: fp32, fp16, static_wi8_ai8."),
    ] = None,
    formats: Annotated[
        list[Format] | None, typer.Option("--format", help="Only this format; repeatable. Default: all.")
    ] = None,
    target: Annotated[
        Target | None,
        typer.Option(help="Write the int8 TFLite file once more, rewritten for this accelerator's compiler."),
    ] = None,
    compile_it: Annotated[
        bool,
        typer.Option("--compile/--no-compile", help="Run that compiler if it is on PATH (edgetpu_compiler)."),
    ] = True,
    topology: Annotated[
        Topology | None, typer.Option(help="Shortcut of NanoNet's blocks. Default: what the weights have.")
    ] = None,
    size: Annotated[int, typer.Option(help="Input height and width, a multiple of 32.")] = 256,
    head: Annotated[Head, typer.Option(help="What the model puts out.")] = Head.PROBABILITY,
    input_dtype: Annotated[
        InputDtype | None,
        typer.Option("--input", help="Input dtype. Default: float32; int8 (or int16) for integer TFLite."),
    ] = None,
    layout: Annotated[
        TensorLayout, typer.Option(help="Input of ONNX and OpenVINO; nchw spares them a transpose.")
    ] = TensorLayout.NHWC,
    channel_order: Annotated[Channels, typer.Option(help="Order in which frames come.")] = Channels.BGR,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images to calibrate with. Default: the shipped recording, else generated."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many of them to draw.")] = 128,
    seed: Annotated[int, typer.Option(min=0, help="Of that draw.")] = 0,
    ranges: Annotated[RangeMethod, typer.Option(help="How ranges are chosen.")] = RangeMethod.MSE,
    rounding: Annotated[
        WeightRounding, typer.Option(help="How weights are rounded; nearest is for comparison.")
    ] = WeightRounding.COMPENSATED,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare/--no-prepare",
            help="Bring channels to like ranges for 8 bits; off is for comparison.",
        ),
    ] = True,
    min_dice: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="With precision mixed: mean Dice to reach. Default: 0.99."),
    ] = None,
    max_kib: Annotated[
        float | None,
        typer.Option(min=0.0, help="With precision mixed: largest TFLite file, even below --min-dice."),
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option(min=0.0, help="Likewise slowest, on one thread of LiteRT on this machine."),
    ] = None,
    trial_frames: Annotated[
        int, typer.Option(min=1, help="With precision mixed: calibration frames that judge it.")
    ] = 16,
    verification: Annotated[
        Path | None,
        typer.Option(help="Images that will judge the result: warn if any is calibrated with."),
    ] = None,
    rewrite: Annotated[
        bool, typer.Option("--rewrite/--no-rewrite", help="Rewrite the graph; off: stock converters.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option(help="The bundle's folder. Default: artifacts/, and nanonet-c or so.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest instead of a table.")] = False,
) -> None:
    """Export a trained network to TFLite, ONNX and OpenVINO IR, as one bundle with a manifest."""
    from nanonet_edge.export import Boundary, ExportOptions, export_bundle

    named = [(fp32, Precision.FP32), (fp16, Precision.FP16), (int8, Precision.STATIC_WI8_AI8)]
    boundary: dict[str, Any] = {
        "head": head,
        "input_dtype": input_dtype.value if input_dtype else None,
        "layout": layout.value,
        "channel_order": channel_order.value,
    }
    options = ExportOptions(
        variant=variant,
        weights=weights,
        untrained=untrained,
        topology=topology,
        size=size,
        formats=tuple(dict.fromkeys(formats or ())),
        precisions=tuple(dict.fromkeys([p for wanted, p in named if wanted] + (precision or []))),
        target=target,
        compiles=compile_it,
        boundary=Boundary(**boundary),
        straight=not rewrite,
        calibration=calibration,
        verification=verification,
        samples=samples,
        seed=seed,
        method=ranges.value,
        rounding=rounding.value,
        prepares=prepare,
        max_kib=max_kib,
        max_ms=max_ms,
        trials=trial_frames,
        **({} if min_dice is None else {"min_dice": min_dice}),
    )
    with common.progress() as progress:
        bundle = export_bundle(options, output, report=common.note, progress=progress)
    if as_json:
        common.print_json(bundle.manifest)
    else:
        common.print_table(_table(bundle))
    common.note(f"wrote {bundle.root}")


def _table(bundle: Bundle) -> Table:
    from rich.table import Table

    manifest = bundle.manifest
    title = get_network(manifest.variant).title
    if manifest.topology is not None:
        title += f" ({manifest.topology})"
    title += f", {manifest.size}x{manifest.size}" + (", untrained" if manifest.weights.is_untrained else "")
    table = Table(title=title, title_justify="left")
    for heading in ("artifact", "KiB", "input", "output", "calibration"):
        table.add_column(heading, justify="right" if heading == "KiB" else "left", no_wrap=True)
    for record in manifest.artifacts:
        takes, gives = record.input, record.output
        table.add_row(
            record.name,
            f"{record.bytes / 1024:.1f}",
            f"{takes.dtype} {takes.layout} {takes.channel_order}",
            f"{gives.kind} {gives.dtype} {gives.layout}",
            f"{record.calibration.source}, {record.calibration.count}" if record.calibration else "-",
        )
    return table
