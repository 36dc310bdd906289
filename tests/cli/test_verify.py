from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from nanonet_edge import reference as reference_module
from nanonet_edge.benchmarks.agreement_result import VerifyResult
from nanonet_edge.cli.verify import _hd95, verify
from nanonet_edge.errors import DatasetError, MissingExtraError, UsageError
from nanonet_edge.manifest import MANIFEST_NAME, Manifest
from nanonet_edge.metrics import AgreementSummary
from nanonet_edge.results import load_result
from nanonet_edge.runtimes.openvino import OpenVino
from tests.benchmarks.agreement_fakes import SIZE, FakeReference, write_dataset
from tests.tiny_bundle import make_tiny_bundle

#: A wide terminal; the names of the tiny bundle are shorter than NanoNet's by so many characters.
WIDTH = 150 - (len("nanonet-c.static_wi8_ai16.openvino") - len("tiny.fp32.openvino"))

app = typer.Typer()
app.command()(verify)


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny bundle holds no Keras checkpoint: its network stands in for the reference."""
    monkeypatch.setattr(reference_module, "KerasReference", FakeReference)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny", SIZE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "kvasir")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_table_and_files(bundle: Path, data: Path) -> None:
    done = run(bundle, "--data", data, "--min-dice", "0.9", "--min-p5", "0.9", "--worst", "2")
    assert done.exit_code == 0, done.output
    columns = ("mean Dice", "max |dp|", "HD95", "small polyps", "DSC difference", "reference's DSC")
    for word in ("tiny.fp32.onnx", "openvino:f32", "measured", "pass", *columns):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= WIDTH
    assert "FAIL" not in done.stdout
    assert "3 of 3 pass" in done.stderr
    results = bundle.with_name("tiny.results")
    stored = load_result(results / "verify.json", VerifyResult)
    assert stored.passed
    assert stored.data.folder == "kvasir"
    assert 1 <= len(list((results / "worst").glob("tiny.fp16.onnx.*.png"))) <= 2
    assert not list(bundle.glob("verify*"))


def test_failed_verdict_exits_1_and_says_why(bundle: Path, data: Path) -> None:
    done = run(bundle, "--data", data, "--min-dice", "0.9999", "--worst", "0")
    assert done.exit_code == 1
    assert "FAIL" in done.stdout
    assert "tiny.fp16.onnx on onnxruntime: mean Dice" in done.stderr
    assert "2 of 3 pass" in done.stderr
    assert not load_result(bundle.with_name("tiny.results") / "verify.json", VerifyResult).passed


def test_json_is_the_file(bundle: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "elsewhere"
    done = run(
        bundle, "--data", data / "images", "--masks", data / "masks", "--artifact", "tiny.fp32.onnx",
        "--runtime", "openvino:f32", "--limit", "4", "--seed", "3", "--output", output, "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed == json.loads((output / "verify.json").read_text())
    assert [row["spec"] for row in printed["artifacts"]] == ["openvino:f32"]
    assert (printed["data"]["count"], printed["data"]["seed"], printed["data"]["masks"]) == (4, 3, True)
    assert not bundle.with_name("tiny.results").exists()


def test_generated_frames_are_announced(bundle: Path) -> None:
    done = run(bundle, "--limit", "3", "--min-dice", "0", "--min-p5", "0")
    assert done.exit_code == 0, done.output
    assert "WARNING" in done.stderr
    assert "GENERATED" in done.stderr
    assert "3 GENERATED frames" in done.stdout


def test_without_masks_there_is_no_accuracy(bundle: Path, data: Path) -> None:
    done = run(bundle, "--data", data / "images", "--min-dice", "0", "--min-p5", "0", "--worst", "0")
    assert done.exit_code == 0, done.output
    assert "where agreement is worst" in done.stdout
    assert "DSC" not in done.stdout


def test_artifact_without_an_engine_is_skipped_and_the_rest_judged(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonet_edge.runtimes.engine.is_installed", lambda module: module != "openvino")
    done = run(bundle, "--data", data, "--min-dice", "0", "--min-p5", "0", "--worst", "0")
    assert done.exit_code == 0, done.output
    assert "tiny.fp32.openvino" not in done.stdout
    assert "2 of 2 pass" in done.stderr
    assert "tiny.fp32.openvino was skipped: openvino is not installed: pip install" in done.stderr
    skipped = load_result(bundle.with_name("tiny.results") / "verify.json", VerifyResult).skipped
    assert [one.artifact for one in skipped] == ["tiny.fp32.openvino"]


def test_no_engine_at_all_is_wrong_use(bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanonet_edge.runtimes.engine.is_installed", lambda _: False)
    assert isinstance(run(bundle, "--data", data).exception, MissingExtraError)
    assert not bundle.with_name("tiny.results").exists()


def test_artifact_that_is_refused_has_a_row_without_figures(bundle: Path, data: Path) -> None:
    manifest = Manifest.model_validate_json((bundle / MANIFEST_NAME).read_text())
    first, *others = manifest.artifacts
    wrong = first.model_copy(update={"input": first.input.model_copy(update={"shape": (1, 32, 32, 3)})})
    changed = manifest.model_copy(update={"artifacts": (wrong, *others)})
    (bundle / MANIFEST_NAME).write_text(changed.to_json())
    done = run(bundle, "--data", data, "--min-dice", "0", "--min-p5", "0", "--worst", "0")
    assert done.exit_code == 1
    lines = [line for line in done.stdout.splitlines() if first.name in line]
    assert len(lines) == 3
    assert "not run" in lines[0]


def test_unjudged_row_shows_what_it_was_computed_in(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenVino, "_precision", lambda self: "fp32" if self.asked_precision else "bf16")
    done = run(bundle, "--data", data, "--min-dice", "0", "--min-p5", "0", "--worst", "0")
    assert done.exit_code == 0, done.output
    assert "(bf16)" in done.stdout
    assert "openvino: not judged: computed in bf16; judged on openvino:f32" in done.stderr
    assert "3 of 3 pass" in done.stderr


def test_part_of_a_bundle_is_joined_to_what_is_there(bundle: Path, data: Path) -> None:
    asked = (bundle, "--data", data, "--min-dice", "0", "--min-p5", "0", "--worst", "2")
    assert run(*asked).exit_code == 0
    results = bundle.with_name("tiny.results")
    before = load_result(results / "verify.json", VerifyResult)
    pictures = {path.name for path in (results / "worst").iterdir()}
    done = run(*asked, "--artifact", "tiny.fp32.onnx", "--runtime", "openvino:f32", "--json")
    assert done.exit_code == 0, done.output
    assert [row["spec"] for row in json.loads(done.stdout)["artifacts"]] == ["openvino:f32"]
    after = load_result(results / "verify.json", VerifyResult)
    assert {(row.artifact, row.spec) for row in after.artifacts} == {
        ("tiny.fp32.onnx", "openvino:f32"),
        *((row.artifact, row.spec) for row in before.artifacts),
    }
    assert pictures <= {path.name for path in (results / "worst").iterdir()}
    done = run(*asked, "--artifact", "tiny.fp32.onnx", "--limit", "3")
    assert "verify.earlier.json: they are of another set of images" in done.stderr.replace("\n", "")
    assert load_result(results / "verify.earlier.json", VerifyResult) == after


def test_distance_says_of_how_many_images() -> None:
    summary = AgreementSummary.model_construct(mean_hd95_px=1.234, hd95_count=97, count=100)
    assert _hd95(summary) == "1.23 (97)"
    assert _hd95(summary.model_copy(update={"hd95_count": 100})) == "1.23"
    assert _hd95(summary.model_copy(update={"mean_hd95_px": None})) == "-"


def test_folder_of_the_users_own_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "worst").mkdir(parents=True)
    (tmp_path / "out" / "worst" / "mine.txt").touch()
    done = run(bundle, "--output", tmp_path / "out")
    assert isinstance(done.exception, UsageError)
    assert (tmp_path / "out" / "worst" / "mine.txt").exists()
    assert not (tmp_path / "out" / "verify.json").exists()


def test_output_that_cannot_be_written_is_found_first(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(bundle, "--output", tmp_path / "file")
    assert isinstance(done.exception, UsageError)
    assert "GENERATED" not in done.output


def test_masks_without_data_are_refused(bundle: Path, data: Path) -> None:
    assert isinstance(run(bundle, "--masks", data / "masks").exception, UsageError)


def test_missing_data_folder_leaves_no_results(bundle: Path, tmp_path: Path) -> None:
    assert isinstance(run(bundle, "--data", tmp_path / "none").exception, DatasetError)
    assert not bundle.with_name("tiny.results").exists()


@pytest.mark.parametrize("option", ["--min-dice=1.5", "--limit=0", "--threads=0", "--seed=-1"])
def test_values_out_of_range_are_wrong_use(bundle: Path, option: str) -> None:
    assert run(bundle, option).exit_code == 2
