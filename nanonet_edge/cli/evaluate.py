"""`nanonet-edge evaluate`: how right the masks are, by ground truth."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_INPUT, UsageError
from nanonet_edge.variants import DEFAULT_SIZE, Name, Topology, get_variant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from nanonet_edge.benchmarks.accuracy_models import Model
    from nanonet_edge.benchmarks.accuracy_result import AccuracyResult, AccuracyRow
    from nanonet_edge.metrics import Estimate, ModelAccuracy, PooledAccuracy
    from nanonet_edge.results import Figure

DEFAULT_VARIANT = "c"


class MaskResolution(Name):
    """Where mask and truth meet."""

    NETWORK = "network"
    ORIGINAL = "original"


def evaluate(
    data: Annotated[
        Path,
        typer.Option(help="Folder of images/ and masks/, a published dataset, or images with --masks."),
    ],
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Checkpoint (.h5, .weights.h5, .keras), bundle (all its artifacts), or one artifact: "
            "its file, or BUNDLE/NAME.",
        ),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of ground-truth masks with the images' stems.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="A split of the dataset (train, val, test), or a file of stems like val.txt."),
    ] = None,
    bundled: Annotated[
        bool, typer.Option("--bundled", help="Evaluate the shipped weights, before any MODEL.")
    ] = False,
    variant: Annotated[
        str | None,
        typer.Option(
            help="a, b or c: which shipped weights, with --bundled or without a MODEL; "
            "else what the checkpoints must be."
        ),
    ] = None,
    topology: Annotated[
        Topology | None, typer.Option(help="Likewise. Default: released; what the checkpoint has.")
    ] = None,
    size: Annotated[int, typer.Option(help="Input size of checkpoints, a multiple of 32.")] = DEFAULT_SIZE,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="NAME[:OPTION] for artifacts, as `runtimes` lists them; repeatable."),
    ] = None,
    resolution: Annotated[
        MaskResolution,
        typer.Option(
            help="network: true masks are resized, as in the paper's code; original: probabilities are, "
            "to each true mask's size."
        ),
    ] = MaskResolution.NETWORK,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A pixel is polyp above this probability.")
    ] = 0.5,
    limit: Annotated[int | None, typer.Option(min=1, help="Draw so many images. Default: all.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and the bootstrap.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine, and of Keras when timed.")] = 1,
    speed: Annotated[
        bool,
        typer.Option("--speed/--no-speed", help="Measure frame rates: the paper's way and ours."),
    ] = True,
    min_seconds: Annotated[float, typer.Option(min=0.0, help="Least duration of each speed run.")] = 3.0,
    min_count: Annotated[int, typer.Option(min=1, help="Least number of runs in each.")] = 100,
    output: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write one row per model and image.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Hold masks against ground truth: DSC, mIoU, recall, precision, F2, accuracy, specificity.

    Each with a bootstrap 95 % interval, as means over images and over all pixels together. Of
    several models, each is compared with the first, image by image. mIoU is the mean of the
    polyp's IoU, as in the paper. Exit code 3 if a model could not be run.
    """
    if not 0 <= min_seconds < math.inf:
        raise UsageError(f"--min-seconds: expected a number of seconds, found {min_seconds:g}")

    from nanonet_edge.atomic import write_text
    from nanonet_edge.benchmarks.accuracy import evaluate_models
    from nanonet_edge.benchmarks.accuracy_data import open_data
    from nanonet_edge.benchmarks.accuracy_result import AccuracySettings
    from nanonet_edge.results import BenchSettings, check_writable, save_result

    for path in filter(None, (output, csv)):
        check_writable(path)
    found = _find(models or [], bundled, variant, topology, size, runtime or ())
    images = open_data(data, masks, split, limit, seed)
    for line in images.notes:
        common.note(line)
    with common.progress() as progress:
        result = evaluate_models(
            found,
            images,
            AccuracySettings(resolution=resolution.value, threshold=threshold, threads=threads, seed=seed),
            speed=BenchSettings(min_seconds=min_seconds, min_count=min_count) if speed else None,
            progress=progress,
        )
    if output is not None:
        save_result(result, output)
    if csv is not None:
        write_text(csv, result.to_csv())
    if as_json:
        common.print_json(result)
    else:
        for table in _tables(result):
            common.print_table(table)
    _conclude(result, output, csv)
    if result.failures:
        raise typer.Exit(EXIT_INPUT)


