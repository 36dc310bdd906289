"""What emulated runs write as JSON: differences of raw outputs, agreement of masks, counts."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from nanonet_edge.benchmarks.agreement_result import Thresholds
from nanonet_edge.benchmarks.emulation.emulator import GuestInfo
from nanonet_edge.benchmarks.emulation.instructions import InstructionClass
from nanonet_edge.machine import Machine
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.metrics import AgreementSummary
from nanonet_edge.results import Skipped
from nanonet_edge.variants import Format, Precision

SCHEMA_VERSION: Final = 1


def verify_name(device: str, machine: str) -> str:
    """File name of an emulated verification: ``verify.raspberry-pi-4.aarch64.json``."""
    return f"verify.{device}.{machine}.json"


def count_name(device: str) -> str:
    """File name of a count of instructions: ``count.raspberry-pi-4.json``."""
    return f"count.{device}.json"


class Emulated(Record):
    """The emulated machine: the device it stands for, its processor as QEMU calls it, QEMU, the host.

    `contents` maps what is installed in it to versions.
    """

    device: str
    machine: str
    core: str
    qemu: str
    contents: dict[str, str]
    host: Machine


class Frames(Record):
    """The frames that were run: the bundle's golden ones, or images of the user's."""

    source: Literal["golden", "images"]
    description: str
    count: int = Field(ge=1)
    digest: Sha256


class RawDifference(Record):
    """The guest's raw outputs against the host's, over all frames.

    `max_difference` and `mean_difference` are absolute, in stored units: steps of the integer
    (LSB), or the float itself. `beyond` is how many differ by more than `step`: 1 LSB, or 1e-6.
    """

    values: int
    differing: int
    max_difference: float | None
    mean_difference: float | None
    step: float
    beyond: int
    not_finite: int = 0

    @property
    def is_identical(self) -> bool:
        """Whether every bit agrees."""
        return self.differing == 0 and self.not_finite == 0


class Expectation(Record):
    """What raw outputs must be: at most `limit` apart (0: bit-identical), or None, and why."""

    limit: float | None
    reason: str


class EmulatedRow(Record):
    """One artifact on one emulated engine.

    Either `failure` says why it could not be run, or the figures are there. `reasons` say what was
    missed; it `passed` if there are none. `host_dice` are the masks' Dice of guest and host, image
    by image; `summary` is the guest's agreement with the reference.
    """

    artifact: str
    format: Format
    precision: Precision
    engine: str
    guest: GuestInfo | None = None
    host_spec: str | None = None
    host_version: str | None = None
    raw: RawDifference | None = None
    expectation: Expectation | None = None
    host_dice: tuple[float, ...] = ()
    summary: AgreementSummary | None = None
    passed: bool
    reasons: tuple[str, ...] = ()
    failure: str | None = None

    @model_validator(mode="after")
    def _figures_or_failure(self) -> Self:
        if (self.raw is None) == (self.failure is None):
            raise ValueError("expected either figures or a failure")
        if self.passed == bool(self.reasons):
            raise ValueError("expected reasons if and only if the verdict failed")
        return self


class EmulatedResult(Record):
    """``verify.DEVICE.MACHINE.json``; `passed` if every row did. There are no times in it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["verify-emulated"] = "verify-emulated"
    obtained: Literal["emulated"] = "emulated"
    created: str
    bundle: str
    manifest_sha256: Sha256
    emulated: Emulated
    frames: Frames
    thresholds: Thresholds
    rows: tuple[EmulatedRow, ...] = Field(min_length=1)
    skipped: tuple[Skipped, ...] = ()
    passed: bool


class CountRow(Record):
    """Instructions that one inference of an artifact executes on one engine, with 1 thread.

    Of `invokes` that were counted the second is given, by class; `spread` is how far the totals of
    all but the first lie apart, which is Python's doing around the engine. In another process, or
    on another day, the same invoke takes the very same number.
    """

    artifact: str
    engine: str
    guest: GuestInfo | None = None
    total: int | None = Field(default=None, ge=1)
    classes: dict[InstructionClass, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    invokes: int = 0
    spread: int = 0
    failure: str | None = None

    @model_validator(mode="after")
    def _count_or_failure(self) -> Self:
        if (self.total is None) == (self.failure is None):
            raise ValueError("expected either a count or a failure")
        if self.total is not None and self.total != sum(self.classes.values()):
            raise ValueError("expected the classes to add up to the total")
        return self


class CountResult(Record):
    """``count.DEVICE.json``."""

    schema_version: Literal[1] = SCHEMA_VERSION
    kind: Literal["count-emulated"] = "count-emulated"
    obtained: Literal["emulated"] = "emulated"
    created: str
    bundle: str
    manifest_sha256: Sha256
    emulated: Emulated
    rows: tuple[CountRow, ...] = Field(min_length=1)
    skipped: tuple[Skipped, ...] = ()


class CountChange(Record):
    """An artifact's instructions compared with an earlier count; `change` is the relative increase."""

    artifact: str
    engine: str
    earlier: int
    now: int
    change: float
    passed: bool
