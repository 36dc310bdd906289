"""A training run: a folder with its settings, its state, its log and, at the end, weights.

    run.json            settings, the data's digests, and the result once there is one
    state.npz           where the run stands: removed when it is finished
    history.csv         one line per epoch
    curves.png          loss, DSC and learning rate
    best.weights.h5     the weights with the lowest validation loss
    last.weights.h5     the last epoch's
"""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nanonet_edge import atomic
from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.extras import ensure, version_of
from nanonet_edge.network import build_network, initial_fill
from nanonet_edge.training.curves import draw_curves
from nanonet_edge.training.data import TrainingSet
from nanonet_edge.training.recipe import Recipe
from nanonet_edge.training.start import place_encoder
from nanonet_edge.training.state import EpochRecord
from nanonet_edge.training.trainer import Report, Tick, Trainer
from nanonet_edge.variants import Topology, Variant

SCHEMA_VERSION = 1
RUN_NAME = "run.json"
STATE_NAME = "state.npz"
HISTORY_NAME = "history.csv"
CURVES_NAME = "curves.png"
BEST_NAME = "best.weights.h5"
LAST_NAME = "last.weights.h5"


@dataclass(frozen=True)
class Start:
    """Where the weights come from: at most one of an ImageNet encoder and a whole checkpoint.

    Attributes:
        encoder: file of MobileNetV2 weights as Keras distributes them.
        weights: checkpoint of the same variant and topology.
        teacher: checkpoint of any variant, for a recipe with distillation.
    """

    encoder: Path | None = None
    weights: Path | None = None
    teacher: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a finished run reached on the validation images, for one set of weights.

    Attributes:
        epoch: after which epoch (from 0) they were taken.
        loss, dsc: with the batch-norm statistics estimated anew.
    """

    epoch: int
    loss: float
    dsc: float


@dataclass(frozen=True)
class TrainingResult:
    """A finished run."""

    folder: Path
    epochs: int
    best: Outcome
    last: Outcome


def train(
    variant: Variant,
    recipe: Recipe,
    training: TrainingSet,
    validation: TrainingSet,
    output: Path | str,
    *,
    topology: Topology = Topology.RELEASED,
    start: Start = Start(),
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Report = lambda record: None,
    on_step: Tick = lambda epoch, step, steps, loss: None,
) -> TrainingResult:
    """Train a network and write its weights.

    The validation images select the stopping point and nothing else; the result gives the last
    epoch beside the best.

    Args:
        variant, topology: which network.
        recipe: what to do: `nanonet_edge.training.PRESETS`.
        training, validation: images at the size of the recipe's last stage.
        output: folder of the run.
        start: where the weights come from.
        seed: of the initial weights, the order and the augmentation.
        resume: go on with an unfinished run in `output`; its settings and data must be the same.
        overwrite: replace what is in `output`.
        on_epoch, on_step: as in `Trainer`.

    Raises:
        UsageError: `output` holds a run and neither `resume` nor `overwrite` is given, or a
            resumed run's settings differ; a teacher without distillation, or the reverse.
        CheckpointError: a file of `start` is damaged or holds another network.
        MissingExtraError: Keras, albumentations or matplotlib is not installed.
    """
    ensure("keras", "albumentations", "matplotlib")
    if (start.teacher is None) != (recipe.distillation == 0):
        raise UsageError("distillation takes both: a teacher, and a weight for it in the recipe")
    folder = Path(output)
    settings = _settings(variant, topology, recipe, training, validation, start, seed)
    _prepare(folder, settings, resume=resume, overwrite=overwrite)
    graph = build_network(variant, topology, size=recipe.stages[-1].size, fill=initial_fill(seed))
    if start.encoder is not None:
        graph = place_encoder(graph, start.encoder, adapt_input=recipe.adapt_input)
    if start.weights is not None:
        graph = load_checkpoint(start.weights, variant=variant.name, topology=topology).graph
    teacher = load_checkpoint(start.teacher).graph if start.teacher is not None else None

    def after_epoch(record: EpochRecord) -> None:
        _write_history(folder, trainer.state.history)
        on_epoch(record)

    trainer = Trainer(
        graph,
        recipe,
        training,
        validation,
        folder / STATE_NAME,
        seed=seed,
        teacher=teacher,
        on_epoch=after_epoch,
        on_step=on_step,
    )
    state = trainer.run()
    draw_curves(state.history, folder / CURVES_NAME)
    outcomes = {}
    for name, arrays, epoch in (
        (BEST_NAME, state.best, state.best_epoch),
        (LAST_NAME, state.average or state.weights, state.epoch - 1),
    ):
        finished = trainer.finished(arrays)
        save_checkpoint(finished, folder / name, origin=json.dumps({"run": settings}))
        found = trainer.validate_graph(finished)
        outcomes[name] = Outcome(int(epoch or 0), found.loss, found.dsc)
    result = TrainingResult(folder, state.epoch, outcomes[BEST_NAME], outcomes[LAST_NAME])
    _write_run(folder, settings, result)
    (folder / STATE_NAME).unlink(missing_ok=True)
    return result


def _settings(
    variant: Variant,
    topology: Topology,
    recipe: Recipe,
    training: TrainingSet,
    validation: TrainingSet,
    start: Start,
    seed: int,
) -> dict[str, Any]:
    from nanonet_edge.manifest import sha256_file

    def described(data: TrainingSet) -> dict[str, Any]:
        return {"images": len(data), "digest": data.digest, "skipped": list(data.skipped)}

    given = {item.name: getattr(start, item.name) for item in fields(start)}
    return {
        "variant": variant.name,
        "topology": str(topology),
        "recipe": recipe.as_dict(),
        "start": {name: sha256_file(path) if path else None for name, path in given.items()},
        "training": described(training),
        "validation": described(validation),
        "seed": seed,
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "keras": version_of("keras"),
    }


def _prepare(folder: Path, settings: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Leave `folder` ready for a run with these settings, or say why it is not."""
    run = folder / RUN_NAME
    if run.exists() and not overwrite:
        found = _read_run(run)
        if not resume:
            raise UsageError(f"{folder}: holds a training run: --resume goes on with it, --overwrite replaces it")
        if found.get("result"):
            raise UsageError(f"{folder}: this run is finished: nothing to resume")
        # Through JSON, as the file has been: tuples have become lists.
        wanted = json.loads(json.dumps(settings))
        differs = [key for key in wanted if wanted[key] != found.get("settings", {}).get(key)]
        if differs:
            raise UsageError(f"{folder}: cannot be resumed: {', '.join(differs)} differ from when it was started")
        return
    if resume and not overwrite:
        raise UsageError(f"{folder}: expected a training run to resume, found no {RUN_NAME}")
    for name in (STATE_NAME, HISTORY_NAME, CURVES_NAME, BEST_NAME, LAST_NAME):
        (folder / name).unlink(missing_ok=True)
    atomic.write_text(run, json.dumps(_run_document(settings, None), indent=2) + "\n")


def _read_run(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"{path}: expected the settings of a training run (version {SCHEMA_VERSION})")
    return found


def _run_document(settings: dict[str, Any], result: TrainingResult | None) -> dict[str, Any]:
    outcome = None
    if result is not None:
        outcome = {"epochs": result.epochs, "best": asdict(result.best), "last": asdict(result.last)}
    return {"schema_version": SCHEMA_VERSION, "settings": settings, "result": outcome}


def _write_run(folder: Path, settings: dict[str, Any], result: TrainingResult) -> None:
    atomic.write_text(folder / RUN_NAME, json.dumps(_run_document(settings, result), indent=2) + "\n")


def _write_history(folder: Path, history: list[EpochRecord]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    atomic.write_text(folder / HISTORY_NAME, text.getvalue())
