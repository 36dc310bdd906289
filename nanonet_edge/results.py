"""The JSON that measuring commands write, and where they write it.

Results lie in ``<bundle>.results/`` beside the bundle folder, so the files a manifest
vouches for are never touched: ``bench.json``, ``verify.json``, ``compare.json``. Every group
of figures says how it was obtained; a figure that is missing says why.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from nanonet_edge.atomic import write_text
from nanonet_edge.devices.watched import WatchedRun
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.figures import Figure as Figure  # noqa: PLC0414 - where it is looked for
from nanonet_edge.figures import Obtained as Obtained  # noqa: PLC0414
from nanonet_edge.machine import Conditions, Machine
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.variants import Format, Precision

RESULTS_SCHEMA_VERSION: Final = 1
BENCH_NAME = "bench.json"
MIB = 1 << 20


class LatencySummary(Record):
    """Statistics of latencies in milliseconds over all samples, none trimmed.

    `p99_ms` is None below 100 samples. `variation` is the standard deviation over the mean;
    `warning` is set where it is too large to trust the figures. `fps` is 1000 / p50.
    """

    n: int = Field(ge=1)
    min_ms: float
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float | None
    variation: float
    fps: float
    warning: str | None = None


class Latency(Record):
    """Latencies of one scope: the summary and every sample in nanoseconds, in order.

    `invoke` is the engine alone on a prepared tensor; `frame` is a decoded uint8 frame in and
    a mask out: resize, quantize, invoke, threshold. `note` says where that was put together.
    `window_ns` is when the first began and the last ended, on the clock of `time.monotonic_ns`,
    where nothing else was done in between.
    """

    obtained: Obtained
    scope: Literal["invoke", "frame"]
    note: str | None = None
    window_ns: tuple[int, int] | None = None
    warmup_runs: int = Field(ge=0)
    summary: LatencySummary
    samples_ns: tuple[int, ...] = Field(min_length=1)


class RuntimeInfo(Record):
    """What really ran: the engine's own description once the artifact was loaded.

    Attributes:
        name: the runtime, such as "litert".
        version: of the engine's own distribution.
        delegate: who executed the operators, as far as the engine tells: "XNNPACK",
            "CPUExecutionProvider", "none".
        device: where: "CPU", "GPU.0".
        threads: how many the engine was given.
        computed_precision: the arithmetic of the convolutions as the engine runs them, which
            need not be that of the file: "fp32", "bf16", "int8"; "+" joins several.
        options: what else was asked of or told by the engine.
    """

    name: str
    version: str
    delegate: str
    device: str
    threads: int
    computed_precision: str
    options: dict[str, str] = Field(default_factory=dict)


class FrameSource(Record):
    """The decoded frames of the `frame` scope."""

    description: str
    width: int
    height: int
    count: int


class Pacing(Record):
    """Frames that arrived on a clock, each served in its turn until the time was over.

    A frame's deadline is the arrival of the next one. `latency` runs from the arrival to the
    finished mask, so waiting behind a late frame counts. Of `frames` that arrived, `unserved`
    were still waiting at the end: they are among the `missed`, but have no latency.
    `worst_lateness_ms` is how long after its deadline the latest served frame was done (0: none
    was late).
    """

    obtained: Obtained
    fps: float = Field(gt=0)
    frames: int
    missed: int
    unserved: int
    missed_ratio: float
    worst_lateness_ms: float
    latency: LatencySummary
    latencies_ns: tuple[int, ...]


class Ratio(Record):
    """A ratio of medians with its bootstrap interval."""

    value: float
    low: float
    high: float
    confidence: float


class Bucket(Record):
    """One stretch of a sustained run; `conditions` were read at its end."""

    start_s: float
    summary: LatencySummary
    conditions: Conditions


class Drift(Record):
    """How the last bucket compares with the first: its median over the first one's.

    `verdict` is "slower" or "faster" only where the interval excludes 1 and the change is
    larger than the variation that is called stable; None, with a reason, if the run was too
    short to tell.
    """

    verdict: Literal["steady", "slower", "faster"] | None
    ratio: Ratio | None
    reason: str | None = None


class Sustained(Record):
    """Frames processed for minutes: back to back, or on a clock where `fps` is given."""

    obtained: Obtained
    minutes: float
    fps: float | None
    bucket_seconds: float
    buckets: tuple[Bucket, ...]
    drift: Drift
    samples_ns: tuple[int, ...]


class Measurement(Record):
    """All that was measured of one artifact on one runtime, in one fresh process.

    `startup` is the first opening: import of the engine and load of the model. `load` is a
    later one, with the engine imported and the file cached. `memory` is the resident-set
    high-water mark above the baseline of a process that has NumPy but no engine. `missing` says
    why there is no `pacing` or `sustained`, by field name.
    """

    runtime: RuntimeInfo
    startup: Figure
    load: Figure
    first_inference: Figure
    invoke: Latency
    frame: Latency
    memory: Figure
    pacing: Pacing | None = None
    sustained: Sustained | None = None
    missing: dict[str, str] = Field(default_factory=dict)


class _MeasuredRow(Record):
    """Something on a runtime: its measurement, or what went wrong.

    `watched` is the device meanwhile, None in results of versions that did not watch it.
    """

    spec: str
    bytes: int
    measurement: Measurement | None = None
    failure: str | None = None
    watched: WatchedRun | None = None

    @property
    def objection(self) -> str | None:
        """Why a measurement does not count, such as a throttled device; None if it does."""
        return None if self.watched is None or self.measurement is None else self.watched.objection

    @property
    def valid_measurement(self) -> Measurement | None:
        """The measurement, if there is one and it counts."""
        return None if self.objection is not None else self.measurement

    @model_validator(mode="after")
    def _measured_or_failed(self) -> Self:
        if (self.measurement is None) == (self.failure is None):
            raise ValueError("expected either a measurement or a failure")
        return self


class Speedup(Figure):
    """How many times faster, from interleaved rounds: `ratio` is `value` with its interval."""

    ratio: Ratio | None = None


def _no_reference() -> Speedup:
    return Speedup(obtained="measured", unit="", reason="the reference was not measured: add --reference")


class BenchRow(_MeasuredRow):
    """One artifact on one runtime.

    `frame_speedup_over_reference` is the ratio of its frame rate to the reference's, from
    rounds that both took in turn, not from the two measurements.
    """

    artifact: str
    format: Format
    precision: Precision
    graph: Literal["rewritten", "straight"]
    frame_speedup_over_reference: Speedup = Field(default_factory=_no_reference)


class ReferenceRow(_MeasuredRow):
    """The reference, the unrewritten Keras model at fp32; `bytes` is the size of the file `weights`."""

    weights: str


class Duel(Record):
    """Two artifacts on one runtime in interleaved rounds.

    `speedup` is the baseline's median latency over the contender's: above 1 the contender is
    faster. `noise_floor` is the same ratio of the baseline against itself. `verdict` is
    "faster" or "slower" only where the interval excludes 1 and the ratio lies outside the
    noise floor's interval.
    """

    obtained: Obtained
    contender: str
    baseline: str
    spec: str
    runtime: RuntimeInfo
    scope: Literal["invoke"] = "invoke"
    noise_floor: Ratio
    speedup: Ratio
    verdict: Literal["faster", "slower", "no difference shown"]
    rounds: int
    contender_rounds_ns: tuple[tuple[int, ...], ...]
    baseline_rounds_ns: tuple[tuple[int, ...], ...]


class FailedDuel(Record):
    """A comparison that could not be made; `baseline` is None where there is none to compare with."""

    contender: str
    baseline: str | None
    spec: str | None
    failure: str


class Skipped(Record):
    """An artifact that was not run, and why: its engine is not installed."""

    artifact: str
    reason: str


class BenchSettings(Record):
    """What is asked of a benchmark.

    `device` is "cpu", this machine whatever it is, or the name of its device profile.
    `min_seconds` and `min_count` are both reached, in each scope. `fps` adds a paced run;
    `sustained_minutes` a long one, at that pace if `fps` is given, else back to back.
    """

    device: str = Field(default="cpu", min_length=1, max_length=64)
    threads: int = Field(default=1, ge=1)
    min_seconds: float = Field(default=3.0, ge=0)
    min_count: int = Field(default=100, ge=1)
    fps: float | None = Field(default=None, gt=0)
    sustained_minutes: float | None = Field(default=None, gt=0)


class BenchResult(Record):
    """`bench.json`; `detected` names the device profiles that the machine was recognised as."""

    schema_version: Literal[1] = RESULTS_SCHEMA_VERSION
    kind: Literal["bench"] = "bench"
    created: str
    bundle: str
    manifest_sha256: Sha256
    machine: Machine
    detected: tuple[str, ...] = ()
    settings: BenchSettings
    frames: FrameSource
    reference: ReferenceRow | None = None
    rows: tuple[BenchRow, ...]
    skipped: tuple[Skipped, ...] = ()
    duels: tuple[Duel, ...] = ()
    failed_duels: tuple[FailedDuel, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong, one line each."""
        measured = self.rows if self.reference is None else (self.reference, *self.rows)
        rows = tuple(row.failure for row in measured if row.failure is not None)
        return rows + tuple(duel.failure for duel in self.failed_duels if duel.baseline is not None)

    @property
    def objections(self) -> tuple[str, ...]:
        """What was measured and does not count, one line each with its reason."""
        named: list[tuple[str, _MeasuredRow]] = [(f"{row.artifact} on {row.spec}", row) for row in self.rows]
        if self.reference is not None:
            named.insert(0, (f"the reference on {self.reference.spec}", self.reference))
        return tuple(f"{what}: {row.objection}" for what, row in named if row.objection is not None)


