"""`nanonet-edge predict` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.cli import predict as module
from nanonet_edge.cli.main import app
from nanonet_edge.devices import load_catalogue
from nanonet_edge.results import results_folder
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NANONET_EDGE_DEVICES", "NANONET_EDGE_DEVICE_JETSON"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "bundle")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def refused(result: Result, code: int, *words: str) -> None:
    assert (result.exit_code, result.stdout) == (code, "")
    line = result.stderr.splitlines()[-1]
    for word in words:
        assert word in line


def test_a_bundle_on_a_board(bundle: Path) -> None:
    result = run(bundle, "--device", "raspberry-pi-4")
    assert result.exit_code == 0, result.stderr
    text = result.stdout
    for words in (
        "predicted, not measured: Raspberry Pi 4 Model B",
        "tiny.fp32.onnx",
        "cpu: onnxruntime, threads: 1",
        " to ",
        "14%",
        "google/XNNPACK",
        "python -m nanonet_edge.benchmarks.prediction.fit",
        f"to measure: nanonet-edge bench {bundle} --device raspberry-pi-4 --host user@board",
    ):
        assert words in text
    assert "measured ms" not in text


def test_a_family_says_which_member_it_took(bundle: Path) -> None:
    result = run(bundle, "--device", "jetson")
    assert result.exit_code == 0, result.stderr
    assert "device jetson: jetson-orin-nano" in result.stderr
    assert "gpu: tensorrt" in result.stdout


def test_one_file_as_json_with_its_operators(bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "predict.json"
    result = run(
        bundle / "tiny.fp32.xml", "--device", "raspberry-pi-5", "--threads", 4, "--json", "--output", output
    )
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data == json.loads(output.read_text())
    assert (data["kind"], data["obtained"], data["bundle"]) == ("predict", "predicted", None)
    (row,) = data["rows"]
    assert (row["artifact"], row["threads"]) == ("tiny.fp32.xml", 4)
    assert row["latency"]["low_ms"] < row["latency"]["ms"] < row["latency"]["high_ms"]
    conv = next(one for one in row["operators"] if one["op"] == "Convolution")
    assert conv["macs"] == 64 * 64 * 27
    assert conv["intensity"] == pytest.approx(2 * conv["macs"] / conv["bytes_moved"])


def test_operators_are_printed_when_asked_for(bundle: Path) -> None:
    result = run(bundle / "tiny.fp32.onnx", "--device", "raspberry-pi-4", "--operators")
    assert result.exit_code == 0, result.stderr
    assert "tiny.fp32.onnx: operators, predicted" in result.stdout
    assert "operations per byte" in result.stdout
    assert "Sigmoid" in result.stdout


def test_a_device_that_nothing_is_known_of_gives_a_reason_and_no_figure(bundle: Path) -> None:
    result = run(bundle / "tiny.fp32.xml", "--device", "coral-usb")
    assert result.exit_code == 0, result.stderr
    assert "not predicted: Coral USB Accelerator has no processor of its own" in result.stderr


def test_a_profile_of_the_users_own(bundle: Path, tmp_path: Path) -> None:
    """A processor that no source here knows, whose peaks its profile gives."""
    data = load_catalogue(environment={}).get("raspberry-pi-5").model_dump(mode="json")
    data |= {"name": "my-board", "title": "My board", "family": "mine"}
    data["cpu"]["model"]["value"] = "Cortex-A720"
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "my-board.json").write_text(json.dumps(data))
    result = run(bundle, "--device", "my-board", "--devices", tmp_path / "devices", "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)["rows"][0]
    assert row["latency"]["error"]["left_out"] == "device"
    assert any("the profile" in line for line in row["sources"])


def test_wrong_use(bundle: Path, tmp_path: Path) -> None:
    refused(run(bundle), 2, "--device")
    refused(run(bundle, "--device", "raspbery-pi-4"), 2, "did you mean raspberry-pi-4")
    refused(run(bundle, "--check", "--counts", "x.json"), 2, "--counts")
    refused(run(bundle, "--device", "raspberry-pi-4", "--output", tmp_path), 2, "found a folder")


def test_bad_input(bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "net.onnx"
    broken.write_bytes(b"\x00nothing")
    refused(run(broken, "--device", "raspberry-pi-4"), 3, str(broken), "expected an ONNX model")
    refused(run(tmp_path / "none.tflite", "--device", "raspberry-pi-4"), 3, "none.tflite", "found nothing")
    refused(run(tmp_path, "--device", "raspberry-pi-4"), 3, "manifest.json")
    refused(
        run(bundle, "--device", "raspberry-pi-4", "--counts", tmp_path / "c.json"),
        3,
        "c.json",
        "found nothing",
    )


def test_counts_beside_a_bundle_that_are_not_its_own_are_not_used(bundle: Path) -> None:
    path = results_folder(bundle) / "count.raspberry-pi-4.json"
    path.parent.mkdir()
    path.write_text("{}")
    result = run(bundle, "--device", "raspberry-pi-4")
    assert result.exit_code == 0
    assert f"not used: {path}" in result.stderr


def test_check_without_a_measurement_says_what_is_missing(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = load_catalogue(environment={}).get("raspberry-pi-4")
    monkeypatch.setattr(module, "_profile", lambda *_: board)
    refused(run(bundle, "--check"), 3, "bench.json", "found nothing")
