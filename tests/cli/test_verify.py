from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from nanonet_edge import reference as reference_module
from nanonet_edge.benchmarks.agreement_result import VerifyResult
from nanonet_edge.cli.verify import verify
from nanonet_edge.errors import DatasetError, UsageError
from nanonet_edge.results import load_result
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


def test_artifact_that_cannot_run_has_a_row_without_figures(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonet_edge.runtimes.engine.is_installed", lambda module: module != "openvino")
    done = run(bundle, "--data", data, "--min-dice", "0", "--min-p5", "0", "--worst", "0")
    assert done.exit_code == 1
    lines = [line for line in done.stdout.splitlines() if "tiny.fp32.openvino" in line]
    assert len(lines) == 3
    assert "not run" in lines[0]
    assert "pip install 'nanonet-edge[openvino]'" in done.stderr


def test_masks_without_data_are_refused(bundle: Path, data: Path) -> None:
    assert isinstance(run(bundle, "--masks", data / "masks").exception, UsageError)


def test_missing_data_folder_leaves_no_results(bundle: Path, tmp_path: Path) -> None:
    assert isinstance(run(bundle, "--data", tmp_path / "none").exception, DatasetError)
    assert not bundle.with_name("tiny.results").exists()


@pytest.mark.parametrize("option", ["--min-dice=1.5", "--limit=0", "--threads=0", "--seed=-1"])
def test_values_out_of_range_are_wrong_use(bundle: Path, option: str) -> None:
    assert run(bundle, option).exit_code == 2
