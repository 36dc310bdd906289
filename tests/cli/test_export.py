"""`nanonet-edge export` as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from nanonet_edge.bundle import Bundle
from nanonet_edge.checkpoint import save_checkpoint
from nanonet_edge.manifest import MANIFEST_NAME
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.phantom import draw_frame
from nanonet_edge.variants import VARIANTS

SMALL = ("--size", "64", "--format", "tflite")


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nanonet_edge", "export", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "NANONET_EDGE_DEBUG"}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibration images, nested, of several types and sizes."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "deeper").mkdir()
    for index in range(40):
        frame = draw_frame(index, 64 + index, seed=5)[0]
        suffix = ("png", "jpg", "bmp", "tif")[index % 4]
        cv2.imwrite(str((folder / "deeper" if index % 2 else folder) / f"{index}.{suffix}"), frame)
    return folder


def test_default_int8_export_is_whole_and_named(tmp_path: Path) -> None:
    done = run("--variant", "c", "--int8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    bundle = Bundle.open(tmp_path / "artifacts/nanonet-c")
    names = [artifact.name for artifact in bundle.artifacts]
    assert names == [f"nanonet-c.static_wi8_ai8.{suffix}" for suffix in ("tflite", "onnx", "openvino")]
    for name in names:
        assert name in done.stdout
    assert "recorded with the shipped weights" in done.stderr
    assert "Traceback" not in done.stderr
    tflite = bundle.artifact("nanonet-c.static_wi8_ai8.tflite").record
    assert (tflite.input.dtype, tflite.output.dtype) == ("int8", "int8")
    assert tflite.calibration is not None
    assert tflite.calibration.source == "recorded"
    for suffix in ("onnx", "openvino"):
        record = bundle.artifact(f"nanonet-c.static_wi8_ai8.{suffix}").record
        assert (record.input.dtype, record.input.layout, record.input.channel_order) == (
            "float32",
            "nhwc",
            "bgr",
        )


def test_json_is_the_manifest_and_alone_on_stdout(tmp_path: Path) -> None:
    done = run("--untrained", "--fp32", *SMALL, "--output", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / MANIFEST_NAME).read_text())


def test_calibration_folder(tmp_path: Path, images: Path) -> None:
    digests = []
    for seed in (0, 0, 1):
        done = run("--int8", *SMALL, "--calibration", images, "--samples", "34", "--seed", seed, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "34 images drawn" in done.stderr
        (artifact,) = Bundle.open(tmp_path / "artifacts/nanonet-c").artifacts
        assert artifact.record.calibration is not None
        assert (artifact.record.calibration.source, artifact.record.calibration.count) == ("images", 34)
        digests.append(artifact.record.calibration.digest)
    assert digests[0] == digests[1] != digests[2]


def test_calibration_images_with_swapped_channels_are_refused(tmp_path: Path, images: Path) -> None:
    swapped = tmp_path / "swapped"
    swapped.mkdir()
    for path in images.rglob("*.png"):
        cv2.imwrite(str(swapped / path.name), cv2.imread(str(path))[:, :, ::-1])
    done = run("--int8", *SMALL, "--calibration", swapped, cwd=tmp_path)
    refused(done, 3, "CAL006", "swapped")
    assert not (tmp_path / "artifacts").exists() or not list((tmp_path / "artifacts").iterdir())


def test_few_images_and_images_that_will_judge_are_warned_about(tmp_path: Path, images: Path) -> None:
    done = run(
        "--int8", *SMALL, "--calibration", images, "--samples", "8", "--verification", images, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "CAL001" in done.stderr
    assert "CAL009" in done.stderr


def test_generated_frames_where_nothing_else_is_there(tmp_path: Path) -> None:
    done = run("--untrained", "--int8", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "generated frames" in done.stderr
    (artifact,) = Bundle.open(tmp_path / "artifacts/nanonet-c").artifacts
    assert artifact.record.calibration is not None
    assert artifact.record.calibration.source == "generated"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--variant", "d"), 2, ("variant 'd' is unknown", "a, b, c")),
        (("--size", "100"), 2, ("100", "multiple of 32")),
        (("--format", "onnx", "--precision", "dynamic_wi8"), 2, ("onnx", "fp32, fp16, static_wi8_ai8")),
        (("--fp32", "--input", "int8"), 2, ("fp32 cannot take int8 input", "float32, uint8")),
        (("--no-rewrite", "--head", "mask"), 2, ("--no-rewrite", "--head")),
        (("--topology", "described"), 2, ("no weights ship for NanoNet-C (described)", "--weights FILE")),
        (("--untrained", "--weights", "x.h5"), 2, ("--untrained", "--weights")),
        (("--weights", "missing.h5"), 3, ("missing.h5", "found nothing")),
        (("--int8", "--calibration", "empty"), 3, ("empty",)),
        (("--int8", "--calibration", "missing"), 3, ("missing",)),
        (("--fp32", "--output", "file.txt"), 2, ("file.txt", "found a file")),
        (("--fp32", "--output", "foreign"), 2, ("foreign", "not replaced")),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("years of work")
    (tmp_path / "file.txt").write_text("kept")
    done = run(*arguments, cwd=tmp_path)
    refused(done, code, *words)
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "file.txt").read_text() == "kept"
    assert (tmp_path / "foreign" / "thesis.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file.txt", "foreign"]


def test_the_variant_is_recognised_from_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "anything.weights.h5"
    save_checkpoint(build_network(VARIANTS["b"], size=64, fill=random_fill(0)), weights)
    done = run("--weights", weights, "--fp32", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Bundle.open(tmp_path / "artifacts/nanonet-b").manifest.variant == "b"


def test_another_variant_than_the_weights_hold(tmp_path: Path, test_data: Path) -> None:
    weights = test_data / "weights/nanonet_c_kvasir_quick.h5"
    done = run("--variant", "a", "--weights", weights, "--fp32", *SMALL, cwd=tmp_path)
    refused(done, 3, weights.name, "expected NanoNet-A, found NanoNet-C")


def test_a_precision_that_one_format_lacks_is_left_out_with_a_word(tmp_path: Path) -> None:
    done = run("--precision", "static_wi8_ai16", "--untrained", "--size", "64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (artifact,) = Bundle.open(tmp_path / "artifacts/nanonet-c").artifacts
    assert artifact.name == "nanonet-c.static_wi8_ai16.tflite"
    for name in ("onnx", "openvino"):
        assert f"{name}: no static_wi8_ai16" in done.stderr


def test_another_network_of_the_paper(tmp_path: Path) -> None:
    done = run("--variant", "resunet++", "--untrained", "--fp32", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ResUNet++, 64x64, untrained" in done.stdout
    manifest = Bundle.open(tmp_path / "artifacts/resunet++").manifest
    assert (manifest.variant, manifest.topology) == ("resunet++", None)
    assert (manifest.weights.parameters, manifest.weights.is_untrained) == (4_070_385, True)
    assert [artifact.name for artifact in manifest.artifacts] == ["resunet++.fp32.tflite"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--topology", "released", "--untrained"), "ResUNet++ has no topologies, as NanoNet has"),
        ((), "no weights ship for ResUNet++: give --weights FILE, or --untrained"),
    ],
)
def test_what_another_network_does_not_have(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run("--variant", "resunet++", *arguments, cwd=tmp_path)
    refused(done, 2, words)
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_target_coral_writes_one_more_file(tmp_path: Path) -> None:
    done = run("--target", "coral", "--no-compile", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plain, coral = Bundle.open(tmp_path / "artifacts/nanonet-c").artifacts
    assert (plain.name, plain.record.target) == ("nanonet-c.static_wi8_ai8.tflite", None)
    assert coral.name == "nanonet-c.static_wi8_ai8.coral.tflite"
    assert coral.record.target is not None
    assert coral.record.target.name == "coral"
    assert coral.name in done.stdout
    assert "of the multiply-accumulates run on the Edge TPU (predicted" in done.stderr


@pytest.mark.parametrize("arguments", [("--fp32",), ("--int8", "--format", "onnx"), ("--no-rewrite",)])
def test_target_coral_needs_int8_tflite(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run("--target", "coral", "--untrained", *arguments, cwd=tmp_path)
    refused(done, 2, "--target coral")
    assert not list(tmp_path.iterdir())
