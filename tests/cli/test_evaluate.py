from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.benchmarks.accuracy_result import AccuracyResult
from nanonet_edge.cli.main import app
from nanonet_edge.results import load_result
from nanonet_edge.runtimes import ArtifactRuntime
from tests.benchmarks.agreement_fakes import SIZE, write_dataset
from tests.tiny_bundle import make_tiny_bundle

FP32, FP16, IR = "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.openvino"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny", SIZE)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "kvasir")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def refused(*arguments: object, code: int = 3) -> str:
    """What a run says that must end with one line and without data."""
    done = run(*arguments, "--no-speed")
    assert done.exit_code == code, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("nanonet-edge: error: ")
    return str(line)


def test_tables_have_a_row_per_model(bundle: Path, data: Path) -> None:
    done = run(bundle, "--data", data, "--no-speed")
    assert done.exit_code == 0, done.output
    columns = ("DSC", "mIoU", "recall", "precision", "F2", "accuracy", "specificity", "on openvino:f32")
    titles = ("mean over images [95 %] on 12 images of kvasir", "micro average", f"minus that of {FP32}")
    for word in (FP32, FP16, IR, *columns, *titles, "measured", "the network's resolution"):
        assert word in done.stdout
    assert "FPS" not in done.stdout
    assert done.stdout.count(FP16) == 3
    assert done.stderr == ""


def test_markup_in_names_is_shown_as_it_is(bundle: Path, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "[bold]kvasir", count=2)
    done = run(bundle / FP32, "--data", data, "--no-speed")
    assert "images of [bold]kvasir" in done.stdout


def test_json_is_the_result_and_the_files_are_written(bundle: Path, data: Path, tmp_path: Path) -> None:
    output, table = tmp_path / "new" / "evaluate.json", tmp_path / "images.csv"
    done = run(
        bundle / FP32, bundle / FP16, "--data", data / "images", "--masks", data / "masks", "--limit", "4",
        "--seed", "3", "--resolution", "original", "--threshold", "0.4", "--no-speed", "--json",
        "--output", output, "--csv", table,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(output.read_text())
    result = load_result(output, AccuracyResult)
    assert (result.settings.resolution, result.settings.threshold) == ("original", 0.4)
    assert [row.model.name for row in result.rows] == [FP32, FP16]
    assert (result.data.count, result.data.seed) == (4, 3)
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert [line["model"] for line in lines] == [FP32] * 4 + [FP16] * 4
    assert {(line["height"], line["width"]) for line in lines} == {("96", "96")}
    assert done.stderr.splitlines() == [f"written: {output}", f"written: {table}"]


def test_speed_is_labelled(bundle: Path, data: Path) -> None:
    done = run(bundle / FP32, "--data", data, "--limit", 2, "--min-seconds", 0, "--min-count", 3)
    assert done.exit_code == 0, done.output
    words = ("paper's FPS", "invoke p50 ms", "frame p50 ms", "1 / mean time of Keras's model.predict")
    for word in (*words, "speed measured on", "threads: 1"):
        assert word in " ".join(done.stdout.split())


@pytest.mark.parametrize("arguments", [["--bundled"], ["--variant", "C"], ["--bundled", "--variant", "c"]])
def test_shipped_weights_need_no_name(arguments: list[str], data: Path) -> None:
    done = run(*arguments, "--size", 64, "--data", data, "--limit", 1, "--no-speed", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["model"]["name"], row["model"]["kind"]) == ("nanonet-c.released.weights.h5", "checkpoint")
    assert row["runtime"]["name"] == "keras"


def test_shipped_weights_come_first(bundle: Path, data: Path) -> None:
    done = run("--bundled", bundle / FP32, "--size", 64, "--data", data, "--limit", 1, "--no-speed", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert [row["model"]["kind"] for row in rows] == ["checkpoint", "artifact"]
    assert rows[0]["difference"] is None
    assert rows[1]["difference"] is not None


def test_orphan_mask_is_mentioned(bundle: Path, data: Path) -> None:
    (data / "images" / "3.png").unlink()
    done = run(bundle / FP32, "--data", data, "--no-speed")
    assert done.exit_code == 0
    assert "1 masks have no image and are left out" in done.stderr


def test_engine_that_fails_is_told_and_the_rest_shown(
    bundle: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ArtifactRuntime.invoke

    def flaky(engine: ArtifactRuntime, x: np.ndarray) -> np.ndarray:
        output = real(engine, x)
        return output * np.float32("nan") if engine.artifact.name == FP16 else output

    monkeypatch.setattr(ArtifactRuntime, "invoke", flaky)
    done = run(bundle / FP32, bundle / FP16, "--data", data, "--no-speed")
    assert done.exit_code == 3
    assert "failed" in done.stdout
    expected = f"failed: {FP16} on onnxruntime: 0.png: the output holds NaN or infinity"
    assert done.stderr.splitlines() == [expected]


# --- bad input -------------------------------------------------------------------------


def test_model_that_is_missing(data: Path, tmp_path: Path) -> None:
    line = refused(tmp_path / "absent.h5", "--data", data)
    assert "absent.h5: expected a checkpoint" in line
    assert "found nothing" in line
    assert "expected a model to evaluate" in refused("--data", data, code=2)


def test_artifact_whose_digest_differs(bundle: Path, data: Path) -> None:
    content = (bundle / FP16).read_bytes()
    (bundle / FP16).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    line = refused(bundle / FP16, "--data", data)
    assert FP16 in line
    assert "sha256" in line


def test_no_masks(bundle: Path, data: Path) -> None:
    assert "expected ground-truth masks" in refused(bundle, "--data", data / "images")


def test_orphan_image(bundle: Path, data: Path) -> None:
    (data / "masks" / "4.jpg").unlink()
    assert "expected a mask for each of 12 images, found none for 1: 4.png" in refused(bundle, "--data", data)


def test_sizes_that_differ(bundle: Path, data: Path) -> None:
    assert cv2.imwrite(str(data / "masks" / "1.jpg"), np.zeros((50, 96), np.uint8))
    line = refused(bundle, "--data", data)
    assert "1.jpg: expected the size of its image 1.png, 96x96, found 96x50" in line


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_corrupt_image(bundle: Path, data: Path, tmp_path: Path, content: bytes | None) -> None:
    """Empty, something else, and a JPEG that is cut off."""
    shutil.rmtree(data / "images")
    (data / "images").mkdir()
    for index in range(12):
        assert cv2.imwrite(str(data / "images" / f"{index}.jpg"), np.full((96, 96, 3), 9 * index, np.uint8))
    victim, table = data / "images" / "7.jpg", tmp_path / "images.csv"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert f"{victim}: expected " in refused(bundle, "--data", data, "--csv", table)
    assert not table.exists()


def test_wrong_use_is_said_before_the_work(bundle: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for option in ("--output", "--csv"):
        line = refused(bundle, "--data", data, option, tmp_path / "folder", code=2)
        assert "folder: expected a file to write the results to, found a folder" in line
    assert "--min-seconds" in refused(bundle, "--data", data, "--min-seconds", "inf", code=2)
    assert "unknown" in refused("--variant", "z", "--data", data, code=2)
    assert run(bundle, "--data", data, "--threshold", "1.5").exit_code == 2
    assert run(bundle).exit_code == 2  # --data is required
