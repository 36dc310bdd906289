from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.benchmarks.compare_result import CompareResult
from nanonet_edge.cli.main import app
from nanonet_edge.results import load_result, save_result
from tests.benchmarks.bench_fakes import measurement
from tests.benchmarks.test_compare import FP16, ONNX, OPENVINO, Desk


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("compare"))
    desk.bench(
        (ONNX, "onnxruntime", measurement("onnxruntime", [8.0])),
        (FP16, "onnxruntime", measurement("onnxruntime", [5.0])),
        (OPENVINO, "openvino:f32", measurement("openvino:f32", [9.0])),
    )
    return desk


def run(desk: Desk, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", str(desk.bundle.root), *arguments])


def test_recommendation_and_reasons_are_printed(desk: Desk) -> None:
    done = run(desk, "--min-dice", "0.999")
    assert done.exit_code == 0, done.output
    assert f"recommended: {ONNX} on onnxruntime" in done.stdout
    assert f"dominated by {ONNX}" in done.stdout
    assert "below 0.999" in done.stdout
    assert "measured" in done.stdout


def test_where_agreement_was_measured_is_said(desk: Desk) -> None:
    done = run(desk)
    assert "threads: 1; agreement on 4 images of data" in " ".join(done.stdout.split())
    path = desk.folder / "verify.json"
    text = path.read_text()
    try:
        generated = desk.verified.data.model_copy(update={"source": "generated"})
        save_result(desk.verified.model_copy(update={"data": generated}), path)
        assert "4 GENERATED frames" in run(desk).stdout
        assert json.loads(run(desk, "--json").stdout)["data"]["source"] == "generated"
    finally:
        path.write_text(text)


def test_recommended_artifact_that_failed_verify_is_marked(desk: Desk) -> None:
    path = desk.folder / "verify.json"
    text = path.read_text()
    failed = {"passed": False, "reasons": ("5th percentile of Dice is below 0.95",)}
    try:
        rows = tuple(row.model_copy(update=failed) for row in desk.verified.artifacts)
        save_result(desk.verified.model_copy(update={"artifacts": rows}), path)
        done = run(desk)
        assert done.exit_code == 0
        assert "FAIL" in done.stdout
        assert "(it failed verify: 5th percentile of Dice is below 0.95)" in done.stdout
    finally:
        path.write_text(text)


def test_json_is_what_is_written(desk: Desk) -> None:
    done = run(desk, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((desk.folder / "compare.json").read_text())
    assert load_result(desk.folder / "compare.json", CompareResult).constraints.min_dice == 0.98


def test_nothing_satisfies_exits_1_with_the_nearest_miss(desk: Desk) -> None:
    done = run(desk, "--max-p90-ms", "4")
    assert done.exit_code == 1
    assert f"nearest: {FP16} on onnxruntime: p90 frame latency 5.00 ms is 1.00 ms above 4 ms" in done.stdout


def test_impossible_constraint_exits_2(desk: Desk) -> None:
    done = run(desk, "--max-mib", "0")
    assert done.exit_code == 2
    assert "--max-mib: expected a positive number" in done.stderr


def test_missing_bench_exits_3_and_names_the_command(desk: Desk, tmp_path: Path) -> None:
    kept = (desk.folder / "bench.json").rename(tmp_path / "bench.json")
    try:
        done = run(desk)
        assert done.exit_code == 3
        assert f"run nanonet-edge bench {desk.bundle.root}" in done.stderr
    finally:
        kept.rename(desk.folder / "bench.json")
