from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from nanonet_edge.benchmarks import against_reference
from nanonet_edge.benchmarks.bench import bench
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, MeasureRequest, RoundRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import MissingExtraError, RuntimeFailure
from nanonet_edge.extras import is_installed
from nanonet_edge.manifest import MANIFEST_NAME, Manifest, record_file
from nanonet_edge.results import BenchSettings
from nanonet_edge.runtimes import PAPER_SPEC
from nanonet_edge.variants import VARIANTS, Topology
from nanonet_edge.weights import bundled_weights
from tests.benchmarks.bench_fakes import start_stand_in
from tests.tiny_bundle import make_tiny_bundle

QUICK = BenchSettings(min_seconds=0.02, min_count=5)
ONNX, FP16 = "tiny.fp32.onnx", "tiny.fp16.onnx"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bench") / "tiny"))


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(against_reference, "ROUND_SECONDS", 0.005)


def test_every_artifact_takes_turns_with_the_reference(bundle: Bundle) -> None:
    asked: list[LoadRequest] = []

    def start(request: LoadRequest) -> Worker:
        asked.append(request)
        return start_stand_in(request)

    steps: list[tuple[str, int, int]] = []
    result = bench(
        bundle,
        QUICK,
        artifacts=[ONNX, FP16],
        reference=True,
        progress=lambda *s: steps.append(s),
        start=start,
    )
    assert result.failures == ()
    assert [request.artifact for request in asked] == [ONNX, FP16, None, ONNX, FP16]
    assert asked[2].spec == PAPER_SPEC == "keras:predict"
    reference = result.reference
    assert reference is not None
    assert reference.measurement is not None
    assert reference.bytes == bundle.weights_path.stat().st_size
    assert steps[-1] == ("against the reference", 3, 3)
    for row in result.rows:
        speedup = row.frame_speedup_over_reference
        assert speedup.ratio is not None
        assert speedup.value == speedup.ratio.value
        assert 0 < speedup.ratio.low <= speedup.ratio.high


def test_without_it_the_ratio_is_missing_with_a_reason(bundle: Bundle) -> None:
    result = bench(bundle, QUICK, artifacts=[ONNX])
    assert result.reference is None
    assert result.rows[0].frame_speedup_over_reference.value is None
    assert "add --reference" in str(result.rows[0].frame_speedup_over_reference.reason)


def test_reference_that_dies_leaves_the_rows_and_says_so(bundle: Bundle) -> None:
    class Doomed(Worker):
        def measure(self, request: MeasureRequest) -> None:  # type: ignore[override]
            os.kill(self.pid, signal.SIGKILL)
            super().measure(request)

    def start(request: LoadRequest) -> Worker:
        if request.artifact is not None:
            return Worker(request)
        return Doomed(request.model_copy(update={"artifact": ONNX, "spec": "onnxruntime"}))

    result = bench(bundle, QUICK, artifacts=[FP16], reference=True, start=start)
    assert result.reference is not None
    assert "killed by SIGKILL" in str(result.reference.failure)
    assert result.failures == (result.reference.failure,)
    (row,) = result.rows
    assert row.measurement is not None
    assert row.frame_speedup_over_reference.reason == result.reference.failure


def test_artifact_that_fails_against_it_says_so(bundle: Bundle) -> None:
    def start(request: LoadRequest) -> Worker:
        started.append(request)
        if request.artifact == FP16 and started.count(request) == 2:
            raise RuntimeFailure("no more")
        return start_stand_in(request)

    started: list[LoadRequest] = []
    first, second = bench(bundle, QUICK, artifacts=[FP16, ONNX], reference=True, start=start).rows
    assert first.frame_speedup_over_reference.reason == "no more"
    assert second.frame_speedup_over_reference.value is not None


def test_without_tensorflow_nothing_is_measured(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(request: LoadRequest) -> Worker:
        raise AssertionError(f"started {request}")

    monkeypatch.setattr("nanonet_edge.runtimes.engine.is_installed", lambda module: module != "tensorflow")
    with pytest.raises(MissingExtraError, match="tensorflow"):
        bench(bundle, QUICK, reference=True, start=start)


def test_worker_measures_the_reference_weights(tmp_path: Path) -> None:
    if not is_installed("tensorflow"):
        pytest.skip("tensorflow is not installed")
    root = make_tiny_bundle(tmp_path / "tiny")
    shutil.copy(bundled_weights(VARIANTS["c"], Topology.RELEASED).checkpoint, root / "c.weights.h5")
    manifest = Manifest.model_validate_json((root / MANIFEST_NAME).read_text())
    file = record_file(root / "c.weights.h5", root)
    weights = manifest.weights.model_copy(update={"file": file})
    (root / MANIFEST_NAME).write_text(manifest.model_copy(update={"weights": weights}).to_json())
    request = LoadRequest(bundle=str(root), artifact=None, spec=PAPER_SPEC, threads=1)
    with Worker(request) as worker:
        worker.load()
        found = worker.measure(MeasureRequest(min_seconds=0.0, min_count=3))
        frames = worker.round(RoundRequest(scope="frame", min_seconds=0.0, min_count=2))
    assert (found.runtime.name, found.runtime.threads) == ("keras", 1)
    assert found.runtime.options["call"] == "predict"
    assert found.memory.value is not None
    assert found.memory.value > 50.0  # TensorFlow itself is far larger
    assert len(found.invoke.samples_ns) == len(found.frame.samples_ns) == 3
    assert len(frames) == 2
