from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from nanonet_edge.data import phantom_files
from nanonet_edge.data.layouts import open_dataset
from nanonet_edge.data.phantom_files import write_phantoms
from nanonet_edge.datasets import read_sample
from nanonet_edge.errors import UsageError
from nanonet_edge.phantom import draw_frame


def test_they_are_the_frames_of_the_seed(tmp_path: Path) -> None:
    steps = []
    empty = write_phantoms(
        tmp_path / "out", 12, size=48, seed=3, progress=lambda stage, done, total: steps.append((done, total))
    )
    opened = open_dataset(tmp_path / "out")
    assert opened.has_masks
    assert [sample.name for sample in opened.samples[:2]] == ["0000.png", "0001.png"]
    masks = []
    for index, sample in enumerate(opened.samples):
        frame, mask = read_sample(sample)
        expected = draw_frame(index, 48, 3)
        assert np.array_equal(frame, expected[0])
        assert np.array_equal(mask, expected[1])
        masks.append(expected[1])
    assert empty == sum(not mask.any() for mask in masks)
    assert steps[-1] == (12, 12)
    about = json.loads((tmp_path / "out" / "phantom.json").read_text())
    assert about == {"obtained": "generated", "count": 12, "size": 48, "seed": 3, "empty_masks": empty}


@pytest.mark.parametrize(("image_format", "images"), [("png", ".png"), ("jpg", ".jpg")])
def test_masks_are_black_and_white_png_in_either_format(
    tmp_path: Path, image_format: Literal["png", "jpg"], images: str
) -> None:
    write_phantoms(tmp_path, 3, size=64, image_format=image_format)
    for sample in open_dataset(tmp_path).samples:
        assert sample.image.suffix == images
        assert sample.mask is not None
        assert sample.mask.suffix == ".png"
        assert set(np.unique(cv2.imread(str(sample.mask), cv2.IMREAD_UNCHANGED))) <= {0, 255}


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_phantoms(tmp_path / name, 2, size=40)
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UsageError, match="expected an empty folder or none; add --overwrite"):
        write_phantoms(tmp_path, 1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    write_phantoms(tmp_path, 1, size=32, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "masks", "phantom.json"}


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_phantoms(tmp_path / "out", 2, size=32)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    real, written = phantom_files._write, []

    def fails_at_the_third(path: Path, pixels: np.ndarray) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        real(path, pixels)

    monkeypatch.setattr(phantom_files, "_write", fails_at_the_third)
    with pytest.raises(OSError, match="No space left"):
        write_phantoms(tmp_path / "out", 5, size=32, overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("count", "size", "seed"), [(0, 64, 0), (1, 31, 0), (1, 64, -1)])
def test_impossible_wishes_are_refused(tmp_path: Path, count: int, size: int, seed: int) -> None:
    with pytest.raises(UsageError, match=r"expected at least one frame|cannot draw"):
        write_phantoms(tmp_path / "out", count, size=size, seed=seed)
    assert not (tmp_path / "out").exists()
