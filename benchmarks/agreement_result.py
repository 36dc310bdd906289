"""`verify.json`: what an agreement run found."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from nanonet_edge.benchmarks.agreement_data import DataRecord
from nanonet_edge.machine import Machine
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.metrics import (
    NOT_FINITE,
    AccuracySummary,
    AgreementSummary,
    ImageAccuracy,
    ImageAgreement,
    Stratum,
)
from nanonet_edge.results import Obtained, RuntimeInfo, Skipped
from nanonet_edge.variants import Format, Precision

VERIFY_NAME = "verify.json"


class Thresholds(Record):
    """What an artifact must reach to pass: mean Dice and its 5th percentile over the images."""

    mean_dice: float = Field(default=0.99, ge=0.0, le=1.0)
    p5_dice: float = Field(default=0.95, ge=0.0, le=1.0)


class ReferenceRecord(Record):
    """The reference: `golden_max_delta_p` is its largest distance to the bundle's golden vectors."""

    name: str
    version: str | None
    golden_count: int
    golden_max_delta_p: float


class ImageResult(Record):
    """One artifact on one image; accuracies are None where there is no ground truth."""

    agreement: ImageAgreement
    artifact_accuracy: ImageAccuracy | None = None
    reference_accuracy: ImageAccuracy | None = None


class AgreementRow(Record):
    """One artifact on one runtime.

    Either `failure` says why it could not be run, or the figures are there. `reasons` are the
    thresholds it missed, or the failure; it `passed` if there are none. `notes` are what else
    should be known when the figures are read. Where it was not `judged`, `unjudged_reason` says
    why, and whether it passed does not count.
    """

    artifact: str
    format: Format
    precision: Precision
    spec: str
    runtime: RuntimeInfo | None
    summary: AgreementSummary | None
    small_polyps: Stratum | None
    accuracy: AccuracySummary | None
    passed: bool
    judged: bool = True
    unjudged_reason: str | None = None
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    failure: str | None = None
    images: tuple[ImageResult, ...]

    @model_validator(mode="after")
    def _figures_or_failure(self) -> Self:
        if (self.summary is None) == (self.failure is None):
            raise ValueError("expected either figures or a failure")
        if self.passed == bool(self.reasons):
            raise ValueError("expected reasons if and only if the verdict failed")
        if self.judged != (self.unjudged_reason is None):
            raise ValueError("expected a reason if and only if the row was not judged")
        return self

    @property
    def not_finite(self) -> tuple[str, ...]:
        """The images on which its output held NaN or infinity."""
        agreements = (image.agreement for image in self.images)
        return tuple(one.name for one in agreements if one.missing.get("max_delta_p") == NOT_FINITE)

    def worst(self, count: int) -> tuple[ImageResult, ...]:
        """The images that agree least, worst first."""

        def agreement(image: ImageResult) -> tuple[float, float]:
            return image.agreement.dice, image.agreement.pixel_agreement

        return tuple(sorted(self.images, key=agreement)[:count])


class VerifyResult(Record):
    """`verify.json`; `passed` if every artifact that was judged did, on every runtime.

    `skipped` are those whose engine is not installed.
    """

    schema_version: Literal[1] = 1
    kind: Literal["verify"] = "verify"
    obtained: Obtained = "measured"
    created: str
    bundle: str
    manifest_sha256: Sha256
    machine: Machine
    data: DataRecord
    reference: ReferenceRecord
    thresholds: Thresholds
    passed: bool
    artifacts: tuple[AgreementRow, ...] = Field(min_length=1)
    skipped: tuple[Skipped, ...] = ()
