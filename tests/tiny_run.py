"""A training run of NanoNet-C that takes seconds, shared by the tests that need a finished one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nanonet_edge.training import EpochRecord, Job, Recipe, Stage, TrainingResult, load, split_samples, train
from nanonet_edge.training.data import TrainingSet
from nanonet_edge.variants import get_variant
from tests.nanonet_edge.training.material import write_images

SIZE = 64

RECIPE = Recipe(
    "fast",
    (Stage(SIZE, 10, 4e-3, 1e-3, validate_every=5),),
    optimizer="adamw",
    augmentation="none",
    batch=4,
    cross_entropy=0.5,
    momentum=0.9,
    reestimate=2,
)

JOB = Job(get_variant("c"), RECIPE, seed=3)


@dataclass(frozen=True)
class TinyRun:
    """A finished run.

    Attributes:
        folder: of the run.
        data: a dataset with train/ and validation/.
        training, validation: the same in memory.
        result: what `train` gave back.
        records: what it reported, epoch by epoch.
    """

    folder: Path
    data: Path
    training: TrainingSet
    validation: TrainingSet
    result: TrainingResult
    records: list[EpochRecord]


def make_tiny_run(root: Path) -> TinyRun:
    """Train on eight generated frames, validate on three."""
    data = root / "data"
    write_images(data / "train", 8, SIZE)
    write_images(data / "validation", 3, SIZE, seed=1)
    split = split_samples(data)
    training, validation = load(split.training, SIZE), load(split.validation, SIZE)
    records: list[EpochRecord] = []
    result = train(JOB, training, validation, root / "run", on_epoch=records.append)
    return TinyRun(root / "run", data, training, validation, result, records)
