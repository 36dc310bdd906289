"""The reference measured as any artifact is, and how much faster each artifact is.

The reference is the unrewritten Keras model at fp32, by `model.predict` on one image at a time:
how the paper measured its frame rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanonet_edge.benchmarks.interleave import ROUND_SECONDS, take_turns
from nanonet_edge.benchmarks.plan import Job
from nanonet_edge.benchmarks.statistics import ratio_of_medians
from nanonet_edge.benchmarks.watch import DeviceProbe, Watch
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest, RoundRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.results import BenchRow, BenchSettings, Measurement, ReferenceRow, Speedup
from nanonet_edge.runtimes import PAPER_SPEC, KerasRuntime

StartWorker = Callable[[LoadRequest], Worker]

ROUNDS = 10
#: The reference is slow: more runs would make a round long, and rounds are what counts.
_ROUND_COUNT = 3


def require_reference() -> None:
    """Refuse to begin where the reference cannot run.

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """
    if (obstacle := KerasRuntime.obstacle()) is not None:
        raise obstacle


def measure_against_reference(
    bundle: Bundle,
    rows: Sequence[BenchRow],
    settings: BenchSettings,
    report: Callable[[str, int, int], None],
    start: StartWorker,
    probe: DeviceProbe,
) -> tuple[ReferenceRow, tuple[BenchRow, ...]]:
    """Measure the reference, then let each artifact that ran take turns with it.

    Returns:
        The reference's row, and the rows with their speed-ups over it, from rounds of frames.
    """
    load = LoadRequest(bundle=str(bundle.root), artifact=None, spec=PAPER_SPEC, threads=settings.threads)
    asked = MeasureRequest(min_seconds=settings.min_seconds, min_count=settings.min_count)
    report("against the reference", 0, len(rows) + 1)
    raced: list[BenchRow] = []
    with start(load) as reference:
        measured = _measure(bundle, reference, asked, probe)
        for row in rows:
            report("against the reference", len(raced) + 1, len(rows) + 1)
            if (reason := row.failure or measured.failure) is not None:
                speedup = Speedup(obtained="measured", unit="", reason=reason)
            else:
                job = Job(bundle.artifact(row.artifact), row.spec)
                speedup = _race(reference, job.load_request(bundle, settings.threads), start, probe)
            raced.append(row.model_copy(update={"frame_speedup_over_reference": speedup}))
    report("against the reference", len(rows) + 1, len(rows) + 1)
    return measured, tuple(raced)


def _measure(bundle: Bundle, reference: Worker, asked: MeasureRequest, probe: DeviceProbe) -> ReferenceRow:
    measurement: Measurement | None = None
    failure = None
    with Watch(probe) as watch:
        try:
            reference.load()
            measurement = reference.measure(asked)
        except RuntimeFailure as error:
            failure = str(error)
    record = bundle.manifest.weights.file
    return ReferenceRow(
        weights=record.path,
        bytes=record.bytes,
        spec=PAPER_SPEC,
        measurement=measurement,
        failure=failure,
        watched=watch.result(measurement),
    )


def _race(reference: Worker, contender: LoadRequest, start: StartWorker, probe: DeviceProbe) -> Speedup:
    request = RoundRequest(scope="frame", min_seconds=ROUND_SECONDS, min_count=_ROUND_COUNT)
    try:
        with start(contender) as artifact:
            artifact.load()
            with Watch(probe) as watch:
                theirs, ours = take_turns(reference, artifact, ROUNDS, request)
            watch.require_valid(f"{contender.subject} on {contender.spec}: the race with the reference")
    except RuntimeFailure as error:
        return Speedup(obtained="measured", unit="", reason=str(error))
    ratio = ratio_of_medians(theirs, ours)
    return Speedup(obtained="measured", unit="", value=ratio.value, ratio=ratio)
