"""Predictions as they are written and printed: every figure with its range, its error, its sources."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from nanonet_edge.benchmarks.prediction.costs import Arithmetic
from nanonet_edge.benchmarks.prediction.fitted import Errors
from nanonet_edge.benchmarks.prediction.latencies import Unit
from nanonet_edge.benchmarks.prediction.roofline import Bound
from nanonet_edge.benchmarks.prediction.steps import Kind
from nanonet_edge.manifest import Record
from nanonet_edge.results import RESULTS_SCHEMA_VERSION


class Milliseconds(Record):
    """A latency that was not measured: the middle, and the range that nine of ten are expected in.

    `error` is the fit's on published figures it had not seen; `widened` says by what factors the
    range was widened beyond that error, and why.
    """

    obtained: Literal["predicted"] = "predicted"
    ms: float = Field(gt=0)
    low_ms: float = Field(gt=0)
    high_ms: float = Field(gt=0)
    error: Errors
    widened: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low_ms <= self.ms <= self.high_ms:
            raise ValueError("expected the middle to lie within the range")
        return self


class Estimate(Record):
    """One of several ways to the latency, before they are joined."""

    method: Literal["roofline", "instructions"]
    ms: float = Field(gt=0)
    detail: str


class OperatorPrediction(Record):
    """One operator: its cost, `intensity` in operations per byte, and its share of the roofline."""

    index: int
    name: str
    op: str
    kind: Kind
    arithmetic: Arithmetic
    unit: Unit
    macs: int
    bytes_moved: int
    intensity: float
    ms: float | None
    bound: Bound | None


class Capacity(Record):
    """Whether something fits: bytes needed and there, or why that is not known."""

    needed_bytes: int
    available_bytes: int | None
    fits: bool | None
    note: str

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.available_bytes is None) != (self.fits is None):
            raise ValueError("expected a verdict exactly where it is known what is there")
        return self


class MemoryNeed(Record):
    """Weights and the most activations alive at once, against main and on-chip memory.

    A lower bound: what the engine itself, its padding and its copies of weights take is not counted.
    """

    obtained: Literal["predicted"] = "predicted"
    weight_bytes: int
    peak_activation_bytes: int
    ram: Capacity
    on_chip: Capacity


class Prediction(Record):
    """What is predicted of one artifact on one device: a latency, or the `reason` why there is none.

    Attributes:
        unit: what of the device runs it; `engine` with what, on how many threads.
        estimates: the ways that the latency was arrived at.
        sources: where its figures are from.
    """

    obtained: Literal["predicted"] = "predicted"
    artifact: str
    format: str
    arithmetic: Arithmetic
    bytes: int
    macs: int
    bytes_moved: int
    unit: Unit | None
    engine: str
    threads: int | None
    latency: Milliseconds | None = None
    reason: str | None = None
    estimates: tuple[Estimate, ...] = ()
    memory: MemoryNeed
    operators: tuple[OperatorPrediction, ...] = ()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _latency_or_reason(self) -> Self:
        if (self.latency is None) == (self.reason is None):
            raise ValueError("expected either a latency or a reason")
        return self


class PredictResult(Record):
    """`predict.json`: predictions of one file or of a bundle's artifacts, and how to measure instead."""

    schema_version: Literal[1] = RESULTS_SCHEMA_VERSION
    kind: Literal["predict"] = "predict"
    obtained: Literal["predicted"] = "predicted"
    created: str
    device: str
    title: str
    bundle: str | None
    manifest_sha256: str | None
    rows: tuple[Prediction, ...] = Field(min_length=1)
    measure: str
    reproduce: str = "python -m nanonet_edge.benchmarks.prediction.fit"
