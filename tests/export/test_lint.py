"""Every fault of the calibration lint is planted; what is clean stays clean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge.datasets import list_images, read_frame
from nanonet_edge.errors import CalibrationError
from nanonet_edge.export.lint import (
    CODES,
    MIN_COUNT,
    Finding,
    Severity,
    lint_calibration,
    refuse_errors,
)
from nanonet_edge.phantom import generate

Frame = npt.NDArray[np.uint8]
Tensors = npt.NDArray[np.float32]

COUNT = 40
SIZE = 96


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [frame for frame, _ in generate(COUNT, SIZE)]


@pytest.fixture(scope="module")
def tensors(frames: list[Frame]) -> Tensors:
    return np.stack(frames).astype(np.float32) / np.float32(255.0)


@pytest.fixture
def folder(frames: list[Frame], tmp_path: Path) -> list[Path]:
    return save(frames, tmp_path / "calibration")


def save(frames: Sequence[Frame], folder: Path, suffix: str = ".png") -> list[Path]:
    folder.mkdir()
    for index, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / f"{index}{suffix}"), frame)
    return list_images(folder)


def codes(findings: list[Finding]) -> dict[str, str]:
    assert all(finding.code in CODES for finding in findings)
    return {finding.code: str(finding.severity) for finding in findings}


def only(findings: list[Finding], code: str) -> Finding:
    assert list(codes(findings)) == [code], [str(finding) for finding in findings]
    return findings[0]


# --- what is clean ---------------------------------------------------------------------


def test_clean_frames_paths_and_tensors(frames: list[Frame], folder: list[Path], tensors: Tensors) -> None:
    assert lint_calibration(frames) == []
    assert lint_calibration(folder) == []
    assert lint_calibration(np.stack(frames)) == []
    assert lint_calibration(tensors, size=SIZE) == []


def test_real_training_images_are_clean(test_data: Path) -> None:
    root = test_data / "data" / "kvasir-seg"
    training = list_images(root / "train" / "images")
    assert lint_calibration(training, verification=list_images(root / "validation" / "images")) == []


# --- faults of a set -------------------------------------------------------------------


def test_too_few(frames: list[Frame]) -> None:
    found = only(lint_calibration(frames[: MIN_COUNT - 1]), "CAL001")
    assert found.severity is Severity.WARNING
    assert "found 31" in found.message
    assert lint_calibration(frames[:MIN_COUNT]) == []
    assert only(lint_calibration([]), "CAL001").message.startswith("expected at least 32 images, found 0")


def test_constant_images_are_named(frames: list[Frame], tmp_path: Path) -> None:
    blank = np.full((SIZE, SIZE, 3), (60, 80, 140), np.uint8)
    paths = save([*frames, blank], tmp_path / "some", ".jpg")
    found = only(lint_calibration(paths), "CAL002")
    assert (found.severity, found.images) == (Severity.WARNING, (str(paths[-1]),))
    black = np.zeros_like(blank)
    assert codes(lint_calibration([*frames, *[black] * COUNT])) == {"CAL002": "error"}


def test_duplicates_by_content(frames: list[Frame]) -> None:
    found = only(lint_calibration([*frames, frames[3]]), "CAL003")
    assert (found.severity, found.images) == (Severity.WARNING, (f"frame {COUNT}",))
    assert codes(lint_calibration(frames[:16] * 3)) == {"CAL003": "error"}


@pytest.mark.parametrize("size", [64, 150])
def test_duplicates_that_were_resized_and_compressed(frames: list[Frame], size: int, tmp_path: Path) -> None:
    again = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames[:5]]
    paths = save(again, tmp_path / "again", ".jpg")
    found = only(lint_calibration([*save(frames, tmp_path / "first"), *paths]), "CAL003")
    assert found.images == tuple(map(str, paths))


def test_few_repeats_in_a_large_set_are_tolerated() -> None:
    many = [frame for frame, _ in generate(99, 64, seed=1)]
    assert lint_calibration([*many, many[0]]) == []


@pytest.mark.parametrize("shape", [(10, 10), (100, 400)])
def test_wrong_size(frames: list[Frame], shape: tuple[int, int]) -> None:
    odd = cv2.resize(frames[0], shape[::-1])
    found = only(lint_calibration([*frames[1:], odd]), "CAL004")
    assert (found.severity, found.images) == (Severity.WARNING, (f"frame {COUNT - 1}",))
    assert codes(lint_calibration([cv2.resize(frame, (16, 16)) for frame in frames]))["CAL004"] == "error"


def test_grey_images(frames: list[Frame], tmp_path: Path) -> None:
    grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames]
    found = only(lint_calibration(save(grey, tmp_path / "grey")), "CAL005")
    assert found.severity is Severity.ERROR
    assert len(found.images) == COUNT


def test_swapped_channels(frames: list[Frame], tmp_path: Path) -> None:
    swapped = [frame[..., ::-1] for frame in frames]
    assert only(lint_calibration(save(swapped, tmp_path / "all")), "CAL006").severity is Severity.ERROR
    found = only(lint_calibration([*frames[1:], swapped[0]]), "CAL006")
    assert (found.severity, found.images) == (Severity.WARNING, (f"frame {COUNT - 1}",))


def test_real_images_with_swapped_channels(test_data: Path) -> None:
    paths = list_images(test_data / "data" / "kvasir-seg" / "validation" / "images")
    found = only(lint_calibration([read_frame(path)[..., ::-1] for path in paths]), "CAL006")
    assert len(found.images) == len(paths)


def test_images_saved_after_a_division(frames: list[Frame], tmp_path: Path) -> None:
    dark = [np.rint(frame / 255.0).astype(np.uint8) for frame in frames]
    found = codes(lint_calibration(save(dark, tmp_path / "dark")))
    assert found["CAL008"] == "error"
    assert "CAL002" not in found


def test_images_of_the_verification_set(frames: list[Frame], folder: list[Path], tmp_path: Path) -> None:
    others = save([frame for frame, _ in generate(6, SIZE, seed=9)], tmp_path / "others")
    assert lint_calibration(folder, verification=others) == []
    exact = save(frames[4:6], tmp_path / "exact")
    found = only(lint_calibration(folder, verification=[*others, *exact]), "CAL009")
    assert (found.severity, found.images) == (Severity.WARNING, (str(folder[4]), str(folder[5])))
    small = save([cv2.resize(frames[7], (80, 80), interpolation=cv2.INTER_AREA)], tmp_path / "small", ".jpg")
    assert only(lint_calibration(folder, verification=small), "CAL009").images == (str(folder[7]),)


# --- faults of tensors -----------------------------------------------------------------


def test_tensors_not_scaled(tensors: Tensors) -> None:
    found = only(lint_calibration(tensors * 255.0), "CAL007")
    assert found.severity is Severity.ERROR
    assert "not divided by 255" in found.message


def test_tensors_scaled_to_minus_one(tensors: Tensors) -> None:
    found = only(lint_calibration(tensors * 2.0 - 1.0), "CAL007")
    assert "-1 to 1" in found.message


def test_tensors_scaled_twice(tensors: Tensors) -> None:
    found = only(lint_calibration(tensors / 255.0), "CAL008")
    assert found.severity is Severity.ERROR
    assert "twice" in found.message


def test_tensors_of_integers(tensors: Tensors) -> None:
    assert only(lint_calibration((tensors * 255).astype(np.int32)), "CAL007").severity is Severity.ERROR


def test_tensors_with_swapped_channels_whatever_their_scale(tensors: Tensors) -> None:
    swapped = tensors[..., ::-1]
    assert codes(lint_calibration(swapped)) == {"CAL006": "error"}
    assert codes(lint_calibration(swapped * 255.0)) == {"CAL006": "error", "CAL007": "error"}
    assert codes(lint_calibration(swapped / 255.0)) == {"CAL006": "error", "CAL008": "error"}


def test_tensors_of_wrong_shape(tensors: Tensors) -> None:
    assert "channels first" in only(lint_calibration(tensors.transpose(0, 3, 1, 2)), "CAL005").message
    assert only(lint_calibration(tensors[..., :1]), "CAL005").severity is Severity.ERROR
    assert "expected 256x256" in only(lint_calibration(tensors, size=256), "CAL004").message
    assert only(lint_calibration(tensors[0]), "CAL004").severity is Severity.ERROR
    assert only(lint_calibration([np.zeros((96, 96), np.uint8)]), "CAL005").severity is Severity.ERROR


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_tensors_that_are_not_finite(tensors: Tensors, value: float) -> None:
    broken = tensors.copy()
    broken[3, 0, 0, 0] = value
    assert only(lint_calibration(broken), "CAL010").images == ("tensor 3",)


# --- what follows ----------------------------------------------------------------------


def test_errors_refuse_and_warnings_do_not(frames: list[Frame]) -> None:
    refuse_errors(lint_calibration(frames[:5]), "frames")
    swapped = lint_calibration([frame[..., ::-1] for frame in frames])
    with pytest.raises(
        CalibrationError, match=r"^frames: CAL006 40 of 40 .*frame 0, frame 1, frame 2 and 37"
    ):
        refuse_errors(swapped, "frames")


def test_progress_counts_every_image(frames: list[Frame]) -> None:
    seen: list[tuple[str, int, int]] = []
    lint_calibration(frames[:3], progress=lambda *step: seen.append(step))
    assert seen == [("lint", 1, 3), ("lint", 2, 3), ("lint", 3, 3)]
