from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.benchmarks.merge import bench_difference, bench_joined_to, merge_bench
from nanonet_edge.bundle import Bundle
from nanonet_edge.machine import Machine
from nanonet_edge.results import BenchResult, BenchSettings, FailedDuel, Skipped, save_result
from tests.benchmarks.bench_fakes import bench_result, bench_row, measurement
from tests.benchmarks.test_rewrite_gain import duel
from tests.tiny_bundle import make_tiny_bundle

ONNX, FP16, OPENVINO = "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.openvino"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("merge") / "tiny"))


def result(bundle: Bundle, *rows: tuple[str, str, float]) -> BenchResult:
    return bench_result(
        bundle,
        [bench_row(bundle.artifact(name), spec, measurement(spec, [ms])) for name, spec, ms in rows],
    )


def test_new_row_replaces_its_own_and_stands_with_its_artifact(bundle: Bundle) -> None:
    earlier = result(bundle, (ONNX, "onnxruntime", 1.0), (OPENVINO, "openvino", 2.0), (FP16, "x", 3.0))
    new = result(bundle, (OPENVINO, "openvino:f32", 4.0), (ONNX, "onnxruntime", 5.0))
    merged = merge_bench(earlier, new)
    found = [(row.artifact, row.spec) for row in merged.rows]
    assert found == [
        (ONNX, "onnxruntime"),
        (OPENVINO, "openvino"),
        (OPENVINO, "openvino:f32"),
        (FP16, "x"),
    ]
    first = merged.rows[0].measurement
    assert first is not None
    assert first.frame.summary.p50_ms == 5.0


def test_skipped_artifact_that_ran_since_is_skipped_no_more(bundle: Bundle) -> None:
    skipped = tuple(Skipped(artifact=name, reason="not installed") for name in (ONNX, FP16))
    earlier = result(bundle, (OPENVINO, "openvino", 2.0)).model_copy(update={"skipped": skipped})
    assert merge_bench(earlier, result(bundle, (ONNX, "onnxruntime", 1.0))).skipped == skipped[1:]


def test_duels_are_kept_unless_fought_again(bundle: Bundle) -> None:
    old = (duel(ONNX, 2.0), duel(FP16, 3.0))
    earlier = result(bundle).model_copy(update={"duels": old})
    lost = FailedDuel(contender=FP16, baseline=None, spec="litert", failure="it was refused")
    new = result(bundle).model_copy(update={"failed_duels": (lost,)})
    merged = merge_bench(earlier, new)
    assert (merged.duels, merged.failed_duels) == (old[:1], (lost,))


def test_results_obtained_otherwise_are_not_joined(bundle: Bundle, tmp_path: Path) -> None:
    one = result(bundle, (ONNX, "onnxruntime", 1.0))

    def changed(machine: Machine, **fields: object) -> BenchResult:
        return one.model_copy(update={"machine": machine.model_copy(update=fields)})

    assert bench_difference(one, changed(one.machine, load_average=99.0)) is None
    assert bench_difference(one, changed(one.machine, cpu_model="another")) == "machine"
    assert bench_difference(one, one.model_copy(update={"manifest_sha256": "0" * 64})) == "bundle"
    other = one.model_copy(update={"settings": BenchSettings(threads=2)})
    assert bench_difference(one, other) == "setting"
    path = tmp_path / "bench.json"
    assert bench_joined_to(path, one) == (one, None)
    save_result(other, path)
    assert bench_joined_to(path, one) == (one, "they are of another setting")
    path.write_text("{")
    joint, lost = bench_joined_to(path, one)
    assert joint is one
    assert "expected JSON" in (lost or "")
