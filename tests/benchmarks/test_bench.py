from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nanonet_edge.benchmarks.against_straight import straight_counterpart
from nanonet_edge.benchmarks.bench import bench
from nanonet_edge.benchmarks.plan import make_plan
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest, Reply, Request, RoundRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import BundleError, RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.results import BenchSettings
from tests.tiny_bundle import make_tiny_bundle

QUICK = BenchSettings(min_seconds=0.02, min_count=5)
ONNX, FP16, OPENVINO = "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.openvino"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bench") / "tiny"))


def _request(bundle: Bundle, artifact: str = ONNX, spec: str = "onnxruntime") -> LoadRequest:
    return LoadRequest(bundle=str(bundle.root), artifact=artifact, spec=spec, threads=1)


def test_every_artifact_is_measured_in_a_process_of_its_own(bundle: Bundle) -> None:
    pids: list[int] = []

    def start(request: LoadRequest) -> Worker:
        worker = Worker(request)
        pids.append(worker.pid)
        return worker

    steps: list[tuple[str, int, int]] = []
    result = bench(bundle, QUICK, progress=lambda *step: steps.append(step), start=start)

    assert result.failures == ()
    assert result.manifest_sha256 == bundle.manifest_sha256
    specs = [(row.artifact, row.spec) for row in result.rows]
    assert specs[:3] == [(ONNX, "onnxruntime"), (FP16, "onnxruntime"), (OPENVINO, "openvino")]
    assert len(set(pids)) == len(result.rows)
    assert os.getpid() not in pids
    assert steps[-1] == ("bench", len(result.rows), len(result.rows))
    for row in result.rows:
        assert row.measurement is not None
        for latency in (row.measurement.invoke, row.measurement.frame):
            assert latency.obtained == "measured"
            assert latency.summary.n == len(latency.samples_ns) >= QUICK.min_count
            assert latency.warmup_runs >= 5
            assert sum(latency.samples_ns) > 0
        # A frame is the invocation and more.
        assert row.measurement.frame.summary.min_ms > row.measurement.invoke.summary.min_ms
        assert row.measurement.memory.value is not None
        assert 1.0 < row.measurement.memory.value < 1000.0
        assert row.measurement.missing == {"pacing": "not asked for", "sustained": "not asked for"}


def test_openvino_is_measured_in_true_fp32_too_if_it_computes_in_bfloat16(bundle: Bundle) -> None:
    result = bench(bundle, QUICK, artifacts=[OPENVINO])
    computed = {
        row.spec: row.measurement.runtime.computed_precision for row in result.rows if row.measurement
    }
    if computed["openvino"] == "bf16":
        assert computed["openvino:f32"] == "fp32"
    else:
        assert list(computed) == ["openvino"]


def test_named_runtime_is_the_only_one(bundle: Bundle) -> None:
    result = bench(bundle, QUICK, artifacts=[OPENVINO], runtimes=["openvino"])
    assert [row.spec for row in result.rows] == ["openvino"]


def test_artifact_that_kills_its_process_leaves_the_other_rows(bundle: Bundle) -> None:
    class Doomed(Worker):
        def measure(self, request: MeasureRequest) -> None:  # type: ignore[override]
            os.kill(self.pid, signal.SIGKILL)
            super().measure(request)

    def start(request: LoadRequest) -> Worker:
        return Doomed(request) if request.artifact == FP16 else Worker(request)

    result = bench(bundle, QUICK, artifacts=[ONNX, FP16], start=start)
    first, second = result.rows
    assert first.measurement is not None
    assert second.measurement is None
    assert second.failure == (
        f"{FP16} on onnxruntime: the engine's process was killed by SIGKILL (often: out of memory)"
    )


def test_paced_and_sustained_runs_are_measured(bundle: Bundle) -> None:
    settings = BenchSettings(min_seconds=0.02, min_count=5, fps=200, sustained_minutes=0.005)
    row = bench(bundle, settings, artifacts=[ONNX]).rows[0]
    assert row.measurement is not None
    pacing, sustained = row.measurement.pacing, row.measurement.sustained
    assert pacing is not None
    assert sustained is not None
    assert pacing.frames == len(pacing.latencies_ns) + pacing.unserved == 60
    assert pacing.latencies_ns == sustained.samples_ns
    assert row.measurement.missing == {}
    assert sustained.fps == 200
    assert sustained.drift.verdict is None
    assert sustained.drift.reason


def test_tflite_runtime_and_others_are_not_chosen_unless_named(bundle: Bundle) -> None:
    plan = make_plan(bundle, None, None)
    assert [job.spec for job in plan.jobs] == ["onnxruntime", "onnxruntime", "openvino"]
    assert plan.skipped == ()


