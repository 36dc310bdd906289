from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.benchmarks.agreement import verify
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.agreement_result import AgreementRow, VerifyResult
from nanonet_edge.benchmarks.compare import compare
from nanonet_edge.benchmarks.compare_result import CompareResult, CompareRow
from nanonet_edge.benchmarks.constraints import Constraints
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import BundleError, InputError
from nanonet_edge.metrics import NOT_FINITE
from nanonet_edge.results import BenchRow, Measurement, Skipped, load_result, results_folder, save_result
from tests.benchmarks.agreement_fakes import FakeReference, write_dataset
from tests.benchmarks.bench_fakes import bench_result, bench_row, measurement
from tests.tiny_bundle import make_tiny_bundle

ONNX, FP16, OPENVINO = "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.openvino"


class Desk:
    """A bundle with a real verify.json, and a bench.json made by hand."""

    def __init__(self, root: Path) -> None:
        self.bundle = Bundle.open(make_tiny_bundle(root / "tiny"))
        self.folder = results_folder(self.bundle.root)
        data = VerificationData.from_folder(write_dataset(root / "data", count=4))
        # Named, for by itself it would depend on the processor whether OpenVINO runs in bfloat16 too.
        specs = ("onnxruntime", "openvino:f32")
        self.verified = verify(self.bundle, data, reference=FakeReference(), runtimes=specs)
        save_result(self.verified, self.folder / "verify.json")

    def bench(self, *rows: tuple[str, str, Measurement | str]) -> None:
        made: list[BenchRow] = [
            bench_row(self.bundle.artifact(name), spec, found) for name, spec, found in rows
        ]
        save_result(bench_result(self.bundle, made), self.folder / "bench.json")

    def compare(self, **limits: float) -> CompareResult:
        return compare(self.bundle, Constraints(**limits))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("compare"))


def _rows(result: CompareResult) -> dict[tuple[str, str | None], CompareRow]:
    return {(row.artifact, row.runtime): row for row in result.rows}


def test_size_agreement_and_speed_come_together(desk: Desk) -> None:
    desk.bench(
        (ONNX, "onnxruntime", measurement("onnxruntime", [8.0, 9.0, 10.0])),
        (FP16, "onnxruntime", measurement("onnxruntime", [4.0, 5.0, 6.0], memory_mib=None)),
        (OPENVINO, "openvino:f32", measurement("openvino:f32", [2.0, 2.0, 2.0])),
    )
    result = desk.compare(min_dice=0.999)
    row = _rows(result)[ONNX, "onnxruntime"]
    agreement = next(one for one in desk.verified.artifacts if one.artifact == ONNX)
    assert agreement.summary is not None
    assert row.mean_dice.value == agreement.summary.mean_dice
    assert row.frame_p50.value == 9.0
    assert row.fps.value == pytest.approx(1000 / 9)
    assert row.memory.value == 30.0
    assert row.size.value == desk.bundle.artifact(ONNX).record.bytes / 2**20
    assert result.recommended == f"{OPENVINO} on openvino:f32"
    assert result.data == desk.verified.data
    assert result.threads == 1
    assert "below 0.999" in _rows(result)[FP16, "onnxruntime"].reason
    assert _rows(result)[FP16, "onnxruntime"].memory.reason == "not told"


def test_result_survives_the_disk(desk: Desk, tmp_path: Path) -> None:
    desk.bench((ONNX, "onnxruntime", measurement("onnxruntime", [8.0])))
    result = desk.compare()
    save_result(result, tmp_path / "compare.json")
    assert load_result(tmp_path / "compare.json", CompareResult) == result


def test_artifact_that_was_not_benched_or_failed_says_so(desk: Desk) -> None:
    desk.bench((ONNX, "onnxruntime", measurement("onnxruntime", [8.0])), (FP16, "onnxruntime", "it crashed"))
    rows = _rows(desk.compare())
    assert rows[FP16, "onnxruntime"].reason.startswith("it crashed")
    assert rows[OPENVINO, None].reason == f"not benched: run nanonet-edge bench --artifact {OPENVINO}"
    assert rows[OPENVINO, None].frame_p50.reason
    assert rows[ONNX, "onnxruntime"].recommended


def test_agreement_on_other_arithmetic_does_not_count(desk: Desk) -> None:
    # verify ran openvino:f32; in bfloat16 the masks may differ.
    desk.bench(
        (OPENVINO, "openvino", measurement("openvino", [1.0], computed="bf16")),
        (OPENVINO, "openvino:f32", measurement("openvino:f32", [2.0])),
    )
    rows = _rows(desk.compare(min_dice=0.9))
    assert rows[OPENVINO, "openvino"].mean_dice.value is None
    assert "verified on openvino:f32 only: add --runtime openvino" in rows[OPENVINO, "openvino"].reason
    assert rows[OPENVINO, "openvino:f32"].recommended


def test_agreement_under_another_spec_counts_if_the_arithmetic_is_the_same(desk: Desk) -> None:
    # On a processor without bfloat16, `openvino` computes what `openvino:f32` computes.
    ran = measurement("openvino", [1.0], computed="fp32")
    options = {"inference_precision_hint": "f32"}
    same = ran.model_copy(update={"runtime": ran.runtime.model_copy(update={"options": options})})
    desk.bench((OPENVINO, "openvino", same))
    row = _rows(desk.compare(min_dice=0.9))[OPENVINO, "openvino"]
    assert row.mean_dice.value is not None
    assert row.recommended
    # The convolutions in the same, all else in bfloat16: the masks may differ.
    options = {"inference_precision_hint": "bf16"}
    other = ran.model_copy(update={"runtime": ran.runtime.model_copy(update={"options": options})})
    desk.bench((OPENVINO, "openvino", other))
    assert _rows(desk.compare(min_dice=0.9))[OPENVINO, "openvino"].mean_dice.value is None


