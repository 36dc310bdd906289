"""Benchmark the artifacts of a bundle on this machine, and watch it meanwhile."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nanonet_edge.benchmarks.against_reference import measure_against_reference, require_reference
from nanonet_edge.benchmarks.against_straight import fight_all, require_counterpart
from nanonet_edge.benchmarks.full_precision import FULL_PRECISION, is_reduced
from nanonet_edge.benchmarks.plan import Job, Plan, make_plan
from nanonet_edge.benchmarks.timing import camera_frames
from nanonet_edge.benchmarks.watch import DeviceProbe, Watch
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import detect
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.machine import read_machine
from nanonet_edge.results import BenchResult, BenchRow, BenchSettings

#: Called with the stage's name, how many steps are done and how many there are.
Progress = Callable[[str, int, int], None]
StartWorker = Callable[[LoadRequest], Worker]


def bench(  # noqa: PLR0913 - each is a choice of its own
    bundle: Bundle,
    settings: BenchSettings | None = None,
    *,
    runtimes: Sequence[str] | None = None,
    artifacts: Sequence[str] | None = None,
    also: Sequence[str] = (),
    straight: Bundle | None = None,
    reference: bool = False,
    progress: Progress | None = None,
    start: StartWorker = Worker,
    root: Path | str = "/",
) -> BenchResult:
    """Measure artifacts on runtimes, each pair in a fresh process, one after the other.

    The device's state is read before, during and after each pair; where it was throttled or
    undervolted, the pair's figures do not count, and its row says why (`objection`).

    Args:
        bundle: what to measure.
        settings: how; the defaults of `BenchSettings` if None.
        runtimes: specs; each runs every artifact it can load. None: each artifact runs on the
            engine of its format, and on OpenVINO in true fp32 too if that computes in bfloat16.
        artifacts: names; none for all.
        also: specs for the fp32 artifacts beside those of `runtimes`: a device's accelerators.
        straight: a bundle with the unrewritten graphs (it may be `bundle` itself); each
            artifact is then compared with its counterpart in interleaved rounds.
        reference: measure the Keras reference too, and each artifact against it in interleaved
            rounds.
        progress: called as the work goes on.
        start: how to start a measuring process.
        root: where the device's own files are.

    Returns:
        A result with a row per pair; one that failed says why and does not stop the others.

    Raises:
        UsageError: a spec is wrong, its engine is not installed, nothing is left to run, or
            `straight` holds nothing to compare with.
        MissingExtraError: the reference is asked for and TensorFlow is not installed.
        BundleError: there is no artifact of that name.
    """
    settings = settings or BenchSettings()
    report = progress or (lambda stage, done, total: None)
    machine = read_machine()
    plan = make_plan(bundle, runtimes, artifacts, also)
    if straight is not None:
        require_counterpart(straight, [job.artifact for job in plan.jobs])
    reference_row = None
    if reference:
        require_reference()
    with DeviceProbe(root) as probe:
        rows = tuple(_measure_all(bundle, plan, settings, report, start, probe))
        if reference:
            reference_row, rows = measure_against_reference(bundle, rows, settings, report, start, probe)
        duels, failed = (
            fight_all(bundle, straight, rows, settings.threads, report, start, probe)
            if straight
            else ((), ())
        )
    return BenchResult(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        machine=machine,
        detected=detect(root).names,
        settings=settings,
        frames=camera_frames(bundle)[1],
        reference=reference_row,
        rows=rows,
        skipped=plan.skipped,
        duels=duels,
        failed_duels=failed,
    )


def _measure_all(
    bundle: Bundle,
    plan: Plan,
    settings: BenchSettings,
    report: Progress,
    start: StartWorker,
    probe: DeviceProbe,
) -> Iterator[BenchRow]:
    waiting = list(plan.jobs)
    done = 0
    while waiting:
        job = waiting.pop(0)
        report("bench", done, done + 1 + len(waiting))
        row = _measure(bundle, job, settings, start, probe)
        done += 1
        report("bench", done, done + len(waiting))
        yield row
        full = FULL_PRECISION.get(job.spec)
        if plan.may_add_full_precision and full and _computed_in_less(row):
            waiting.insert(0, Job(job.artifact, full))


def _computed_in_less(row: BenchRow) -> bool:
    return row.measurement is not None and is_reduced(row.measurement.runtime.computed_precision)


def _measure(
    bundle: Bundle, job: Job, settings: BenchSettings, start: StartWorker, probe: DeviceProbe
) -> BenchRow:
    record = job.artifact.record
    measurement = failure = None
    request = MeasureRequest(
        min_seconds=settings.min_seconds,
        min_count=settings.min_count,
        fps=settings.fps,
        sustained_minutes=settings.sustained_minutes,
    )
    with Watch(probe) as watch:
        try:
            with start(job.load_request(bundle, settings.threads)) as worker:
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
        watched=watch.result(measurement),
    )