def test_missing_engine_skips_its_artifacts_with_the_install_line(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonet_edge.runtimes.engine.is_installed", lambda module: module != "openvino")
    plan = make_plan(bundle, None, None)
    assert [job.artifact.name for job in plan.jobs] == [ONNX, FP16]
    (skipped,) = plan.skipped
    assert skipped.artifact == OPENVINO
    assert "pip install 'nanonet-edge[openvino]'" in skipped.reason
    with pytest.raises(UsageError, match="pip install"):
        make_plan(bundle, None, [OPENVINO])
    with pytest.raises(UsageError, match="pip install"):
        make_plan(bundle, ["openvino"], None)


def test_wrong_names_are_refused(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="runtime 'banana' is unknown"):
        make_plan(bundle, ["banana"], None)
    with pytest.raises(BundleError, match="banana"):
        make_plan(bundle, None, ["banana"])
    with pytest.raises(UnsupportedError, match="litert loads tflite, found artifacts in onnx, openvino"):
        make_plan(bundle, ["litert"], None)


def test_nothing_to_compare_with_is_found_before_measuring(bundle: Bundle) -> None:
    assert straight_counterpart(bundle.artifact(ONNX), bundle) is None
    with pytest.raises(UsageError, match=r"tiny: expected a straight artifact \(onnx in fp32\), found none"):
        bench(bundle, QUICK, artifacts=[ONNX], straight=bundle, start=_no_worker)
    straight = _with_graphs(bundle, "straight", "straight", "straight")
    with pytest.raises(UsageError, match="expected a rewritten artifact"):
        bench(straight, QUICK, straight=straight, start=_no_worker)


def test_artifact_without_a_counterpart_says_so_and_the_others_are_compared(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonet_edge.benchmarks.interleave.ROUND_SECONDS", 0.005)
    straight = _with_graphs(bundle, "straight", "rewritten", "rewritten")
    result = bench(bundle, QUICK, artifacts=[ONNX, FP16], straight=straight)
    assert [duel.contender for duel in result.duels] == [ONNX]
    (failed,) = result.failed_duels
    assert "holds no straight onnx artifact in fp16" in failed.failure


def _with_graphs(bundle: Bundle, *graphs: str) -> Bundle:
    records = tuple(
        record.model_copy(update={"graph": graph})
        for record, graph in zip(bundle.manifest.artifacts, graphs, strict=True)
    )
    manifest = bundle.manifest.model_copy(update={"artifacts": records})
    return Bundle(bundle.root, manifest, bundle.manifest_sha256)


def _no_worker(request: LoadRequest) -> Worker:
    raise AssertionError(f"expected nothing to be measured, found {request}")


def test_empty_names_mean_all(bundle: Bundle) -> None:
    assert make_plan(bundle, (), ()) == make_plan(bundle, None, None)


def test_dead_worker_is_named_with_its_signal(bundle: Bundle) -> None:
    with Worker(_request(bundle)) as worker:
        worker.load()
        os.kill(worker.pid, signal.SIGSEGV)
        with pytest.raises(RuntimeFailure, match=f"{ONNX} on onnxruntime: .* killed by SIGSEGV"):
            worker.round(RoundRequest(min_seconds=0.0, min_count=1))


def test_worker_that_does_not_answer_is_given_up(bundle: Bundle) -> None:
    with Worker(_request(bundle), patience=0.2) as worker:
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(RuntimeFailure, match="no answer within"):
            worker.load()


def test_patience_grows_with_the_count_and_the_first_inference(bundle: Bundle) -> None:
    waits: list[float] = []

    class Slow(Worker):
        def _ask(self, _: Request, seconds: float) -> Reply:
            waits.append(seconds)
            return Reply(first_ns=2_000_000_000, samples_ns=(1,))

    with Slow(_request(bundle)) as worker:
        worker.load()
        worker.round(RoundRequest(min_seconds=3.0, min_count=1))
        worker.round(RoundRequest(min_seconds=3.0, min_count=1000))
        with pytest.raises(RuntimeFailure, match="without a measurement"):
            worker.measure(MeasureRequest(min_seconds=3.0, min_count=1000, sustained_minutes=2.0))
    _, short, long, whole = waits
    assert short >= 3.0 + 2.0
    assert long >= 3.0 + 1000 * 2.0
    assert whole >= 2 * long + 120.0


def test_engine_that_refuses_becomes_an_error_in_one_line(tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    path = bundle.artifact(ONNX).path
    path.write_bytes(bytes(reversed(path.read_bytes())))
    with Worker(_request(bundle)) as worker, pytest.raises(RuntimeFailure, match="expected sha256") as caught:
        worker.load()
    assert "\n" not in str(caught.value)


def test_worker_with_an_internal_error_tells_its_last_words(tmp_path: Path) -> None:
    request = LoadRequest(bundle=str(tmp_path), artifact="\n", spec="onnxruntime", threads=1)
    with Worker(request) as worker:
        worker._process.stdin.write("no request\n")  # type: ignore[union-attr]
        worker._process.stdin.flush()  # type: ignore[union-attr]
        with pytest.raises(RuntimeFailure, match=r"ended with code 1: .+"):
            worker.round(RoundRequest(min_seconds=0.0, min_count=1))


def test_what_engines_print_does_not_mix_with_answers(bundle: Bundle) -> None:
    code = (
        "import os, nanonet_edge.benchmarks.worker as worker\n"
        "real = worker.open_runtime\n"
        "def loud(*args, **options):\n"
        "    print('hello from Python', flush=True)\n"
        "    os.write(1, b'hello from C\\n')\n"
        "    return real(*args, **options)\n"
        "worker.open_runtime = loud\n"
        "worker.main()\n"
    )
    asked = (_request(bundle), RoundRequest(min_seconds=0.0, min_count=3))
    requests = "".join(f"{request.model_dump_json()}\n" for request in asked)
    done = subprocess.run(
        [sys.executable, "-c", code], input=requests, capture_output=True, text=True, check=True
    )
    replies = [Reply.model_validate_json(line) for line in done.stdout.splitlines()]
    assert len(replies) == 2
    assert replies[1].samples_ns is not None
    assert len(replies[1].samples_ns) == 3
    assert "hello from Python" in done.stderr
    assert "hello from C" in done.stderr


def test_requests_out_of_order_are_refused(bundle: Bundle) -> None:
    with Worker(_request(bundle)) as worker:
        with pytest.raises(RuntimeFailure, match="expected a load request first"):
            worker.round(RoundRequest(min_seconds=0.0, min_count=1))
        worker.load()
        with pytest.raises(RuntimeFailure, match="found a second one"):
            worker.load()
