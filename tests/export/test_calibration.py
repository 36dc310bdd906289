"""Calibrations: made, recorded, read back; and the frames they are made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from nanonet_edge.contract import InputContract, preprocess
from nanonet_edge.datasets import images_digest, list_images
from nanonet_edge.errors import CalibrationError, DatasetError
from nanonet_edge.export.calibration import (
    CalibrationFrames,
    calibrate,
    load_calibration,
    save_calibration,
)
from nanonet_edge.export.ranges import METHODS, Method
from nanonet_edge.export.sources import calibration_folder, generated_frames
from nanonet_edge.graph import CONVOLUTIONS
from nanonet_edge.passes import SetHead, SwapInputChannels, rewrite
from nanonet_edge.phantom import draw_frame
from nanonet_edge.variants import Format, Head, Precision
from tests.export.networks import SIZE, Shelf, calibrated, calibration_frames, frame, rewritten

WEIGHTS = "a" * 64
INTEGER = [
    (Format.TFLITE, Precision.STATIC_WI8_AI8),
    (Format.TFLITE, Precision.STATIC_WI8_AI16),
    (Format.TFLITE, Precision.DYNAMIC_WI8),
    (Format.ONNX, Precision.STATIC_WI8_AI8),
    (Format.OPENVINO, Precision.STATIC_WI8_AI8),
]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "nanonet.calibration.npz"
    save_calibration(calibrated(), path, WEIGHTS)
    return path


def damaged(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a recording with some arrays replaced, or (None) left out."""
    with np.load(source) as data:
        arrays = {name: data[name] for name in data.files}
    arrays.update({name.replace("__", "/"): array for name, array in changes.items()})
    np.savez(target, **{name: array for name, array in arrays.items() if array is not None})
    return target


# --- recordings -----------------------------------------------------------------------------


@pytest.mark.parametrize(("file_format", "precision"), INTEGER)
def test_a_recording_gives_bit_identical_artifacts(
    shelf: Shelf, recording: Path, file_format: Format, precision: Precision
) -> None:
    loaded = load_calibration(recording, rewritten().graph, WEIGHTS)
    assert loaded is not None
    made = shelf.artifact(file_format, precision)
    again = shelf.write(rewritten(), loaded, file_format, precision)
    # OpenVINO numbers the names in its .xml by a counter of the process.
    for record in made.record.files[file_format is Format.OPENVINO :]:
        assert (made.path.parent / record.path).read_bytes() == (again.path.parent / record.path).read_bytes()


def test_a_recording_says_that_it_is_one(recording: Path) -> None:
    loaded = load_calibration(recording, rewritten().graph, WEIGHTS)
    assert loaded is not None
    assert loaded.record.source == "recorded"
    assert loaded.record == calibrated().record.model_copy(update={"source": "recorded"})
    assert loaded.ranges == calibrated().ranges


def test_a_recording_holds_no_pixels(recording: Path) -> None:
    with np.load(recording, allow_pickle=False) as data:
        held = sum(data[name].size for name in data.files)
        names = {name.partition("/")[2] for name in data.files}
    graph = rewritten().graph
    kernels = sum(n.weights["kernel"].size for n in graph if n.op in CONVOLUTIONS)
    assert names <= {"kernel", "scales", "bias", "factors", ""}
    # Scales, biases, ranges and a short header are all there is beside the kernels.
    assert held < kernels + 2 * kernels // 5 + 10_000


def test_another_networks_recording_is_not_taken(recording: Path) -> None:
    graph = rewritten().graph
    assert load_calibration(recording, graph, "b" * 64) is None
    assert load_calibration(recording, graph.with_size(2 * SIZE), WEIGHTS) is None
    swapped = rewrite(graph, [SwapInputChannels(), SetHead(Head.LOGIT)]).graph
    assert load_calibration(recording, swapped, WEIGHTS) is None


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_recording_is_refused(recording: Path, tmp_path: Path, kept: float) -> None:
    data = recording.read_bytes()
    path = tmp_path / "cut.npz"
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(CalibrationError, match=r"cut\.npz: expected a recorded calibration"):
        load_calibration(path, rewritten().graph, WEIGHTS)


def header(recording: Path, **changes: Any) -> np.ndarray:
    with np.load(recording) as data:
        parsed = json.loads(bytes(data["header"]))
    return np.frombuffer(json.dumps({**parsed, **changes}).encode(), np.uint8)


def test_arrays_that_do_not_fit_are_refused(recording: Path, tmp_path: Path) -> None:
    name = next(node.name for node in rewritten().graph if node.op in CONVOLUTIONS)
    kernel = rewritten().graph[name].weights["kernel"]
    changes: list[dict[str, Any]] = [
        {f"{name}__kernel": None},
        {f"{name}__kernel": kernel},  # floats
        {f"{name}__kernel": kernel[:, :, :1].astype(np.int8)},
        {"ranges": np.zeros((3, 2))},
        {"block_1_project_bn__factors": None},
        {"block_1_project_bn__factors": np.zeros(8)},
        {"nowhere__factors": np.ones(8)},
        {"header": np.frombuffer(b"{not json", np.uint8)},
        {"header": np.frombuffer(b"[]", np.uint8)},
        {"header": header(recording, record={"source": "images"})},
    ]
    for index, change in enumerate(changes):
        path = damaged(recording, tmp_path / f"{index}.npz", **change)
        with pytest.raises(CalibrationError, match=f"{index}.npz: expected a recorded calibration"):
            load_calibration(path, rewritten().graph, WEIGHTS)
    older = damaged(recording, tmp_path / "older.npz", header=header(recording, format=0))
    assert load_calibration(older, rewritten().graph, WEIGHTS) is None


