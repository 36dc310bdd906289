"""`nanonet-edge blame`: which layers of an integer artifact changed the masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common

if TYPE_CHECKING:
    from rich.table import Table

    from nanonet_edge.benchmarks.agreement_data import VerificationData
    from nanonet_edge.benchmarks.blame import BlameResult
    from nanonet_edge.metrics import Estimate

DEFAULT_COUNT = 16


def blame(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT|BUNDLE", help="A bundle, or a .tflite, .onnx or .xml file.")
    ] = common.DEFAULT_BUNDLE,
    name: Annotated[
        str | None, typer.Option("--artifact", help="Which of a bundle. Default: its first static one.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of images; no masks are needed. Default: generated frames."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Draw so many.")] = DEFAULT_COUNT,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and the bootstrap.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the simulation. Default: all processors.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="Print so many layers; 0 for all.")] = 20,
    plot: Annotated[Path | None, typer.Option(help="Also draw all layers: a .png or a .html file.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the JSON here. Default for a bundle: BUNDLE.results/blame.json."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Rank the layers of a static integer artifact by what their rounding does to the masks.

    Gain: of mean Dice, if the layer alone were kept in float. Loss: if it alone were quantized. All
    are simulated with the file's own scales and weights; the simulation is held against the engine.
    """
    from nanonet_edge.benchmarks.blame import BLAME_NAME, find_subject
    from nanonet_edge.benchmarks.blame import blame as run
    from nanonet_edge.benchmarks.blame.plot import check_plot, save_plot
    from nanonet_edge.extras import ensure
    from nanonet_edge.results import check_writable, results_folder, save_result

    ensure("onnx", "onnxruntime")
    if plot is not None:
        check_plot(plot)
        check_writable(plot)
    subject = find_subject(artifact, name)
    if output is None and subject.artifact is not None:
        output = results_folder(subject.path.parent) / BLAME_NAME
    if output is not None:
        check_writable(output)
    for line in subject.notes:
        common.note(line)
    frames = _frames(data, images, seed)
    with common.progress() as progress:
        result = run(subject, frames, threads=threads, seed=seed, progress=progress)
    if output is not None:
        save_result(result, output)
    if plot is not None:
        save_plot(result, plot)
    if as_json:
        common.print_json(result)
    else:
        common.print_table(_table(result, top))
    _conclude(result, [path for path in (output, plot) if path is not None])


def _frames(data: Path | None, count: int, seed: int) -> VerificationData:
    from nanonet_edge.benchmarks.agreement_data import VerificationData
    from nanonet_edge.datasets import find_split, image_samples, list_images

    if data is None:
        common.note(f"WARNING: no --data given: blaming on {count} GENERATED frames, not on your images")
        return VerificationData.generated(count, seed)
    folder, _ = find_split(data)
    samples = image_samples(list_images(folder), folder)
    return VerificationData.from_samples(samples, data.absolute().name, count, seed)


def _table(result: BlameResult, top: int) -> Table:
    from rich.markup import escape
    from rich.table import Table

    rows = result.layers[: top or None]
    left_out = len(result.layers) - len(rows)
    caption = f"{left_out} layers more: --top 0" if left_out else None
    title = f"{result.artifact} on {result.data} ({result.obtained})"
    table = Table(title=escape(title), title_justify="left", caption=caption, caption_justify="left")
    for heading in ("", "layer", "op", "parameters", "SQNR dB", "own dB", "weights dB"):
        table.add_column(heading, justify="left" if heading in ("layer", "op") else "right", no_wrap=True)
    table.add_column("gain if float [95 %]", justify="right", no_wrap=True)
    table.add_column("loss if alone [95 %]", justify="right", no_wrap=True)
    for rank, row in enumerate(rows, 1):
        table.add_row(
            str(rank),
            escape(row.layer),
            row.op,
            f"{row.parameters:,}" if row.parameters else "-",
            *(
                "-" if value is None else f"{value:.1f}"
                for value in (row.sqnr_db, row.rounding_db, row.weights_db)
            ),
            _interval(row.gain),
            _interval(row.loss),
        )
    return table


def _interval(estimate: Estimate) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    mean, low, high = (round(value, 4) + 0.0 for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def _conclude(result: BlameResult, written: list[Path]) -> None:
    parts = [f"mean Dice with all layers quantized {result.dice.mean:.4f}"]
    if result.dice_weights_only is not None and result.dice_activations_only is not None:
        parts.append(f"weights alone {result.dice_weights_only:.4f}")
        parts.append(f"activations alone {result.dice_activations_only:.4f}")
    if result.dice_engine is not None and result.engine is not None:
        parts.append(f"{result.engine.spec} itself {result.dice_engine:.4f}")
    common.note("; ".join(parts))
    if (check := result.engine) is not None:
        common.note(
            f"simulation against {check.spec}: masks agree by Dice {check.mean_dice:.4f}; probabilities "
            f"differ by more than {check.lsb:.4f} on {check.share_beyond_lsb:.2%} of the pixels, "
            f"by {check.max_lsb * check.lsb:.4f} at most"
        )
    elif "engine" in result.missing:
        common.note(f"not held against an engine: {result.missing['engine']}")
    if (fit := result.threshold) is not None:
        common.note(
            f"cut-off {fit.threshold:.4f} instead of {fit.default:.4f}: mean Dice {fit.dice_default:.4f} -> "
            f"{fit.dice_fitted:.4f} (cross-fitted on the {fit.source}'s outputs): an offset explains "
            f"{fit.offset:+.4f}, {fit.structural:.4f} is structural"
        )
    for path in written:
        common.note(f"written: {path}")
