"""The models that an evaluation looks at: found and checked on disk, then opened.

A model is named by a path: a checkpoint, a bundle (all its artifacts), or one artifact of a
bundle, by its file or as BUNDLE/NAME.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from nanonet_edge.benchmarks.accuracy_result import ModelRecord
from nanonet_edge.benchmarks.agreement import Labels, Probability, answer, labels
from nanonet_edge.benchmarks.agreement_data import Item
from nanonet_edge.benchmarks.agreement_select import select_contenders
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.checkpoint import Checkpoint, load_checkpoint
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.extras import ensure
from nanonet_edge.manifest import MANIFEST_NAME
from nanonet_edge.reference import KerasReference
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes import ArtifactRuntime, KerasRuntime, open_runtime
from nanonet_edge.runtimes.keras_reference import running_threads
from nanonet_edge.variants import DEFAULT_SIZE, Topology

CHECKPOINT_SUFFIXES = (".h5", ".hdf5", ".keras")


class OpenModel(Protocol):
    """A model that is loaded; `runtime` says how it runs."""

    runtime: RuntimeInfo

    def answer(self, item: Item, /) -> tuple[Labels, Probability | None]:
        """The mask (h, w) uint8 and, unless that is all it puts out, probabilities (h, w, classes)."""


class _KerasModel:
    """A checkpoint that Keras runs."""

    def __init__(self, reference: KerasReference) -> None:
        self._reference = reference
        self.runtime = RuntimeInfo(
            name=KerasRuntime.name,
            version=reference.version or "unknown",
            delegate="none",
            device="CPU",
            threads=running_threads(),
            computed_precision="fp32",
            options={"call": "direct"},
        )

    def answer(self, item: Item) -> tuple[Labels, Probability | None]:
        probability = self._reference.probability(item.frame[np.newaxis])[0]
        return labels(probability), probability


class _EngineModel:
    """An artifact that an engine runs."""

    def __init__(self, engine: ArtifactRuntime) -> None:
        self._engine = engine
        self.runtime = engine.info

    def answer(self, item: Item) -> tuple[Labels, Probability | None]:
        return answer(self._engine, item)


@dataclass(frozen=True)
class CheckpointModel:
    """A checkpoint, for Keras at fp32 with the unrewritten graph.

    `place` is where it lies: the parts of its path.
    """

    checkpoint: Checkpoint
    record: ModelRecord
    place: tuple[str, ...]

    @contextmanager
    def open(self, threads: int) -> Iterator[OpenModel]:
        """Build it. TensorFlow keeps the threads that it has in this process, whatever is asked for."""
        del threads
        with KerasReference(self.checkpoint, self.record.size) as reference:
            yield _KerasModel(reference)


@dataclass(frozen=True)
class ArtifactModel:
    """An artifact of an opened bundle, for one runtime; `place` as for a checkpoint."""

    bundle: Bundle
    artifact: Artifact
    record: ModelRecord
    place: tuple[str, ...]

    @contextmanager
    def open(self, threads: int) -> Iterator[OpenModel]:
        """Load it into its engine.

        Raises:
            MissingExtraError: the engine is not installed.
            RuntimeFailure: the engine refused the file.
        """
        with open_runtime(self.artifact, self.record.spec, threads) as engine:
            yield _EngineModel(engine)


Model = CheckpointModel | ArtifactModel


def find_models(
    paths: Sequence[Path | str],
    *,
    runtimes: Sequence[str] = (),
    variant: str | None = None,
    topology: Topology | None = None,
    size: int = DEFAULT_SIZE,
) -> tuple[Model, ...]:
    """Find what paths name, and check it: checkpoints are read, digests compared.

    Args:
        paths: checkpoints, bundles, artifacts; one that is named twice counts once.
        runtimes: specs; each artifact runs on every one that loads its format. None for the
            default of each format, which for a float artifact in OpenVINO is true fp32.
        variant, topology: what the checkpoints must be; None accepts any.
        size: input height and width of the checkpoints in pixels.

    Raises:
        MissingExtraError: there is a checkpoint and TensorFlow is not installed.
        CheckpointError, BundleError, InputError: a path does not lead to a model.
        UsageError: nothing is named, or a runtime is wrong or has nothing to load.
    """
    if not paths:
        raise UsageError("expected a model to evaluate: a checkpoint, a bundle or an artifact; found none")
    models: dict[tuple[tuple[str, ...], str], Model] = {}
    for path in map(Path, paths):
        is_checkpoint = path.is_file() and path.suffix.lower() in CHECKPOINT_SUFFIXES
        found = [_checkpoint(path, variant, topology, size)] if is_checkpoint else _artifacts(path, runtimes)
        for model in found:
            models.setdefault((model.place, model.record.spec), model)
    if runtimes and all(isinstance(model, CheckpointModel) for model in models.values()):
        raise UsageError(f"runtime '{runtimes[0]}' runs artifacts, found checkpoints alone")
    return _told_apart(tuple(models.values()))


def _checkpoint(path: Path, variant: str | None, topology: Topology | None, size: int) -> Model:
    ensure("tensorflow", "keras")
    checkpoint = load_checkpoint(path, variant=variant, topology=topology, size=size)
    record = ModelRecord(
        name=path.name,
        kind="checkpoint",
        variant=checkpoint.variant.name,
        topology=checkpoint.topology,
        size=size,
        sha256=checkpoint.sha256,
        spec=KerasRuntime.name,
    )
    return CheckpointModel(checkpoint, record, _parts(path))


def _artifacts(path: Path, runtimes: Sequence[str]) -> list[Model]:
    if path.is_dir():
        root, names = path, []
    elif (path.parent / MANIFEST_NAME).is_file():
        root, names = path.parent, [path.name]
    else:
        found = "nothing" if not path.exists() else f"a file with no {MANIFEST_NAME} beside it"
        kinds = ", ".join(CHECKPOINT_SUFFIXES)
        raise InputError(
            f"{path}: expected a checkpoint ({kinds}), a bundle or an artifact in one, found {found}"
        )
    bundle = Bundle.open(root)
    by_file = {file.path: record.name for record in bundle.manifest.artifacts for file in record.files}
    contenders = select_contenders(bundle, [by_file.get(name, name) for name in names], runtimes)
    # By default an artifact runs once: what its engine may compute in beside that is `verify`'s to show.
    chosen = [one for one in contenders if one.beside is None]
    return [_artifact(bundle, one.artifact, one.spec) for one in chosen]


def _artifact(bundle: Bundle, artifact: Artifact, spec: str) -> Model:
    manifest, record = bundle.manifest, artifact.record
    described = ModelRecord(
        name=record.name,
        kind="artifact",
        variant=manifest.variant,
        topology=manifest.topology,
        size=record.input.size[0],
        sha256=record.files[0].sha256,
        spec=spec,
        manifest_sha256=bundle.manifest_sha256,
        format=record.format,
        precision=record.precision,
    )
    return ArtifactModel(bundle, artifact, described, (*_parts(bundle.root), record.name))


def _parts(path: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(path)).parts


def _told_apart(models: tuple[Model, ...]) -> tuple[Model, ...]:
    """Name each model by the shortest end of its place that no other one has."""

    def name(place: tuple[str, ...]) -> str:
        ends = (tuple(place[-length:]) for length in range(1, len(place) + 1))
        return "/".join(next((end for end in ends if shared[end] == 1), place))

    places = {model.place for model in models}
    shared = Counter(place[-length:] for place in places for length in range(1, len(place) + 1))
    return tuple(
        replace(model, record=model.record.model_copy(update={"name": name(model.place)})) for model in models
    )
