"""Join size, agreement and speed of a bundle's artifacts, and recommend one."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

from nanonet_edge.benchmarks.agreement_result import VERIFY_NAME, AgreementRow, VerifyResult
from nanonet_edge.benchmarks.compare_result import CompareResult, CompareRow, ConstraintsRecord, Verdict
from nanonet_edge.benchmarks.constraints import Candidate, Constraints
from nanonet_edge.benchmarks.decision import Decision, Outcome, decide
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import BundleError, InputError
from nanonet_edge.manifest import ArtifactRecord
from nanonet_edge.results import (
    BENCH_NAME,
    MIB,
    BenchResult,
    BenchRow,
    Figure,
    RuntimeInfo,
    load_result,
    results_folder,
)

#: Stands for the runtime of an artifact that was never run.
_NEVER_RUN = "no runtime"


@dataclasses.dataclass(frozen=True)
class Joined:
    """One candidate with the records it was made of."""

    candidate: Candidate
    artifact: ArtifactRecord
    bench: BenchRow | None
    verify: AgreementRow | None


def load_results(bundle: Bundle) -> tuple[BenchResult, VerifyResult]:
    """Read a bundle's `bench.json` and `verify.json`.

    Raises:
        InputError: one is not there (the message names the command to run), or is damaged.
        BundleError: one was made from another bundle.
    """
    folder = results_folder(bundle.root)
    bench_path, verify_path = folder / BENCH_NAME, folder / VERIFY_NAME
    _require(bench_path, f"nanonet-edge bench {bundle.root}")
    _require(verify_path, f"nanonet-edge verify {bundle.root} --data IMAGES")
    bench, verify = load_result(bench_path, BenchResult), load_result(verify_path, VerifyResult)
    for path, digest in ((bench_path, bench.manifest_sha256), (verify_path, verify.manifest_sha256)):
        if digest != bundle.manifest_sha256:
            raise BundleError(
                f"{path}: expected results of the manifest {bundle.manifest_sha256[:12]}…, found those of "
                f"{digest[:12]}…: the bundle was exported again, so run {path.stem} again"
            )
    return bench, verify


def compare(bundle: Bundle, constraints: Constraints) -> CompareResult:
    """Compare a bundle's artifacts by the results beside it.

    Raises:
        InputError, BundleError: see `load_results`.
    """
    bench, verify = load_results(bundle)
    joined = join(bundle, bench, verify)
    decision = decide([one.candidate for one in joined], constraints)
    rows = tuple(_row(one, outcome, decision) for one, outcome in zip(joined, decision.outcomes, strict=True))
    return CompareResult(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        machine=bench.machine,
        constraints=ConstraintsRecord.model_validate(dataclasses.asdict(constraints)),
        recommended=decision.recommended.label if decision.recommended else None,
        nearest=decision.nearest.label if decision.nearest else None,
        data=verify.data,
        thresholds=verify.thresholds,
        threads=bench.settings.threads,
        rows=rows,
    )


def join(bundle: Bundle, bench: BenchResult, verify: VerifyResult) -> list[Joined]:
    """One candidate per artifact and runtime that was benched; one for an artifact that was not."""
    joined = []
    for artifact in bundle.artifacts:
        rows: list[BenchRow | None] = [row for row in bench.rows if row.artifact == artifact.name]
        if not rows:
            rows.append(None)
        for row in rows:
            agreement = _agreement(artifact.name, row, verify)
            candidate = _candidate(artifact.record, row, agreement, _unverified(artifact.name, row, verify))
            joined.append(Joined(candidate, artifact.record, row, agreement))
    return joined


def _require(path: Path, command: str) -> None:
    if not path.is_file():
        raise InputError(f"{path}: expected a result, found nothing: run {command}")


def _agreement(artifact: str, row: BenchRow | None, verify: VerifyResult) -> AgreementRow | None:
    """What was verified of an artifact on the very runtime that was benched.

    The spec may differ where it comes to the same: same engine, delegate and arithmetic. Of an
    artifact that was not benched, what was verified first.
    """
    candidates = [one for one in verify.artifacts if one.artifact == artifact and one.runtime is not None]
    if row is None:
        return candidates[0] if candidates else None
    for one in candidates:
        if one.spec == row.spec:
            return one
    if row.measurement is None:
        return None
    ran = row.measurement.runtime
    for one in candidates:
        found = one.runtime
        if found is not None and _arithmetic(found) == _arithmetic(ran):
            return one
    return None


def _arithmetic(ran: RuntimeInfo) -> tuple[str, str, str, dict[str, str]]:
    """What decides the masks: the options tell in what OpenVINO computes all but the convolutions."""
    return ran.name, ran.delegate, ran.computed_precision, ran.options


def _unverified(artifact: str, row: BenchRow | None, verify: VerifyResult) -> str:
    """Why there is no Dice."""
    rows = [one for one in verify.artifacts if one.artifact == artifact]
    spec = row.spec if row else None
    for one in rows:
        if one.failure is not None and spec in (None, one.spec):
            return f"verify failed: {one.failure}"
    if not rows and (skipped := [one.reason for one in verify.skipped if one.artifact == artifact]):
        return f"verify skipped it: {skipped[0]}"
    if not rows or spec is None:
        return "not verified: run nanonet-edge verify"
    found = ", ".join(one.spec for one in rows)
    return f"verified on {found} only: add --runtime {spec} to nanonet-edge verify"


def _candidate(
    artifact: ArtifactRecord, row: BenchRow | None, agreement: AgreementRow | None, unverified: str
) -> Candidate:
    missing: dict[str, str] = {}
    dice = agreement.summary.mean_dice if agreement and agreement.summary else None
    if dice is None:
        missing["mean_dice"] = unverified
    measurement = row.valid_measurement if row else None
    if measurement is None:
        why = _unmeasured(artifact.name, row)
        missing |= dict.fromkeys(("frame_p50_ms", "frame_p90_ms", "fps", "memory_mib"), why)
    elif measurement.memory.value is None:
        missing["memory_mib"] = measurement.memory.reason or ""
    summary = measurement.frame.summary if measurement else None
    return Candidate(
        artifact=artifact.name,
        runtime=row.spec if row else _NEVER_RUN,
        bytes=artifact.bytes,
        frame_p50_ms=summary.p50_ms if summary else None,
        frame_p90_ms=summary.p90_ms if summary else None,
        fps=summary.fps if summary else None,
        memory_mib=measurement.memory.value if measurement else None,
        mean_dice=dice,
        missing=missing,
        broken=_not_finite(agreement),
    )


def _unmeasured(artifact: str, row: BenchRow | None) -> str:
    """Why there is no latency that counts."""
    if row is not None and row.objection is not None:
        return f"the measurement does not count: {row.objection}"
    failure = row.failure if row is not None else None
    return failure or f"not benched: run nanonet-edge bench --artifact {artifact}"


def _not_finite(agreement: AgreementRow | None) -> str | None:
    """What is wrong with an output that is no number somewhere: its masks may still look right."""
    images = agreement.not_finite if agreement is not None else ()
    return f"NaN or infinite output on {len(images)} images, the first {images[0]}" if images else None


def _verdict(agreement: AgreementRow | None) -> Verdict | None:
    if agreement is None:
        return None
    if not agreement.judged:
        return "not judged"
    return "pass" if agreement.passed else "fail"


def _row(joined: Joined, outcome: Outcome, decision: Decision) -> CompareRow:
    candidate, bench = joined.candidate, joined.bench
    runtime = bench.measurement.runtime if bench and bench.measurement else None

    def figure(name: str, value: float | None, unit: str) -> Figure:
        reason = None if value is not None else candidate.missing[name]
        return Figure(obtained="measured", unit=unit, value=value, reason=reason)

    return CompareRow(
        artifact=candidate.artifact,
        format=joined.artifact.format,
        precision=joined.artifact.precision,
        runtime=bench.spec if bench else None,
        computed_precision=runtime.computed_precision if runtime else None,
        size=Figure(obtained="measured", unit="MiB", value=candidate.bytes / MIB),
        mean_dice=figure("mean_dice", candidate.mean_dice, ""),
        verdict=_verdict(joined.verify),
        verdict_reasons=joined.verify.reasons if joined.verify else (),
        frame_p50=figure("frame_p50_ms", candidate.frame_p50_ms, "ms"),
        frame_p90=figure("frame_p90_ms", candidate.frame_p90_ms, "ms"),
        fps=figure("fps", candidate.fps, "1/s"),
        memory=figure("memory_mib", candidate.memory_mib, "MiB"),
        feasible=outcome.is_feasible,
        pareto=outcome.is_pareto,
        recommended=decision.recommended is not None and candidate.key == decision.recommended.key,
        reason=outcome.reason,
    )
