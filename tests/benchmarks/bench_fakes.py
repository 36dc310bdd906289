"""Results made by hand, for tests that need no measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanonet_edge.benchmarks.statistics import summarize
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.machine import read_machine
from nanonet_edge.results import (
    BenchResult,
    BenchRow,
    BenchSettings,
    Figure,
    FrameSource,
    Latency,
    Measurement,
    RuntimeInfo,
)

MS = 1_000_000


def figure(value: float | None, unit: str, reason: str = "not told") -> Figure:
    """A measured figure, or one that is missing."""
    return Figure(obtained="measured", unit=unit, value=value, reason=reason if value is None else None)


def runtime_record(spec: str, computed: str = "fp32") -> RuntimeInfo:
    """An engine that computed in `computed`."""
    return RuntimeInfo(
        name=spec.partition(":")[0],
        version="1",
        delegate="none",
        device="CPU",
        threads=1,
        computed_precision=computed,
    )


def replay(answer: Callable[[LoadRequest], Measurement]) -> type[Worker]:
    """A worker that measures nothing: it answers with what it is told to."""

    class Replay(Worker):
        def __init__(self, load: LoadRequest) -> None:
            self._load = load

        def __enter__(self) -> Replay:
            return self

        def __exit__(self, *_: object) -> None: ...

        def load(self) -> None: ...

        def measure(self, _: MeasureRequest) -> Measurement:
            return answer(self._load)

    return Replay


def measurement(
    spec: str, frame_ms: Sequence[float], *, memory_mib: float | None = 30.0, computed: str = "fp32"
) -> Measurement:
    """A measurement with these frame latencies."""
    samples = tuple(round(value * MS) for value in frame_ms)

    def latency(scope: str) -> Latency:
        return Latency.model_validate(
            {
                "obtained": "measured",
                "scope": scope,
                "warmup_runs": 5,
                "summary": summarize(samples),
                "samples_ns": samples,
            }
        )

    return Measurement(
        runtime=runtime_record(spec, computed),
        startup=figure(50.0, "ms"),
        load=figure(10.0, "ms"),
        first_inference=figure(5.0, "ms"),
        invoke=latency("invoke"),
        frame=latency("frame"),
        memory=figure(memory_mib, "MiB"),
    )


def bench_row(artifact: Artifact, spec: str, found: Measurement | str) -> BenchRow:
    """A row of an artifact: its measurement, or the failure's line."""
    record = artifact.record
    return BenchRow(
        artifact=record.name,
        format=record.format,
        precision=record.precision,
        graph=record.graph,
        bytes=record.bytes,
        spec=spec,
        measurement=None if isinstance(found, str) else found,
        failure=found if isinstance(found, str) else None,
    )


def bench_result(bundle: Bundle, rows: Sequence[BenchRow]) -> BenchResult:
    """A bench.json of a bundle."""
    return BenchResult(
        created="2024-01-01T00:00:00+00:00",
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        machine=read_machine(),
        settings=BenchSettings(),
        frames=FrameSource(description="made up", width=640, height=480, count=4),
        rows=tuple(rows),
    )


def start_stand_in(request: LoadRequest) -> Worker:
    """A worker, where an artifact of the tiny bundle stands in for the reference: no TensorFlow."""
    if request.artifact is None:
        request = request.model_copy(update={"artifact": "tiny.fp32.openvino", "spec": "openvino:f32"})
    return Worker(request)
