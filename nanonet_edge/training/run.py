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
from nanonet_edge.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nanonet_edge.errors import CheckpointError, InputError, UsageError
from nanonet_edge.extras import ensure, version_of
from nanonet_edge.graph import Graph
from nanonet_edge.network import build_network, initial_fill
from nanonet_edge.training.curves import draw_curves
from nanonet_edge.training.data import TrainingSet
from nanonet_edge.training.recipe import Recipe
from nanonet_edge.training.start import place_encoder
from nanonet_edge.training.state import EpochRecord
from nanonet_edge.training.trainer import Report, Tick, Trainer
from nanonet_edge.variants import Network, Topology, Variant, topology_of

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
        encoder: file of MobileNetV2 weights as Keras distributes them, for a NanoNet.
        weights: checkpoint of the same variant and topology.
        teacher: checkpoint of any variant, for a recipe with distillation.
    """

    encoder: Path | None = None
    weights: Path | None = None
    teacher: Path | None = None


@dataclass(frozen=True)
class Job:
    """What is trained, and how: with the data, all that decides the weights that come out.

    Attributes:
        variant: which network.
        topology: of a NanoNet; None is `released`.
        recipe: what to do: see `nanonet_edge.training.PRESETS`.
        start: where the weights come from.
        seed: of the initial weights, the order and the augmentation.
    """

    variant: Network
    recipe: Recipe
    topology: Topology | None = None
    start: Start = Start()
    seed: int = 0


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
    job: Job,
    training: TrainingSet,
    validation: TrainingSet,
    output: Path | str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Report = lambda record: None,
    on_step: Tick = lambda epoch, step, steps, loss: None,
) -> TrainingResult:
    """Train a network and write its weights.

    The validation images select the stopping point and nothing else; the result gives the last
    epoch beside the best.

    Args:
        job: which network, from where, by which recipe.
        training, validation: images at the size of the recipe's last stage.
        output: folder of the run.
        resume: go on with an unfinished run in `output`; its settings and data must be the same.
        overwrite: replace what is in `output`.
        on_epoch, on_step: as in `Trainer`.

    Raises:
        UsageError: `output` holds a run and neither `resume` nor `overwrite` is given, or a
            resumed run's settings differ; a teacher without distillation, or the reverse; an
            encoder for a network that has none; validation images of another size.
        InputError: the run in `output` is damaged.
        CheckpointError: a file of `start` is damaged or holds another network, or one of several
            classes.
        TrainingError: a loss is not finite.
        MissingExtraError: Keras, albumentations or matplotlib is not installed.
    """
    ensure("keras", "albumentations", "matplotlib")
    if (job.start.teacher is None) != (job.recipe.distillation == 0):
        raise UsageError("distillation takes both: a teacher, and a weight for it in the recipe")
    if job.start.encoder is not None and not isinstance(job.variant, Variant):
        raise UsageError(f"{job.variant.title} has no MobileNetV2 encoder: give no weights for one")
    size = job.recipe.stages[-1].size
    if validation.frames.shape[1] != size:
        raise UsageError(f"expected validation images of {size} pixels, found {validation.frames.shape[1]}")
    folder = Path(output)
    settings = _settings(job, training, validation)
    _prepare(folder, settings, resume=resume, overwrite=overwrite)
    teacher = _one_class(load_checkpoint(job.start.teacher)) if job.start.teacher is not None else None

    def after_epoch(record: EpochRecord) -> None:
        _write_history(folder, trainer.state.history)
        on_epoch(record)

    trainer = Trainer(
        _first_graph(job),
        job.recipe,
        training,
        validation,
        folder / STATE_NAME,
        seed=job.seed,
        teacher=teacher,
        on_epoch=after_epoch,
        on_step=on_step,
    )
    state = trainer.run()
    # A run killed after its last epoch was kept may lack that line.
    _write_history(folder, state.history)
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


def _first_graph(job: Job) -> Graph:
    """The network with the weights to start from."""
    if job.start.weights is not None:
        topology = topology_of(job.variant, job.topology)
        return _one_class(load_checkpoint(job.start.weights, variant=job.variant.name, topology=topology))
    size = job.recipe.stages[-1].size
    graph = build_network(job.variant, job.topology, size=size, fill=initial_fill(job.seed))
    if job.start.encoder is None:
        return graph
    return place_encoder(graph, job.start.encoder, adapt_input=job.recipe.adapt_input)


def _one_class(checkpoint: Checkpoint) -> Graph:
    if checkpoint.classes != 1:
        raise CheckpointError(f"{checkpoint.path}: expected one class, found {checkpoint.classes}")
    return checkpoint.graph


def _settings(job: Job, training: TrainingSet, validation: TrainingSet) -> dict[str, Any]:
    from nanonet_edge.manifest import sha256_file

    def described(data: TrainingSet) -> dict[str, Any]:
        return {"images": len(data), "digest": data.digest, "skipped": sorted(data.skipped)}

    topology = topology_of(job.variant, job.topology)
    given = {item.name: getattr(job.start, item.name) for item in fields(job.start)}
    return {
        "variant": job.variant.name,
        "topology": str(topology) if topology else None,
        "recipe": job.recipe.as_dict(),
        "start": {
            name: {"file": path.name, "sha256": sha256_file(path)} if path else None
            for name, path in given.items()
        },
        "training": described(training),
        "validation": described(validation),
        "seed": job.seed,
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "keras": version_of("keras"),
    }


def _prepare(folder: Path, settings: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Leave `folder` ready for a run with these settings, or say why it is not."""
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    run = folder / RUN_NAME
    if run.exists() and not overwrite:
        found = read_run(folder)
        if not resume:
            raise UsageError(
                f"{folder}: holds a training run: --resume goes on with it, --overwrite replaces it"
            )
        if found["result"]:
            raise UsageError(f"{folder}: this run is finished: nothing to resume")
        # Through JSON, as the file has been: tuples have become lists.
        wanted = json.loads(json.dumps(settings))
        differs = _differing(wanted, found["settings"])
        if differs:
            raise UsageError(
                f"{folder}: cannot be resumed: {', '.join(differs)} differ from when it was started"
            )
        return
    if resume:
        raise UsageError(f"{folder}: expected a training run to resume, found no {RUN_NAME}")
    for name in (RUN_NAME, STATE_NAME, HISTORY_NAME, CURVES_NAME, BEST_NAME, LAST_NAME):
        (folder / name).unlink(missing_ok=True)
    atomic.write_text(run, json.dumps(_run_document(settings, None), indent=2) + "\n")


def _differing(wanted: dict[str, Any], found: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of what differs, such as "seed" and "recipe.batch"."""
    names = []
    for key, value in wanted.items():
        other = found.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            names += _differing(value, other, f"{prefix}{key}.")
        elif value != other:
            names.append(prefix + key)
    return names


def read_run(folder: Path) -> dict[str, Any]:
    """The settings of a run and its result (None while it goes on): `settings`, `result`.

    Raises:
        InputError: the folder holds no run, or a damaged one.
    """
    path = folder / RUN_NAME
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        is_run = found["schema_version"] == SCHEMA_VERSION and isinstance(found["settings"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        is_run = False
    if not is_run or "result" not in found:
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
