from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge.benchmarks.accuracy_data import open_data
from nanonet_edge.datasets import images_digest
from nanonet_edge.errors import DatasetError, UsageError
from tests.benchmarks.agreement_fakes import write_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "kvasir", count=6)


def names(folder: Path, **asked: object) -> list[str]:
    return [item.name for item in open_data(folder, **asked)]  # type: ignore[arg-type]


def test_images_and_masks(folder: Path) -> None:
    data = open_data(folder)
    assert [item.name for item in data] == [f"{index}.png" for index in range(6)]
    assert all(item.mask is not None and item.mask.shape == (96, 96) for item in data)
    assert (data.record.folder, data.record.count, data.record.masks) == ("kvasir", 6, True)
    assert data.record.digest == images_digest(sorted((folder / "images").iterdir()))
    assert names(folder / "images", masks=folder / "masks") == names(folder)


def test_split_is_a_name_or_a_file(folder: Path, tmp_path: Path) -> None:
    (folder / "train.txt").write_text("0\n1\n2\n3\n")
    (folder / "val.txt").write_text("5\n4\n")
    assert names(folder, split="val") == ["5.png", "4.png"]
    assert open_data(folder, split="val").record.folder == "kvasir (val)"
    (tmp_path / "mine.txt").write_text("3\n")
    assert names(folder, split=str(tmp_path / "mine.txt")) == ["3.png"]
    assert len(names(folder)) == 6


def test_split_folders_are_one_set_or_one_each(tmp_path: Path) -> None:
    for index, part in enumerate(("train", "validation")):
        write_dataset(tmp_path / part, count=index + 2)
    assert names(tmp_path, split="validation") == ["0.png", "1.png", "2.png"]
    assert names(tmp_path)[:3] == ["train/0.png", "train/1.png", "val/0.png"]


def test_draw_is_the_seed_s(folder: Path) -> None:
    assert len(names(folder, limit=3)) == 3
    assert names(folder, limit=3, seed=1) == names(folder, limit=3, seed=1) != names(folder, limit=3, seed=2)
    record = open_data(folder, limit=3, seed=1).record
    assert (record.count, record.available, record.seed) == (3, 6, 1)


def test_orphan_mask_is_noted(folder: Path) -> None:
    (folder / "images" / "2.png").unlink()
    data = open_data(folder)
    assert len(data) == 5
    assert data.notes == (f"{folder}: 1 masks have no image and are left out",)


# --- bad input -------------------------------------------------------------------------


def test_no_masks(folder: Path) -> None:
    expected = r"images: expected ground-truth masks .*, found 6 images of which 6 have none"
    with pytest.raises(DatasetError, match=expected):
        open_data(folder / "images")


def test_a_part_without_masks_names_the_splits_that_have_them(tmp_path: Path) -> None:
    write_dataset(tmp_path / "train", count=2)
    write_dataset(tmp_path / "test", count=2, masks=False)
    for path in (tmp_path / "test" / "masks").iterdir():
        path.unlink()
    (tmp_path / "test" / "masks").rmdir()
    with pytest.raises(DatasetError, match=r"4 images of which 2 have none; splits that have them: train"):
        open_data(tmp_path)
    assert len(open_data(tmp_path, split="train")) == 2


def test_orphan_image(folder: Path) -> None:
    (folder / "masks" / "4.jpg").unlink()
    with pytest.raises(DatasetError, match=r"expected a mask for each of 6 images, found none for 1: 4\.png"):
        open_data(folder)


def test_sizes_that_differ_and_a_corrupt_image_are_found_when_they_are_read(folder: Path) -> None:
    assert cv2.imwrite(str(folder / "masks" / "1.jpg"), np.zeros((50, 96), np.uint8))
    with pytest.raises(DatasetError, match=r"1\.jpg: expected the size of its image 1\.png, 96x96, found"):
        list(open_data(folder))
    whole = (folder / "images" / "0.png").read_bytes()
    (folder / "images" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"0\.png: expected a PNG image, found a damaged"):
        list(open_data(folder))


def test_no_such_folder_or_split(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="absent: expected the folder of a dataset, found nothing"):
        open_data(tmp_path / "absent")
    with pytest.raises(DatasetError, match="expected a split of it"):
        open_data(folder, split="val")
    with pytest.raises(UsageError, match="--masks, --split"):
        open_data(folder, masks=folder / "masks", split="val")
