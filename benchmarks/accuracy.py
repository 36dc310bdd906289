"""Hold models against ground truth, image by image.

Images pass through once: each is decoded, every model answers, figures are kept and pixels
dropped. As in the paper, the figures of a set are means over its images; those of all its
pixels together stand beside them.

Figures are those of scikit-learn's binary scores, which the released code takes, but where a
ratio has no denominator: see `ImageAccuracy`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from nanonet_edge.benchmarks.accuracy_models import Model, OpenModel, find_models
from nanonet_edge.benchmarks.accuracy_result import (
    AccuracyResult,
    AccuracyRow,
    AccuracySettings,
    ImageRecord,
    Speed,
)
from nanonet_edge.benchmarks.accuracy_speed import StartWorker, measure_speed
from nanonet_edge.benchmarks.agreement import Labels, Probability, Progress, labels
from nanonet_edge.benchmarks.agreement_data import Item, VerificationData
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.contract import PROBABILITY_THRESHOLD
from nanonet_edge.datasets import resize_mask
from nanonet_edge.errors import (
    DatasetError,
    MissingExtraError,
    NanonetEdgeError,
    RuntimeFailure,
    UnsupportedError,
    UsageError,
)
from nanonet_edge.machine import read_machine
from nanonet_edge.masks import confusion
from nanonet_edge.metrics import NOT_FINITE, accuracy_of, mean_accuracy, pooled_accuracy, summarise_accuracy
from nanonet_edge.results import BenchSettings, RuntimeInfo, Skipped


@dataclass
class _Run:
    """What is gathered of one model."""

    model: Model
    opened: OpenModel | None = None
    runtime: RuntimeInfo | None = None
    failure: NanonetEdgeError | None = None
    images: list[ImageRecord] = field(default_factory=list)


def evaluate_model(
    path: Path | str, data: VerificationData, settings: AccuracySettings | None = None
) -> AccuracyRow:
    """Hold one checkpoint, or one artifact of a bundle, against ground truth.

    Args:
        path: as `find_models` takes it.
        data: images with masks, from `accuracy_data.open_data`.
        settings: None for the defaults.

    Raises:
        UsageError: `path` is a bundle with several artifacts.
        RuntimeFailure: the engine refused the model or failed on an image.
        NanonetEdgeError: as `find_models` and `evaluate_models`.
    """
    models = find_models([path])
    if len(models) != 1:
        names = ", ".join(model.record.name for model in models)
        raise UsageError(f"{path}: expected one model, found {names}")
    (row,) = evaluate_models(models, data, settings).rows
    if row.failure is not None:
        raise RuntimeFailure(row.failure)
    return row


def evaluate_models(
    models: Sequence[Model],
    data: VerificationData,
    settings: AccuracySettings | None = None,
    *,
    speed: BenchSettings | None = None,
    progress: Progress | None = None,
    start: StartWorker = Worker,
) -> AccuracyResult:
    """Hold models against ground truth, and each one against the first.

    A model that its engine refuses, or that fails on an image, gets a row that says so; the
    others go on. One whose engine is not installed is skipped.

    Args:
        models: from `find_models`.
        data: images with masks.
        settings: None for the defaults.
        speed: how to measure speed as well, with the threads of `settings`; None for not at all.
        progress: called with ("evaluate", images done, images), then ("speed", models done, models).
        start: how to start a measuring process.

    Raises:
        DatasetError: there are no masks, an image cannot be read, or its mask has another size.
        UsageError: there are no images.
        MissingExtraError: no model could be run, for want of an engine.
    """
    settings = settings or AccuracySettings()
    report = progress or (lambda stage, done, total: None)
    if len(data) == 0:
        raise UsageError("evaluate: expected at least one image, found none")
    if not data.record.masks:
        raise DatasetError(f"{data.record.folder}: expected ground-truth masks, found none")
    with contextlib.ExitStack() as stack:
        runs, skipped = _open_all(models, settings, stack)
        for done, item in enumerate(data):
            report("evaluate", done, len(data))
            for run in runs:
                _answer(run, item, settings)
        report("evaluate", len(data), len(data))
    speeds: list[Speed | None] = [None] * len(runs)
    if speed is not None:
        asked = speed.model_copy(update={"threads": settings.threads})
        for done, run in enumerate(runs):
            report("speed", done, len(runs))
            speeds[done] = None if run.failure else measure_speed(run.model, data, asked, start)
        report("speed", len(runs), len(runs))
    return AccuracyResult(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine=read_machine(),
        data=data.record,
        settings=settings,
        rows=tuple(_row(run, runs[0], found, settings.seed) for run, found in zip(runs, speeds, strict=True)),
        skipped=skipped,
    )


def predicted_mask(
    mask: Labels, probability: Probability | None, settings: AccuracySettings, shape: tuple[int, int]
) -> Labels:
    """The mask that is held against a true mask of `shape`, by resolution and threshold.

    Args:
        mask: (h, w) uint8 as the model gives it, at a threshold of 0.5.
        probability: (h, w, classes) float32; None if the model puts out masks alone.
        settings: of the evaluation.
        shape: (height, width) of the true mask as it is stored.

    Returns:
        Labels at the network's resolution (h, w), or at `shape`.

    Raises:
        UnsupportedError: the settings need probabilities and there are none, or the threshold
            is not 0.5 and there are several classes.
    """
    is_network = settings.resolution == "network"
    if is_network and settings.threshold == PROBABILITY_THRESHOLD:
        return mask
    if probability is None:
        raise UnsupportedError(
            "its head is a mask, without probabilities: expected resolution 'network' and "
            f"threshold {PROBABILITY_THRESHOLD}"
        )
    if not is_network:
        probability = _resized(probability, shape)
    if probability.shape[-1] == 1:
        return np.asarray(probability[..., 0] > settings.threshold, np.uint8)
    if settings.threshold != PROBABILITY_THRESHOLD:
        raise UnsupportedError("several classes have no threshold: the largest probability wins")
    return labels(probability)


def _resized(probability: Probability, shape: tuple[int, int]) -> Probability:
    import cv2

    height, width = shape
    resized = cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32).reshape(height, width, probability.shape[-1])


def _open_all(
    models: Sequence[Model], settings: AccuracySettings, stack: contextlib.ExitStack
) -> tuple[list[_Run], tuple[Skipped, ...]]:
    runs: list[_Run] = []
    missing: list[tuple[str, MissingExtraError]] = []
    for model in models:
        run = _Run(model)
        try:
            opened = stack.enter_context(model.open(settings.threads))
            run.opened, run.runtime = opened, opened.runtime
        except MissingExtraError as error:
            missing.append((model.record.name, error))
            continue
        except NanonetEdgeError as error:
            run.failure = error
        runs.append(run)
    if not runs and missing:
        raise missing[0][1]
    return runs, tuple(Skipped(artifact=name, reason=str(error)) for name, error in missing)


def _answer(run: _Run, item: Item, settings: AccuracySettings) -> None:
    if run.opened is None or run.failure is not None or item.mask is None:
        return
    try:
        mask, probability = run.opened.answer(item)
        # A comparison with NaN is false: the mask would look empty, and so perhaps right.
        if probability is not None and not np.isfinite(probability).all():
            raise RuntimeFailure(f"{item.name}: {NOT_FINITE}")
        height, width = item.mask.shape
        found = predicted_mask(mask, probability, settings, (height, width))
    except NanonetEdgeError as error:
        run.failure = error
        return
    truth = item.mask if settings.resolution == "original" else resize_mask(item.mask, mask.shape[:2])
    counts = confusion(truth, found)
    run.images.append(
        ImageRecord(
            name=item.name,
            height=truth.shape[0],
            width=truth.shape[1],
            counts=counts,
            accuracy=accuracy_of(counts),
        )
    )


def _row(run: _Run, first: _Run, speed: Speed | None, seed: int) -> AccuracyRow:
    model = run.model.record
    if run.failure is not None:
        return AccuracyRow(
            model=model, runtime=run.runtime, failure=f"{model.name} on {model.spec}: {run.failure}"
        )
    ours = [image.accuracy for image in run.images]
    difference = None
    if run is not first and first.failure is None:
        difference = summarise_accuracy([image.accuracy for image in first.images], ours, seed).difference
    return AccuracyRow(
        model=model,
        runtime=run.runtime,
        mean=mean_accuracy(ours, seed),
        pooled=pooled_accuracy([image.counts for image in run.images], seed),
        difference=difference,
        speed=speed,
        images=tuple(run.images),
    )