AnyResult = TypeVar("AnyResult", bound=Record)


def results_folder(bundle: Path | str) -> Path:
    """Where the results of a bundle are kept: ``artifacts/nanonet-c.results`` for ``artifacts/nanonet-c``."""
    root = Path(bundle)
    if root.name in ("", ".."):
        root = Path(os.path.abspath(root))
    return root.with_name(f"{root.name}.results")


def check_writable(path: Path) -> None:
    """Find out before the work that a result could not be written; nothing is created.

    Raises:
        UsageError: `path` is a folder, or a file stands where its folder should be, or that folder
            must not be written to.
    """
    if path.is_dir():
        raise UsageError(f"{path}: expected a file to write the results to, found a folder")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UsageError(f"{path}: expected a folder to write the results into, found the file {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the results cannot be written: {folder} is read-only")


def save_result(result: Record, path: Path) -> None:
    """Write a result all at once."""
    write_text(path, json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")


def set_aside(path: Path) -> Path:
    """Rename ``bench.json`` to ``bench.earlier.json``, replacing one that was set aside before."""
    other = path.with_suffix(f".earlier{path.suffix}")
    path.replace(other)
    return other


def load_result(path: Path, model: type[AnyResult]) -> AnyResult:
    """Read a result such as ``load_result(path, BenchResult)``.

    Raises:
        InputError: there is no such file, it is not JSON, of another kind or schema version,
            or a field is wrong.
    """
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: expected a result, found nothing") from None
    except OSError as error:
        raise InputError(f"{path}: expected a readable result, found {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: expected JSON, found {error}") from None
    for field in ("schema_version", "kind"):
        expected = model.model_fields[field].default
        found = data.get(field) if isinstance(data, dict) else type(data).__name__
        if found != expected:
            raise InputError(f"{path}: expected {field} {expected!r}, found {found!r}")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: field '{where}': {first['msg']}") from None