def test_artifact_that_verify_could_not_run_says_why(desk: Desk) -> None:
    path = desk.folder / "verify.json"
    text = path.read_text()
    failed = tuple(
        one.model_copy(
            update={"summary": None, "failure": "refused", "passed": False, "reasons": ("refused",)}
        )
        if one.artifact == ONNX
        else one
        for one in desk.verified.artifacts
    )
    desk.bench((ONNX, "onnxruntime", measurement("onnxruntime", [8.0])))
    try:
        save_result(desk.verified.model_copy(update={"artifacts": failed}), path)
        assert _rows(desk.compare())[ONNX, "onnxruntime"].reason == "verify failed: refused"
    finally:
        path.write_text(text)


def test_output_that_is_no_number_is_never_recommended(desk: Desk) -> None:
    def poisoned(row: AgreementRow) -> AgreementRow:
        first, *others = row.images
        missing = {"max_delta_p": NOT_FINITE}
        agreement = first.agreement.model_copy(update={"max_delta_p": None, "missing": missing})
        return row.model_copy(update={"images": (first.model_copy(update={"agreement": agreement}), *others)})

    path = desk.folder / "verify.json"
    text = path.read_text()
    desk.bench((ONNX, "onnxruntime", measurement("onnxruntime", [8.0])))
    try:
        rows = tuple(map(poisoned, desk.verified.artifacts))
        save_result(desk.verified.model_copy(update={"artifacts": rows}), path)
        result = desk.compare()
        assert result.recommended is None
        assert _rows(result)[ONNX, "onnxruntime"].reason.startswith("NaN or infinite output on 1 images")
    finally:
        path.write_text(text)


def test_verdict_of_verify_is_shown(desk: Desk) -> None:
    desk.bench(
        (ONNX, "onnxruntime", measurement("onnxruntime", [8.0])),
        (FP16, "onnxruntime", measurement("onnxruntime", [5.0])),
    )
    path = desk.folder / "verify.json"
    text = path.read_text()
    reasons = ("mean Dice 0.9 is below 0.99",)
    verdicts = {
        ONNX: {"passed": False, "reasons": reasons},
        FP16: {"judged": False, "unjudged_reason": "computed in bf16"},
        OPENVINO: {},
    }
    try:
        rows = tuple(row.model_copy(update=verdicts[row.artifact]) for row in desk.verified.artifacts)
        save_result(desk.verified.model_copy(update={"artifacts": rows}), path)
        found = _rows(desk.compare())
        assert found[ONNX, "onnxruntime"].verdict == "fail"
        assert found[ONNX, "onnxruntime"].verdict_reasons == reasons
        assert found[FP16, "onnxruntime"].verdict == "not judged"
    finally:
        path.write_text(text)


def test_artifact_whose_engine_verify_lacked_says_so(desk: Desk) -> None:
    path = desk.folder / "verify.json"
    text = path.read_text()
    desk.bench((ONNX, "onnxruntime", measurement("onnxruntime", [8.0])))
    try:
        rows = tuple(row for row in desk.verified.artifacts if row.artifact != ONNX)
        skipped = (Skipped(artifact=ONNX, reason="onnxruntime is not installed"),)
        save_result(desk.verified.model_copy(update={"artifacts": rows, "skipped": skipped}), path)
        reason = _rows(desk.compare())[ONNX, "onnxruntime"].reason
        assert reason == "verify skipped it: onnxruntime is not installed"
    finally:
        path.write_text(text)


def test_nothing_satisfies_names_the_nearest(desk: Desk) -> None:
    desk.bench(
        (ONNX, "onnxruntime", measurement("onnxruntime", [50.0])),
        (FP16, "onnxruntime", measurement("onnxruntime", [45.0])),
    )
    result = desk.compare(max_p90_ms=40)
    assert result.recommended is None
    assert result.nearest == f"{FP16} on onnxruntime"
    assert not any(row.pareto or row.recommended for row in result.rows)


@pytest.mark.parametrize(
    ("name", "command"), [("bench", "nanonet-edge bench"), ("verify", "nanonet-edge verify")]
)
def test_missing_result_names_the_command(name: str, command: str, desk: Desk) -> None:
    desk.bench((ONNX, "onnxruntime", measurement("onnxruntime", [8.0])))
    path = desk.folder / f"{name}.json"
    text = path.read_text()
    path.unlink()
    try:
        with pytest.raises(InputError, match=f"{name}.json: .*run {command} .*tiny"):
            desk.compare()
    finally:
        path.write_text(text)


@pytest.mark.parametrize("name", ["bench", "verify"])
def test_results_of_another_bundle_are_refused(name: str, desk: Desk) -> None:
    desk.bench((ONNX, "onnxruntime", measurement("onnxruntime", [8.0])))
    path = desk.folder / f"{name}.json"
    text = path.read_text()
    path.write_text(text.replace(desk.bundle.manifest_sha256, "0" * 64))
    try:
        with pytest.raises(
            BundleError, match=f"{name}.json: expected results of the manifest .* run {name} again"
        ):
            desk.compare()
    finally:
        path.write_text(text)


def test_verify_results_are_of_the_agreed_shape(desk: Desk) -> None:
    assert load_result(desk.folder / "verify.json", VerifyResult) == desk.verified
