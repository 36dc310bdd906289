"""Frame rates in two ways, both labelled: the paper's, and that of `bench`.

The paper's code calls Keras's `model.predict` on one prepared image after the other and reports
1 over the mean time. Only a checkpoint can be measured so. `bench` reports medians of the
engine alone and of whole frames, after a warm-up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

import numpy as np

from nanonet_edge.benchmarks.accuracy_models import ArtifactModel, CheckpointModel, Model
from nanonet_edge.benchmarks.accuracy_result import Speed
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.timing import camera_frames
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.checkpoint import save_checkpoint
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.manifest import MANIFEST_NAME, GoldenRecord, Manifest, WeightsRecord, record_file
from nanonet_edge.reference import KerasReference
from nanonet_edge.results import BenchSettings, Figure, Measurement
from nanonet_edge.runtimes import PAPER_SPEC, KerasRuntime
from nanonet_edge.variants import Head

StartWorker = Callable[[LoadRequest], Worker]

_FRAMES = 4
NO_PREDICT = "an artifact is not run by Keras: only a checkpoint has a model.predict"


def measure_speed(
    model: Model, data: VerificationData, settings: BenchSettings, start: StartWorker = Worker
) -> Speed:
    """Measure a model in fresh processes, one after the other.

    Args:
        model: what to measure.
        data: a checkpoint is timed on its first images, an artifact on its bundle's golden frames,
            both at the size of a camera's frame.
        settings: threads, and how long and how often at least.
        start: how to start a measuring process.

    Returns:
        The figures, each with the reason where there is none.
    """
    if isinstance(model, ArtifactModel):
        load = LoadRequest(
            bundle=str(model.bundle.root),
            artifact=model.artifact.name,
            spec=model.record.spec,
            threads=settings.threads,
        )
        return _speed(model.bundle, settings, _measure(load, settings, start), NO_PREDICT)
    with checkpoint_bundle(model, data) as bundle:
        direct, predict = (
            LoadRequest(bundle=str(bundle.root), artifact=None, spec=spec, threads=settings.threads)
            for spec in (KerasRuntime.name, PAPER_SPEC)
        )
        ours, paper = _measure(direct, settings, start), _measure(predict, settings, start)
        return _speed(bundle, settings, ours, paper)


@contextmanager
def checkpoint_bundle(model: CheckpointModel, data: VerificationData) -> Iterator[Bundle]:
    """A bundle of a checkpoint without artifacts, for as long as the block runs.

    Measuring processes load bundles. Its golden frames are the first images of `data`, at the
    network's size.
    """
    import cv2

    size, checkpoint = model.record.size, model.checkpoint
    items = list(islice(data, _FRAMES))
    frames = np.stack([cv2.resize(one.frame, (size, size), interpolation=cv2.INTER_LINEAR) for one in items])
    with KerasReference(checkpoint, size) as reference:
        probability = reference.probability(frames.astype(np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        weights, golden, manifest = root / "reference.weights.h5", root / "golden.npz", root / MANIFEST_NAME
        save_checkpoint(checkpoint.graph, weights, checkpoint.path.name)
        np.savez(golden, frames=frames, probability=probability)
        described = Manifest(
            name=model.record.name,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            variant=model.record.variant,
            topology=model.record.topology,
            classes=checkpoint.classes,
            size=size,
            head=Head.PROBABILITY,
            weights=WeightsRecord(
                file=record_file(weights, root),
                sha256=checkpoint.sha256,
                origin=checkpoint.path.name,
                parameters=checkpoint.graph.parameters,
            ),
            golden=GoldenRecord(
                file=record_file(golden, root), count=len(frames), source=f"images of {data.record.folder}"
            ),
            artifacts=(),
            versions={},
        )
        manifest.write_text(described.to_json(), encoding="utf-8")
        yield Bundle.open(root)


def _measure(load: LoadRequest, settings: BenchSettings, start: StartWorker) -> Measurement | str:
    """The measurement, or in one line why there is none."""
    request = MeasureRequest(min_seconds=settings.min_seconds, min_count=settings.min_count)
    try:
        with start(load) as worker:
            worker.load()
            return worker.measure(request)
    except RuntimeFailure as error:
        return str(error)


def _speed(
    bundle: Bundle, settings: BenchSettings, ours: Measurement | str, paper: Measurement | str
) -> Speed:
    def figure(unit: str, found: Measurement | str, value: Callable[[Measurement], float]) -> Figure:
        if isinstance(found, str):
            return Figure(obtained="measured", unit=unit, reason=found)
        return Figure(obtained="measured", unit=unit, value=value(found))

    return Speed(
        threads=settings.threads,
        frames=camera_frames(bundle)[1],
        paper_fps=figure("1/s", paper, lambda m: 1000.0 / m.invoke.summary.mean_ms),
        invoke_p50=figure("ms", ours, lambda m: m.invoke.summary.p50_ms),
        frame_p50=figure("ms", ours, lambda m: m.frame.summary.p50_ms),
        fps=figure("1/s", ours, lambda m: m.frame.summary.fps),
        predict=None if isinstance(paper, str) else paper,
        measurement=None if isinstance(ours, str) else ours,
    )
