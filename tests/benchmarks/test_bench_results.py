from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import InputError
from nanonet_edge.results import BenchResult, BenchRow, Figure, load_result, results_folder, save_result
from tests.benchmarks.bench_fakes import bench_result, bench_row, measurement
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture
def result(tmp_path: Path) -> BenchResult:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    first, second, _ = bundle.artifacts
    rows = [
        bench_row(first, "onnxruntime", measurement("onnxruntime", [3.0, 1.0, 2.0])),
        bench_row(second, "onnxruntime", "it was refused"),
    ]
    return bench_result(bundle, rows)


def test_saved_result_is_loaded_with_every_sample(result: BenchResult, tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    save_result(result, path)
    loaded = load_result(path, BenchResult)
    assert loaded == result
    assert loaded.rows[0].measurement is not None
    assert loaded.rows[0].measurement.frame.samples_ns == (3_000_000, 1_000_000, 2_000_000)
    assert loaded.failures == ("it was refused",)


DAMAGE = {
    "other version": ({"schema_version": 2}, "expected schema_version 1, found 2"),
    "other kind": ({"kind": "verify"}, "expected kind 'bench', found 'verify'"),
    "digest": ({"manifest_sha256": "abc"}, "field 'manifest_sha256'"),
    "unknown field": ({"surprise": 1}, "field 'surprise'"),
    "missing field": ({"rows": None}, "field 'rows'"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_result_is_refused_by_name(case: str, result: BenchResult, tmp_path: Path) -> None:
    change, message = DAMAGE[case]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps({**result.model_dump(mode="json"), **change}))
    with pytest.raises(InputError, match=message) as caught:
        load_result(path, BenchResult)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "expected JSON"), ("[]", "expected schema_version 1, found 'list'")]
)
def test_text_that_is_no_result_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_result(path, BenchResult)


def test_absent_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        load_result(tmp_path / "bench.json", BenchResult)


@pytest.mark.parametrize("fields", [{}, {"value": 1.0, "reason": "both"}])
def test_figure_has_a_value_or_a_reason(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="either a value or a reason"):
        Figure.model_validate({"obtained": "measured", "unit": "ms", **fields})


def test_row_has_a_measurement_or_a_failure(result: BenchResult) -> None:
    fields = {**result.rows[0].model_dump(), "failure": "both"}
    with pytest.raises(ValidationError, match="either a measurement or a failure"):
        BenchRow.model_validate(fields)


def test_results_lie_beside_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert results_folder("artifacts/nanonet-c/") == Path("artifacts/nanonet-c.results")
    (tmp_path / "b" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "b")
    assert results_folder(".") == tmp_path / "b.results"
    monkeypatch.chdir(tmp_path / "b" / "inside")
    assert results_folder("..") == tmp_path / "b.results"
