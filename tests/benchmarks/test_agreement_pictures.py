from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge.benchmarks.agreement import verify
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.sidebyside import (
    ADDED,
    BOTH,
    LOST,
    TRUTH,
    check_pictures_folder,
    save_worst,
    side_by_side,
)
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import UsageError
from tests.benchmarks.agreement_fakes import SIZE, FakeReference, write_dataset
from tests.tiny_bundle import make_tiny_bundle


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_difference_shows_what_was_added_and_lost() -> None:
    reference, artifact = np.zeros((2, 64, 64), np.uint8)
    reference[10:20, 10:20] = 1
    artifact[10:20, 15:27] = 1
    picture = side_by_side(np.full((352, 300, 3), 90, np.uint8), reference, artifact, ["one", "two ☃"])
    scale = 5 * 5  # 64 pixels are drawn as 320
    assert count(picture, ADDED) == 70 * scale
    assert count(picture, LOST) == 50 * scale
    assert count(picture, BOTH) == (100 + 120 + 50) * scale
    assert count(picture, TRUTH) == 0
    assert count(picture, (90, 90, 90)) >= 320 * 320
    assert count(side_by_side(picture, reference, artifact, [], truth=reference), TRUTH) == 4 * 4 * (50 - 1)


def test_captions_grow_the_picture() -> None:
    empty = np.zeros((64, 64), np.uint8)
    frame = np.zeros((64, 64, 3), np.uint8)
    one, three = (side_by_side(frame, empty, empty, ["x"] * lines) for lines in (1, 3))
    assert three.shape[0] > one.shape[0]


def test_worst_images_are_saved(tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny", SIZE))
    root = write_dataset(tmp_path / "data")
    (root / "images" / "0.png").rename(root / "images" / "Ärger & co.png")
    data = VerificationData.from_folder(root / "images")
    result = verify(bundle, data, reference=FakeReference())
    folder = tmp_path / "results" / "worst"
    folder.mkdir(parents=True)
    (folder / "old.onnxruntime.1.stale.png").touch()
    files = save_worst(result, bundle, data, FakeReference(), folder, count=12)
    row = result.artifacts[1]
    differing = [image for image in row.worst(12) if image.agreement.pixel_agreement < 1.0]
    drawn = [path for path in files if path.name.startswith("tiny.fp16.onnx.onnxruntime.")]
    assert len(drawn) == len(differing) > 3
    assert sorted(folder.iterdir()) == sorted(files)
    assert Path(row.worst(1)[0].agreement.name).stem in drawn[0].name
    for path in files:
        assert cv2.imread(str(path)).shape[1] > 4 * 300
    assert save_worst(result, bundle, data, FakeReference(), folder, count=0) == []
    assert list(folder.iterdir()) == []


def test_pictures_of_others_are_kept_on_request(tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny", SIZE))
    data = VerificationData.from_folder(write_dataset(tmp_path / "data") / "images")
    result = verify(bundle, data, reference=FakeReference(), artifacts=["tiny.fp16.onnx"])
    folder = tmp_path / "worst"
    folder.mkdir()
    for name in ("tiny.fp16.onnx.onnxruntime.9.old.png", "tiny.fp16.onnx.openvino.1.other.png"):
        (folder / name).touch()
    files = save_worst(result, bundle, data, FakeReference(), folder, count=1, keep_others=True)
    assert sorted(folder.iterdir()) == sorted([*files, folder / "tiny.fp16.onnx.openvino.1.other.png"])


@pytest.mark.parametrize("name", ["holiday.png", "a.openvino.1.b.jpg", "a.openvino.first.b.png"])
def test_folder_with_other_files_is_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.openvino-f32.1.b.png").touch()
    check_pictures_folder(tmp_path)
    check_pictures_folder(tmp_path / "none")
    (tmp_path / name).touch()
    with pytest.raises(UsageError, match=f"found {name} in it"):
        check_pictures_folder(tmp_path)


def test_folder_that_looks_like_a_picture_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.openvino.1.b.png").mkdir()
    with pytest.raises(UsageError, match="expected a folder of pictures"):
        check_pictures_folder(tmp_path)
