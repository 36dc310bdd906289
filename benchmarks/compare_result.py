"""`compare.json`: the candidates side by side, and which one to ship."""

from __future__ import annotations

from typing import Literal

from nanonet_edge.benchmarks.agreement_data import DataRecord
from nanonet_edge.benchmarks.agreement_result import Thresholds
from nanonet_edge.machine import Machine
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.results import RESULTS_SCHEMA_VERSION, Figure
from nanonet_edge.variants import Format, Precision

COMPARE_NAME = "compare.json"

Verdict = Literal["pass", "fail", "not judged"]


class ConstraintsRecord(Record):
    """What was asked for; None asks for nothing."""

    min_dice: float | None
    max_p90_ms: float | None
    max_mib: float | None
    max_memory_mib: float | None


class CompareRow(Record):
    """One artifact on one runtime.

    `runtime` is the spec; `computed_precision` what the engine really computed in. `feasible`:
    it satisfies every constraint; `pareto`: no feasible candidate is at least as good in size,
    median frame latency and mean Dice and better in one. `reason` says why it lost; empty for
    the recommended one. `verdict` is that of verify, by its own thresholds, which need not be
    what compare asks for; `verdict_reasons` are what it missed.
    """

    artifact: str
    format: Format
    precision: Precision
    runtime: str | None
    computed_precision: str | None
    size: Figure
    mean_dice: Figure
    verdict: Verdict | None
    verdict_reasons: tuple[str, ...]
    frame_p50: Figure
    frame_p90: Figure
    fps: Figure
    memory: Figure
    feasible: bool
    pareto: bool
    recommended: bool
    reason: str


class CompareResult(Record):
    """`compare.json`; `recommended` is None where nothing satisfies, then `nearest` came closest.

    `data` are the images on which agreement was measured, `thresholds` those of verify's
    verdict, `threads` those of the engines when they were timed.
    """

    schema_version: Literal[1] = RESULTS_SCHEMA_VERSION
    kind: Literal["compare"] = "compare"
    created: str
    bundle: str
    manifest_sha256: Sha256
    machine: Machine
    constraints: ConstraintsRecord
    recommended: str | None
    nearest: str | None
    data: DataRecord
    thresholds: Thresholds
    threads: int
    rows: tuple[CompareRow, ...]
