"""`nanonet-edge train`: images and masks in, weights out."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import UsageError
from nanonet_edge.variants import DEFAULT_SIZE, Topology, Variant, get_network, topology_of

if TYPE_CHECKING:
    from nanonet_edge.training.recipe import Recipe
    from nanonet_edge.training.run import TrainingResult
    from nanonet_edge.training.state import EpochRecord


#: Weight of a teacher's answers, the mask's cross-entropy having the same.
_DISTILLATION = 0.5


class Preset(str, Enum):
    """Names of `nanonet_edge.training.PRESETS`."""

    PAPER = "paper"
    FAST = "fast"
    TUNE = "tune"


def train(
    data: Annotated[
        Path,
        typer.Option(
            help="A published dataset, or a folder with train/ and validation/, or with images/ and "
            "masks/; where nothing is there to validate on, a tenth is held out."
        ),
    ],
    variant: Annotated[str, typer.Option(help="a, b, c; resunet, resunet++, unet or doubleunet.")] = "c",
    topology: Annotated[
        Topology | None, typer.Option(help="Which shortcut a NanoNet has. Default: released.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Folder with the validation images/ and masks/.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option(metavar="K/N", help="Of N parts of the training images, validate on part K.")
    ] = None,
    preset: Annotated[
        Preset, typer.Option(help="The paper's recipe, a faster one, or one for --weights.")
    ] = Preset.PAPER,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="At most. Default: 200 (paper), 60 (fast, which takes 3 or more)."),
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = DEFAULT_SIZE,
    batch: Annotated[int | None, typer.Option(min=2, help="Images per step. Default: 16.")] = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(
            help="ImageNet weights of MobileNetV2, for a NanoNet's encoder. Default: Keras's download; "
            "the other networks have no such encoder and start from random weights."
        ),
    ] = None,
    random_encoder: Annotated[
        bool, typer.Option("--random-encoder", help="Start from random weights, encoder and all.")
    ] = False,
    weights: Annotated[Path | None, typer.Option(help="Start from this checkpoint instead.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Checkpoint to distill from: its probabilities join the loss.")
    ] = None,
    distillation: Annotated[
        float | None,
        typer.Option(min=0.0, help="Weight of the teacher's cross-entropy in the loss. Default: 0.5."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: runs/NAME, such as nanonet-c.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the weights, the order and the augmentation.")] = 0,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also log every epoch for TensorBoard, here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Train a network on images with masks. Every epoch is kept: a killed run can be resumed."""
    chosen = get_network(variant)
    place = topology_of(chosen, topology)
    if distillation is not None and teacher is None:
        raise UsageError("--distillation weighs the answers of a teacher: give --teacher FILE")
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    weight = _DISTILLATION if distillation is None else distillation
    recipe = _recipe(preset, epochs, size, batch, weight if teacher else 0.0)
    _check_start(preset, encoder_weights, random_encoder, weights)
    from nanonet_edge.extras import ensure

    ensure("keras", "albumentations", "matplotlib", *(["tensorboardX"] if tensorboard else []))
    from contextlib import ExitStack

    from nanonet_edge.training.data import load
    from nanonet_edge.training.run import Job, Start
    from nanonet_edge.training.run import train as run_training
    from nanonet_edge.training.split import split_samples
    from nanonet_edge.training.start import imagenet_encoder
    from nanonet_edge.training.tensorboard import TensorBoardLog

    split = split_samples(data, validation, fold)
    largest = recipe.stages[-1].size
    training = load(split.training, largest, skip_bad=skip_bad)
    held_out = load(split.validation, largest, skip_bad=skip_bad)
    for line in (*training.skipped.values(), *held_out.skipped.values()):
        common.note(f"skipped: {line}")
    common.note(f"{len(training)} images to train on, {len(held_out)} to validate on ({split.rule})")
    if isinstance(chosen, Variant) and encoder_weights is None and weights is None and not random_encoder:
        encoder_weights = imagenet_encoder(chosen)
    with ExitStack() as stack:
        log = stack.enter_context(TensorBoardLog(tensorboard)) if tensorboard else None
        progress = stack.enter_context(common.progress())

        def on_epoch(record: EpochRecord) -> None:
            _say_epoch(record)
            if log is not None:
                log.write(record)

        def on_step(epoch: int, step: int, steps: int, loss: float) -> None:
            progress("train", epoch * steps + step, recipe.epochs * steps)

        result = run_training(
            Job(chosen, recipe, place, Start(encoder_weights, weights, teacher), seed),
            training,
            held_out,
            output if output is not None else Path("runs") / chosen.stem,
            resume=resume,
            overwrite=overwrite,
            on_epoch=on_epoch,
            on_step=on_step,
        )
    _print(result, as_json)


def _check_start(
    preset: Preset, encoder_weights: Path | None, random_encoder: bool, weights: Path | None
) -> None:
    if weights is not None and (encoder_weights is not None or random_encoder):
        raise UsageError("--weights brings its own encoder: leave --encoder-weights and --random-encoder out")
    if preset is Preset.TUNE and weights is None:
        raise UsageError("--preset tune goes on from trained weights: give --weights FILE")
    if random_encoder and encoder_weights is not None:
        raise UsageError("--random-encoder and --encoder-weights exclude each other")


def _recipe(preset: Preset, epochs: int | None, size: int, batch: int | None, distillation: float) -> Recipe:
    from dataclasses import replace

    from nanonet_edge.training.recipe import PRESETS

    make = PRESETS[preset.value]
    recipe = make(size) if epochs is None else make(size, epochs)
    return replace(recipe, batch=batch or recipe.batch, distillation=distillation)


def _say_epoch(record: EpochRecord) -> None:
    validated = ""
    if record.val_loss is not None and record.val_dsc is not None:
        validated = f"  validation loss {record.val_loss:.4f}  DSC {record.val_dsc:.4f}"
    common.note(
        f"epoch {record.epoch + 1:3d}  {record.size} px  rate {record.rate:.1e}  loss {record.loss:.4f}"
        f"{validated}  {record.images_per_second:.0f} images/s"
    )


def _print(result: TrainingResult, as_json: bool) -> None:
    from nanonet_edge.training.run import BEST_NAME, LAST_NAME

    rows = {BEST_NAME: result.best, LAST_NAME: result.last}
    if as_json:
        from dataclasses import asdict

        common.print_json(
            {"folder": str(result.folder), "epochs": result.epochs}
            | {name.partition(".")[0]: asdict(outcome) for name, outcome in rows.items()}
        )
        return
    from rich.table import Table

    table = Table("weights", "after epoch", "validation loss", "DSC")
    for name, outcome in rows.items():
        table.add_row(
            str(result.folder / name), str(outcome.epoch + 1), f"{outcome.loss:.4f}", f"{outcome.dsc:.4f}"
        )
    common.print_table(table)