def test_a_recording_that_would_run_code_is_refused(recording: Path, tmp_path: Path) -> None:
    path = damaged(recording, tmp_path / "pickle.npz", ranges=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CalibrationError, match="damaged"):
        load_calibration(path, rewritten().graph, WEIGHTS)


# --- calibrating ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_progress_and_record(method: Method) -> None:
    steps: list[tuple[str, int, int]] = []
    graph, frames = rewritten().graph, calibration_frames(2)
    made = calibrate(graph, frames, method, progress=lambda *step: steps.append(step))
    total = 6 if method == "min-max" else 8
    assert steps == [("calibrate", index + 1, total) for index in range(total)]
    assert (made.record.method, made.record.count, made.record.source) == (method, 2, "generated")
    assert made.record.rounding == "compensated"
    assert made.ranges.keys() == {node.name for node in graph}


def test_nearest_rounding_leaves_the_weights_to_the_writer() -> None:
    graph = rewritten().graph
    made = calibrate(graph, calibration_frames(2), "min-max", "nearest", prepares=False)
    assert made.graph is graph
    assert made.record.rounding == "nearest"


def test_calibrating_twice_gives_the_same() -> None:
    first, second = (calibrate(rewritten().graph, calibration_frames(2), "min-max") for _ in range(2))
    assert first.ranges == second.ranges
    for one, other in zip(first.graph, second.graph, strict=True):
        assert all(np.array_equal(array, other.weights[name]) for name, array in one.weights.items())


@pytest.mark.parametrize("rounding", ["compensated", "nearest"])
def test_no_frames_are_refused(rounding: Any) -> None:
    with pytest.raises(CalibrationError, match="expected at least one frame, found none"):
        calibrate(rewritten().graph, calibration_frames(0), "mse", rounding)


def test_frames_are_read_one_by_one_through_inferences_own_code() -> None:
    read: list[int] = []

    def reader(index: int) -> np.ndarray:
        read.append(index)
        return frame(index, 96)

    frames = CalibrationFrames(3, reader, "images", "0" * 64)
    contract = InputContract(name="x", shape=(1, SIZE, SIZE, 3))
    tensors = frames.tensors(contract)
    assert read == []
    assert np.array_equal(next(tensors), preprocess(frame(0, 96), contract))
    assert read == [0]


# --- folders --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images, nested, of five types and many sizes."""
    root = tmp_path_factory.mktemp("images")
    for index in range(40):
        parent = root / f"day{index % 3}"
        parent.mkdir(exist_ok=True)
        suffix = ("jpg", "png", "bmp", "tif", "JPEG")[index % 5]
        assert cv2.imwrite(str(parent / f"{index}.{suffix}"), draw_frame(index, 64 + 3 * index, 4)[0])
    return root


def test_a_folder_gives_its_frames(folder: Path) -> None:
    frames, findings = calibration_folder(folder, 100, seed=0)
    assert findings == []
    assert (frames.count, frames.source, frames.seed) == (40, "images", 0)
    assert frames.digest == images_digest(list_images(folder))
    assert folder.name in frames.detail
    assert str(folder) not in frames.detail
    shapes = {frames.read(index).shape for index in range(40)}
    assert len(shapes) > 10


def test_the_seed_draws_the_images(folder: Path) -> None:
    first, same, other = (calibration_folder(folder, 34, seed)[0] for seed in (0, 0, 1))
    assert first.count == same.count == other.count == 34
    assert first.digest == same.digest != other.digest
    assert all(np.array_equal(first.read(index), same.read(index)) for index in range(34))


def test_too_few_images_are_a_warning(folder: Path) -> None:
    frames, findings = calibration_folder(folder, 31, seed=0)
    assert frames.count == 31
    assert [finding.code for finding in findings] == ["CAL001"]


def test_swapped_channels_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in list_images(folder):
        cv2.imwrite(str(tmp_path / f"{path.stem}.png"), cv2.imread(str(path))[:, :, ::-1])
    with pytest.raises(CalibrationError, match=r"CAL006 .*swapped") as caught:
        calibration_folder(tmp_path, 40, seed=0)
    assert caught.value.exit_code == 3
    assert str(tmp_path) in str(caught.value)


def test_images_that_will_judge_are_named(folder: Path) -> None:
    judged = list_images(folder)[:3]
    _, findings = calibration_folder(folder, 40, seed=0, verification=judged)
    assert [finding.code for finding in findings] == ["CAL009"]
    assert len(findings[0].images) == 3


def test_empty_missing_and_damaged_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DatasetError, match="found none"):
        calibration_folder(tmp_path, 10, seed=0)
    with pytest.raises(DatasetError, match="found nothing"):
        calibration_folder(tmp_path / "missing", 10, seed=0)
    (tmp_path / "cut.png").write_bytes(list_images(folder)[1].read_bytes()[:500])
    with pytest.raises(DatasetError, match=r"cut\.png"):
        calibration_folder(tmp_path, 10, seed=0)


def test_generated_frames_depend_on_their_seed_alone() -> None:
    first, same, other = (generated_frames(2, seed) for seed in (0, 0, 1))
    assert first.digest == same.digest != other.digest
    assert (first.source, first.count) == ("generated", 2)
    assert np.array_equal(first.read(1), same.read(1))