def _find(
    paths: Sequence[Path],
    bundled: bool,
    variant: str | None,
    topology: Topology | None,
    size: int,
    runtimes: Sequence[str],
) -> tuple[Model, ...]:
    """The models that are named, the shipped one first where it is asked for."""
    from nanonet_edge.benchmarks.accuracy_models import find_models
    from nanonet_edge.weights import bundled_weights

    if not bundled and (paths or variant is None):
        return find_models(paths, runtimes=runtimes, variant=variant, topology=topology, size=size)
    shipped = bundled_weights(get_variant(variant or DEFAULT_VARIANT), topology or Topology.RELEASED)
    return find_models([shipped.checkpoint, *paths], runtimes=runtimes, size=size)


def _conclude(result: AccuracyResult, *written: Path | None) -> None:
    for skipped in result.skipped:
        common.note(f"{skipped.artifact} was skipped: {skipped.reason}")
    for failure in result.failures:
        common.note(f"failed: {failure}")
    for path in filter(None, written):
        common.note(f"written: {path}")


def _tables(result: AccuracyResult) -> Iterator[Table]:
    from nanonet_edge.metrics import ACCURACY_FIGURES as MEANS
    from nanonet_edge.metrics import POOLED_FIGURES as POOLED

    settings = result.settings
    place = "the network's resolution" if settings.resolution == "network" else "the masks' own resolution"
    asked = f"{result.data}, at {place}, threshold {settings.threshold:g} ({result.obtained})"
    yield _table(
        f"mean over images [95 %] on {asked}", MEANS, result.rows, lambda row: _estimates(row.mean, MEANS)
    )
    yield _table(
        "all pixels counted together (micro average) [95 %]",
        POOLED,
        result.rows,
        lambda row: _estimates(row.pooled, POOLED),
    )
    if len(result.rows) > 1:
        first = result.rows[0].model
        yield _table(
            f"mean over images, minus that of {first.name} on {first.spec}, paired by image [95 %]",
            MEANS,
            result.rows[1:],
            lambda row: _estimates(row.difference, MEANS, sign="+"),
        )
    timed = [row for row in result.rows if row.speed is not None]
    if timed:
        processor = result.machine.cpu_model or "an unnamed processor"
        headings = ("computed in", "paper's FPS", "invoke p50 ms", "frame p50 ms", "FPS")
        yield _table(
            f"speed measured on {processor}, threads: {settings.threads}",
            headings,
            timed,
            _speed,
            caption="paper's FPS: 1 / mean time of Keras's model.predict, image by image; "
            "FPS: 1 / frame p50, decoded 640x480 frame in, mask out",
        )


def _table(
    title: str,
    headings: Sequence[str] | dict[str, str],
    rows: Sequence[AccuracyRow],
    cells: Callable[[AccuracyRow], Sequence[str]],
    caption: str | None = None,
) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", caption=caption, caption_justify="left")
    table.add_column("model and runtime", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        figures = cells(row) if row.failure is None else ["failed", *["-"] * (len(headings) - 1)]
        table.add_row(*map(escape, (f"{row.model.name}\non {row.model.spec}", *figures)))
    return table


def _estimates(
    found: ModelAccuracy | PooledAccuracy | None, columns: dict[str, str], sign: str = ""
) -> list[str]:
    """Each figure above its interval, which a narrow terminal may break at its space."""

    def cell(one: Estimate) -> str:
        # Adding 0.0 turns a rounded -0.0 into 0.0.
        mean, low, high = (round(value, 4) + 0.0 for value in (one.mean, one.low, one.high))
        return f"{mean:{sign}.4f}\n[{low:{sign}.4f}, {high:{sign}.4f}]"

    return ["-" if found is None else cell(getattr(found, field)) for field in columns.values()]


def _speed(row: AccuracyRow) -> list[str]:
    speed = row.speed
    if speed is None:
        return ["-"] * 5
    computed = row.runtime.computed_precision if row.runtime is not None else "-"
    figures = ((speed.paper_fps, 1), (speed.invoke_p50, 2), (speed.frame_p50, 2), (speed.fps, 1))
    return [computed, *(_figure(figure, digits) for figure, digits in figures)]


def _figure(figure: Figure, digits: int) -> str:
    return "-" if figure.value is None else f"{figure.value:.{digits}f}"
