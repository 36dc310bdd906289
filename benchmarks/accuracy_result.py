"""What `evaluate` found: models against ground truth, image by image and over the set."""

from __future__ import annotations

import csv
import io
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from nanonet_edge.benchmarks.agreement_data import DataRecord
from nanonet_edge.contract import PROBABILITY_THRESHOLD
from nanonet_edge.machine import Machine
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.masks import Confusion
from nanonet_edge.metrics import ImageAccuracy, ModelAccuracy, PooledAccuracy
from nanonet_edge.results import Figure, FrameSource, Measurement, Obtained, RuntimeInfo, Skipped
from nanonet_edge.variants import Format, Precision, Topology

#: "network": the true mask is resized to the network's output, as the released code does;
#: "original": the probabilities are resized to the true mask.
Resolution = Literal["network", "original"]


class AccuracySettings(Record):
    """How masks are made and compared.

    Attributes:
        resolution: where mask and truth meet. At "original", probabilities are resized
            bilinearly to the true mask's size before the threshold.
        threshold: a pixel is polyp where its probability is above this.
        threads: of each engine. The Keras model is not held to them, its speed is.
        seed: of the bootstrap.
    """

    resolution: Resolution = "network"
    threshold: float = Field(default=PROBABILITY_THRESHOLD, ge=0.0, le=1.0)
    threads: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)


class ModelRecord(Record):
    """What was evaluated.

    Attributes:
        name: the file of a checkpoint, or the artifact, with as many of the folders above as
            tell it from the others.
        kind: a checkpoint in Keras, or an artifact of a bundle in an engine.
        variant, topology: the network; None where it has but one topology.
        size: height and width of its input in pixels.
        sha256: of the checkpoint; of the artifact's file that an engine opens.
        spec: the runtime, as `runtimes` lists them; "keras" for a checkpoint.
        manifest_sha256, format, precision: of an artifact; None for a checkpoint.
    """

    name: str
    kind: Literal["checkpoint", "artifact"]
    variant: str
    topology: Topology | None
    size: int = Field(gt=0)
    sha256: Sha256
    spec: str
    manifest_sha256: Sha256 | None = None
    format: Format | None = None
    precision: Precision | None = None


class ImageRecord(Record):
    """One model on one image; pixels are counted at `height` x `width`."""

    name: str
    height: int
    width: int
    counts: Confusion
    accuracy: ImageAccuracy


class Speed(Record):
    """How fast a model is, in two ways, each measured in a fresh process.

    Attributes:
        threads: that the engine was given.
        frames: the decoded frames of `frame_p50`.
        paper_fps: how the paper took its frame rate: 1 over the mean time of Keras's
            `model.predict` on one prepared image at a time. Only a checkpoint has one.
        invoke_p50: median of the engine alone on a prepared tensor.
        frame_p50: median from a decoded frame to its mask.
        fps: 1 over `frame_p50`.
        predict, measurement: all samples, of the paper's way and of ours.
    """

    threads: int
    frames: FrameSource
    paper_fps: Figure
    invoke_p50: Figure
    frame_p50: Figure
    fps: Figure
    predict: Measurement | None = None
    measurement: Measurement | None = None


class AccuracyRow(Record):
    """One model on one runtime: its figures, or the `failure` that left it without.

    Attributes:
        model: what was evaluated.
        runtime: what really ran; None if it could not be loaded.
        mean: means over images, as the paper reports them.
        pooled: of the pixels of all images counted together.
        difference: mean minus that of the first row, paired by image; None in the first row, or
            where one of the two failed.
        speed: None if it was not asked for.
        images: in the order of the data.
    """

    model: ModelRecord
    runtime: RuntimeInfo | None
    mean: ModelAccuracy | None = None
    pooled: PooledAccuracy | None = None
    difference: ModelAccuracy | None = None
    speed: Speed | None = None
    failure: str | None = None
    images: tuple[ImageRecord, ...] = ()

    @model_validator(mode="after")
    def _figures_or_failure(self) -> Self:
        has_figures = {self.mean is not None, self.pooled is not None, bool(self.images)}
        if has_figures != {self.failure is None}:
            raise ValueError("expected either figures and images, or a failure")
        return self


class AccuracyResult(Record):
    """The whole of an evaluation; differences are against the first row."""

    schema_version: Literal[1] = 1
    kind: Literal["evaluate"] = "evaluate"
    obtained: Obtained = "measured"
    created: str
    machine: Machine
    data: DataRecord
    settings: AccuracySettings
    rows: tuple[AccuracyRow, ...] = Field(min_length=1)
    skipped: tuple[Skipped, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong, one line each."""
        found = [row.failure for row in self.rows]
        for row in self.rows:
            if row.speed is not None:
                found.append(row.speed.fps.reason)
                # An artifact has no model.predict: that is no failure.
                found.append(row.speed.paper_fps.reason if row.model.kind == "checkpoint" else None)
        return tuple(reason for reason in found if reason is not None)

    def to_csv(self) -> str:
        """One line per model and image, with a heading; names as they are, figures in full."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        figures, counts = tuple(ImageAccuracy.model_fields), tuple(Confusion.__dataclass_fields__)
        writer.writerow(("model", "runtime", "image", "height", "width", *figures, *counts))
        for row in self.rows:
            for image in row.images:
                values = (getattr(image.accuracy, name) for name in figures)
                pixels = (getattr(image.counts, name) for name in counts)
                model = row.model
                writer.writerow(
                    (model.name, model.spec, image.name, image.height, image.width, *values, *pixels)
                )
        return text.getvalue()
