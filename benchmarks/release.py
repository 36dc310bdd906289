"""Turn a finished training run into weights that ship: checkpoint, facts, card, curves.

    python -m nanonet_edge.benchmarks.release RUN DATA FOLDER [--ship best|last] [--folds RUN ...]

RUN is a folder that `nanonet-edge train` wrote, DATA the dataset that it was given, with its splits
train and validation: validation images that show what a training image shows are named, and the
accuracy is given without them, too. `python -m nanonet_edge.export.record` then adds the calibration.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from nanonet_edge import atomic
from nanonet_edge.benchmarks.accuracy import evaluate_models
from nanonet_edge.benchmarks.accuracy_data import open_data
from nanonet_edge.benchmarks.accuracy_models import find_models
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.data.check import check_dataset
from nanonet_edge.errors import InputError, NanonetEdgeError
from nanonet_edge.metrics import mean_accuracy
from nanonet_edge.training.run import BEST_NAME, CURVES_NAME, LAST_NAME, read_run
from nanonet_edge.variants import DEFAULT_SIZE, Topology, Variant
from nanonet_edge.weights import files_of
from nanonet_edge.weights.card import render_card
from nanonet_edge.weights.facts import CrossValidation, Facts, Fold, Validated

Which = Literal["best", "last"]
_DATA = "kvasir-seg"
_TRAINING, _VALIDATION = "train", "validation"
#: What both presets have.
_BATCH = 16


def release(
    run: Path,
    data: Path,
    folder: Path,
    *,
    ship: Which = "best",
    folds: Sequence[Path] = (),
    remarks: Sequence[str] = (),
) -> Facts:
    """Write a run's weights, facts, card and curves into `folder`; returns the facts.

    Raises:
        InputError: a run is not finished, not a run, or not of a NanoNet; the folds are not
            those of one cross-validation.
        NanonetEdgeError: the validation images or a checkpoint cannot be used.
    """
    settings, result = _finished(run)
    cross_validation = _cross_validation(folds)
    images, leaked = open_data(data, split=_VALIDATION), _leaked(data)
    names: dict[Which, str] = {"best": BEST_NAME, "last": LAST_NAME}
    size = settings["recipe"]["stages"][-1]["size"]
    validated = {
        which: _validated(run / name, images, size, result[which]["epoch"], leaked)
        for which, name in names.items()
    }
    checkpoint = load_checkpoint(run / names[ship])
    if not isinstance(checkpoint.variant, Variant) or checkpoint.topology is None:
        raise InputError(f"{run}: expected a NanoNet, found {checkpoint.variant.title}: it does not ship")
    files = files_of(checkpoint.variant, checkpoint.topology, folder)
    atomic.write_bytes(files.checkpoint, checkpoint.path.read_bytes())
    facts = Facts(
        variant=checkpoint.variant.name,
        topology=checkpoint.topology,
        size=size,
        parameters=checkpoint.graph.parameters,
        sha256=checkpoint.sha256,
        bytes=files.checkpoint.stat().st_size,
        settings=settings,
        command=command_of(settings),
        epochs=result["epochs"],
        shipped=ship,
        best=validated["best"],
        last=validated["last"],
        images=len(images),
        leaked=leaked,
        remarks=tuple(remarks),
        cross_validation=cross_validation,
    )
    atomic.write_text(files.facts, facts.model_dump_json(indent=2) + "\n")
    atomic.write_text(files.card, render_card(facts))
    atomic.write_bytes(files.curves, (run / CURVES_NAME).read_bytes())
    return facts


def command_of(settings: dict[str, Any], fold: str | None = None) -> str:
    """The command line that makes a run with these settings; files by name, without folders."""
    recipe, start = settings["recipe"], settings["start"]
    words = ["nanonet-edge", "train", "--data", _DATA, "--variant", settings["variant"]]
    if settings["topology"] != Topology.RELEASED:
        words += ["--topology", settings["topology"]]
    words += ["--preset", recipe["name"], "--epochs", str(sum(stage["epochs"] for stage in recipe["stages"]))]
    for option, key in (("--encoder-weights", "encoder"), ("--weights", "weights"), ("--teacher", "teacher")):
        if start[key]:
            words += [option, start[key]["file"]]
    if not (start["encoder"] or start["weights"]):
        words.append("--random-encoder")
    size = recipe["stages"][-1]["size"]
    for option, value, default in (("--size", size, DEFAULT_SIZE), ("--batch", recipe["batch"], _BATCH)):
        if value != default:
            words += [option, str(value)]
    if start["teacher"]:
        words += ["--distillation", f"{recipe['distillation']:g}"]
    if fold is not None:
        words += ["--fold", fold]
    return shlex.join([*words, "--seed", str(settings["seed"])])


def _finished(run: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    found = read_run(run)
    if found["result"] is None:
        raise InputError(f"{run}: expected a finished training run, found one that goes on")
    return found["settings"], found["result"]


def _leaked(data: Path) -> tuple[str, ...]:
    """Names of validation images of which training has a near copy."""
    report = check_dataset(data, (_TRAINING, _VALIDATION))
    files = {file for finding in report.findings if finding.kind == "leak" for file in finding.files}
    return tuple(sorted(Path(file).name for file in files if Path(file).parts[0] == _VALIDATION))


def _validated(
    checkpoint: Path, data: VerificationData, size: int, epoch: int, leaked: Sequence[str]
) -> Validated:
    (row,) = evaluate_models(find_models([checkpoint], size=size), data).rows
    if row.mean is None:
        raise InputError(f"{checkpoint}: could not be evaluated: {row.failure}")
    clean = [image.accuracy for image in row.images if image.name not in leaked]
    return Validated(
        epoch=epoch + 1, accuracy=row.mean, without_leaks=mean_accuracy(clean) if leaked and clean else None
    )


def _cross_validation(folds: Sequence[Path]) -> CrossValidation | None:
    if not folds:
        return None
    runs = [_finished(fold) for fold in folds]
    first = runs[0][0]
    for fold, (settings, _) in zip(folds, runs, strict=True):
        if any(settings[key] != first[key] for key in ("variant", "topology", "recipe")):
            raise InputError(f"{fold}: expected a run like {folds[0]}, found another network or recipe")
    if len({settings["validation"]["digest"] for settings, _ in runs}) < len(runs):
        raise InputError(f"{folds[0]}: expected runs that validate on different images, found the same twice")
    return CrossValidation(
        command=command_of(first, f"K/{len(runs)}"),
        folds=tuple(
            Fold(
                part=index,
                images=settings["validation"]["images"],
                best_dsc=result["best"]["dsc"],
                last_dsc=result["last"]["dsc"],
            )
            for index, (settings, result) in enumerate(runs, start=1)
        ),
    )


def main() -> int:
    """Run from the command line; 0, or an exit code of `nanonet_edge.errors` after one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m nanonet_edge.benchmarks.release", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ship", choices=("best", "last"), default="best")
    parser.add_argument("--remark", nargs="+", default=(), help="what else to know, for the card")
    parser.add_argument("--folds", type=Path, nargs="+", default=())
    given = parser.parse_args()
    try:
        facts = release(
            given.run, given.data, given.folder, ship=given.ship, folds=given.folds, remarks=given.remark
        )
    except NanonetEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(facts.accuracy.model_dump(mode="json")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
