"""Benchmark the artifacts of a bundle on this machine's processor."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nanonet_edge.benchmarks.interleave import duel
from nanonet_edge.benchmarks.timing import camera_frames
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.machine import read_machine
from nanonet_edge.results import (
    BenchResult,
    BenchRow,
    BenchSettings,
    Duel,
    FailedDuel,
    Skipped,
)
from nanonet_edge.runtimes import default_spec, list_runtimes, parse_spec

#: Called with the stage's name, how many steps are done and how many there are.
Progress = Callable[[str, int, int], None]
StartWorker = Callable[[LoadRequest], Worker]

_BFLOAT16 = "bf16"
#: Engines that may compute fp32 models in bfloat16 by themselves -> the spec that forbids it.
_FULL_PRECISION = {"openvino": "openvino:f32"}


@dataclass(frozen=True)
class Job:
    """One artifact to be measured on one runtime."""

    artifact: Artifact
    spec: str


@dataclass(frozen=True)
class Plan:
    """What will be measured, and what cannot be because its engine is not installed.

    `may_add_full_precision` is whether an engine that turns out to compute in bfloat16 is
    measured in true fp32 as well: not where the user named the runtimes.
    """

    jobs: tuple[Job, ...]
    skipped: tuple[Skipped, ...]
    may_add_full_precision: bool


def bench(
    bundle: Bundle,
    settings: BenchSettings | None = None,
    *,
    runtimes: Sequence[str] | None = None,
    artifacts: Sequence[str] | None = None,
    straight: Bundle | None = None,
    progress: Progress | None = None,
    start: StartWorker = Worker,
) -> BenchResult:
    """Measure artifacts on runtimes, each pair in a fresh process, one after the other.

    Args:
        bundle: what to measure.
        settings: how; the defaults of `BenchSettings` if None.
        runtimes: specs; each runs every artifact it can load. None: each artifact runs on the
            engine of its format, and on OpenVINO in true fp32 too if that computes in bfloat16.
        artifacts: names; all if None.
        straight: a bundle with the unrewritten graphs (it may be `bundle` itself); each
            artifact is then compared with its counterpart in interleaved rounds.
        progress: called as the work goes on.
        start: how to start a measuring process.

    Returns:
        A result with a row per pair; one that failed says why and does not stop the others.

    Raises:
        UsageError: a spec is wrong, its engine is not installed, or nothing is left to run.
        BundleError: there is no artifact of that name.
    """
    settings = settings or BenchSettings()
    report = progress or (lambda stage, done, total: None)
    machine = read_machine()
    plan = make_plan(bundle, runtimes, artifacts)
    rows = tuple(_measure_all(bundle, plan, settings, report, start))
    duels, failed = (
        _fight_all(bundle, straight, rows, settings.threads, report, start) if straight else ((), ())
    )
    return BenchResult(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        machine=machine,
        settings=settings,
        frames=camera_frames(bundle)[1],
        rows=rows,
        skipped=plan.skipped,
        duels=duels,
        failed_duels=failed,
    )


def make_plan(bundle: Bundle, runtimes: Sequence[str] | None, artifacts: Sequence[str] | None) -> Plan:
    """Which artifact runs on which runtime.

    Raises:
        UsageError: a spec is wrong, its engine is not installed, or nothing is left to run.
        BundleError: there is no artifact of that name.
    """
    chosen = bundle.artifacts if artifacts is None else tuple(bundle.artifact(name) for name in artifacts)
    if runtimes is not None:
        return Plan(tuple(_named_jobs(chosen, runtimes)), (), may_add_full_precision=False)
    jobs: list[Job] = []
    skipped: list[Skipped] = []
    for artifact in chosen:
        try:
            jobs.append(Job(artifact, default_spec(artifact.record.format)))
        except UsageError as error:
            skipped.append(Skipped(artifact=artifact.name, reason=str(error)))
    if not jobs:
        reasons = sorted({one.reason for one in skipped})
        raise UsageError("; ".join(reasons) or f"{bundle.root}: expected artifacts to bench, found none")
    return Plan(tuple(jobs), tuple(skipped), may_add_full_precision=True)


def _named_jobs(artifacts: Sequence[Artifact], specs: Sequence[str]) -> Iterator[Job]:
    listings = {listing.name: listing for listing in list_runtimes()}
    for spec in dict.fromkeys(specs):
        listing = listings[parse_spec(spec).name]
        if not listing.installed:
            raise UsageError(listing.reason)
        jobs = [Job(artifact, spec) for artifact in artifacts if artifact.record.format in listing.formats]
        if not jobs:
            loads = ", ".join(listing.formats)
            found = ", ".join(sorted({artifact.record.format for artifact in artifacts}))
            raise UnsupportedError(f"{spec} loads {loads}, found artifacts in {found}")
        yield from jobs


def _measure_all(
    bundle: Bundle, plan: Plan, settings: BenchSettings, report: Progress, start: StartWorker
) -> Iterator[BenchRow]:
    waiting = list(plan.jobs)
    done = 0
    while waiting:
        job = waiting.pop(0)
        report("bench", done, done + 1 + len(waiting))
        row = _measure(bundle, job, settings, start)
        done += 1
        report("bench", done, done + len(waiting))
        yield row
        full = _FULL_PRECISION.get(job.spec)
        if plan.may_add_full_precision and full and _computed_in_bfloat16(row):
            waiting.insert(0, Job(job.artifact, full))


def _computed_in_bfloat16(row: BenchRow) -> bool:
    return row.measurement is not None and _BFLOAT16 in row.measurement.runtime.computed_precision.split("+")


def _measure(bundle: Bundle, job: Job, settings: BenchSettings, start: StartWorker) -> BenchRow:
    record = job.artifact.record
    measurement = failure = None
    request = MeasureRequest(
        min_seconds=settings.min_seconds,
        min_count=settings.min_count,
        fps=settings.fps,
        sustained_minutes=settings.sustained_minutes,
    )
    try:
        with start(_load_request(bundle, job, settings.threads)) as worker:
            worker.load()
            measurement = worker.measure(request)
    except RuntimeFailure as error:
        failure = str(error)
    return BenchRow(
        artifact=record.name,
        format=record.format,
        precision=record.precision,
        graph=record.graph,
        bytes=record.bytes,
        spec=job.spec,
        measurement=measurement,
        failure=failure,
    )


def _load_request(bundle: Bundle, job: Job, threads: int) -> LoadRequest:
    return LoadRequest(bundle=str(bundle.root), artifact=job.artifact.name, spec=job.spec, threads=threads)


def _fight_all(
    bundle: Bundle,
    straight: Bundle,
    rows: Sequence[BenchRow],
    threads: int,
    report: Progress,
    start: StartWorker,
) -> tuple[tuple[Duel, ...], tuple[FailedDuel, ...]]:
    """Compare every rewritten artifact that ran with its straight counterpart."""
    duels: list[Duel] = []
    failed: list[FailedDuel] = []
    contenders = [row for row in rows if row.graph == "rewritten" and row.measurement is not None]
    for done, row in enumerate(contenders):
        report("against straight", done, len(contenders))
        counterpart = straight_counterpart(bundle.artifact(row.artifact), straight)
        if counterpart is None:
            failure = (
                f"{row.artifact}: {straight.root} holds no straight {row.format} artifact in {row.precision}"
            )
            failed.append(FailedDuel(contender=row.artifact, spec=row.spec, baseline=None, failure=failure))
            continue
        contender = Job(bundle.artifact(row.artifact), row.spec)
        try:
            duels.append(
                duel(
                    _load_request(bundle, contender, threads),
                    _load_request(straight, Job(counterpart, row.spec), threads),
                    start=start,
                )
            )
        except RuntimeFailure as error:
            failed.append(
                FailedDuel(
                    contender=row.artifact, spec=row.spec, baseline=counterpart.name, failure=str(error)
                )
            )
    report("against straight", len(contenders), len(contenders))
    return tuple(duels), tuple(failed)


def straight_counterpart(artifact: Artifact, straight: Bundle) -> Artifact | None:
    """The artifact of the same format and precision whose graph was not rewritten, if there is one."""
    wanted = (artifact.record.format, artifact.record.precision)
    for other in straight.artifacts:
        if other.record.graph == "straight" and (other.record.format, other.record.precision) == wanted:
            return other
    return None
