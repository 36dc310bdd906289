"""Predicted against measured: the model held against a bench result of the machine it is run on."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import model_validator
from typing_extensions import Self

from nanonet_edge.benchmarks.prediction.host import HOST_PROFILE
from nanonet_edge.benchmarks.prediction.predict import predict_artifact
from nanonet_edge.benchmarks.prediction.rates import read_rates
from nanonet_edge.benchmarks.prediction.result import Milliseconds
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import Profile
from nanonet_edge.devices.files import printable
from nanonet_edge.errors import InputError
from nanonet_edge.machine import read_machine
from nanonet_edge.manifest import Record
from nanonet_edge.results import BENCH_NAME, BenchResult, BenchRow, load_result, results_folder

CHECK_SCHEMA_VERSION: Final = 1


class CheckRow(Record):
    """One artifact on one engine: the measured median of `invoke` in ms, and what was predicted of it."""

    artifact: str
    spec: str
    measured_ms: float | None = None
    predicted: Milliseconds | None = None
    ratio: float | None = None
    in_range: bool | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _compared_or_reason(self) -> Self:
        if (self.ratio is None) == (self.reason is None):
            raise ValueError("expected either a comparison or a reason")
        return self


class CheckResult(Record):
    """Every row of a bench result beside its prediction; medians over those that could be compared."""

    schema_version: Literal[1] = CHECK_SCHEMA_VERSION
    kind: Literal["predict-check"] = "predict-check"
    bench: str
    device: str
    title: str
    rows: tuple[CheckRow, ...]
    compared: int
    median_error: float | None
    in_range: int


def check_bundle(bundle: Bundle, profile: Profile, bench: Path | None = None) -> CheckResult:
    """Predict each row of a bundle's bench result, on as many threads, and compare.

    Args:
        profile: of the machine that the result is of.
        bench: the result; ``BUNDLE.results/bench.json`` otherwise.

    Raises:
        InputError: there is no such result, or it is of another bundle or another machine.
    """
    path = bench or results_folder(bundle.root) / BENCH_NAME
    result = load_result(path, BenchResult)
    if result.manifest_sha256 != bundle.manifest_sha256:
        raise InputError(f"{path}: expected results of {bundle.root}, found those of another bundle")
    _check_machine(path, result, profile)
    rows = tuple(_check(bundle, row, profile, result.settings.threads) for row in result.rows)
    ratios = [row.ratio for row in rows if row.ratio is not None]
    return CheckResult(
        bench=str(path),
        device=profile.name,
        title=profile.title,
        rows=rows,
        compared=len(ratios),
        median_error=float(np.median(np.abs(np.array(ratios) - 1.0))) if ratios else None,
        in_range=sum(row.in_range is True for row in rows),
    )


def _check_machine(path: Path, result: BenchResult, profile: Profile) -> None:
    """See that a result is of the machine that the profile describes."""
    if profile.name == HOST_PROFILE:
        known = result.machine.cpu_model == read_machine().cpu_model
    else:
        known = profile.name in (result.settings.device, *result.detected)
    if not known:
        found = printable(result.machine.cpu_model or "a processor that was not named")
        raise InputError(f"{path}: expected results of {profile.title}, found those of {found}")


def _check(bundle: Bundle, row: BenchRow, profile: Profile, threads: int) -> CheckRow:
    if row.measurement is None:
        return CheckRow(artifact=row.artifact, spec=row.spec, reason=f"not measured: {row.failure}")
    measured = row.measurement.invoke.summary.p50_ms
    engine, computed = row.spec.partition(":")[0], row.measurement.runtime.computed_precision
    reason = None
    if engine not in read_rates().engines:
        reason = f"the model knows nothing of {engine}"
    elif "bf16" in computed:
        reason = f"it was computed in {computed}, which the model does not know"
    if reason is not None:
        return CheckRow(artifact=row.artifact, spec=row.spec, measured_ms=measured, reason=reason)
    artifact = bundle.artifact(row.artifact)
    prediction = predict_artifact(artifact.path, profile, threads=threads, name=row.artifact, engine=engine)
    found = prediction.latency
    if found is None:
        return CheckRow(artifact=row.artifact, spec=row.spec, measured_ms=measured, reason=prediction.reason)
    return CheckRow(
        artifact=row.artifact,
        spec=row.spec,
        measured_ms=measured,
        predicted=found,
        ratio=found.ms / measured,
        in_range=found.low_ms <= measured <= found.high_ms,
    )
