from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge.data.check import DataReport, Finding, check_dataset, grey_share
from nanonet_edge.data.layouts import open_dataset
from nanonet_edge.errors import DatasetError
from nanonet_edge.phantom import draw_frame


def make(folder: Path, indices: Sequence[int], size: int = 96, suffix: str = ".png") -> Path:
    """Generated frames with a small disc as mask: named by their index."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in indices:
        mask = np.zeros((size, size), np.uint8)
        cv2.circle(mask, (size // 2, size // 2), 20, 255, -1)
        assert cv2.imwrite(str(folder / "images" / f"{index}{suffix}"), draw_frame(index, size)[0])
        assert cv2.imwrite(str(folder / "masks" / f"{index}{suffix}"), mask)
    return folder


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    make(tmp_path / "train", [0, 1, 2, 3])
    make(tmp_path / "validation", [4, 5])
    return tmp_path


def kinds(report: DataReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def only(report: DataReport) -> Finding:
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


def test_a_clean_dataset_passes(splits: Path) -> None:
    report = check_dataset(splits)
    assert report.passed
    assert report.findings == ()
    assert report.layout == "split-folders"
    assert [(split.name, split.images, split.pairs) for split in report.splits] == [
        ("train", 4, 4),
        ("val", 2, 2),
    ]
    assert report.notes == ()


@pytest.mark.parametrize("how", ["copied", "re-encoded", "resized", "cropped", "mirrored", "all"])
def test_a_leak_is_found_whatever_it_is_called(splits: Path, how: str) -> None:
    frame = cv2.imread(str(splits / "train" / "images" / "2.png"))
    if how in ("cropped", "all"):
        frame = frame[4:-4, 4:-4]
    if how in ("resized", "all"):
        frame = cv2.resize(frame, (150, 120))
    if how == "mirrored":
        frame = frame[:, ::-1].copy()
    name = "innocent.png" if how == "copied" else "innocent.jpg"
    target = splits / "validation" / "images" / name
    if how == "copied":
        shutil.copy(splits / "train" / "images" / "2.png", target)
    else:
        cv2.imwrite(str(target), frame, [cv2.IMWRITE_JPEG_QUALITY, 60])
    mask = np.full(frame.shape[:2], 255, np.uint8)
    cv2.imwrite(str(splits / "validation" / "masks" / "innocent.png"), mask)
    report = check_dataset(splits)
    leak = only(report)
    assert leak.kind == "leak"
    assert leak.files == ("train/images/2.png", f"validation/images/{name}")
    assert "one in train, one in val" in leak.detail
    assert ("the same picture" in leak.detail) == (
        how in ("copied", "mirrored") and "bits" not in leak.detail
    )
    assert not report.passed


def test_one_file_in_two_lists_is_a_leak(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", [0, 1, 2, 3])
    (folder / "train.txt").write_text("0\n1\n2\n")
    (folder / "val.txt").write_text("2\n3\n")
    leak = only(check_dataset(folder))
    assert (leak.kind, leak.files, leak.detail) == ("leak", ("images/2.png",), "it is in train and in val")


def test_a_scene_twice_in_one_split_is_told_but_passes(splits: Path) -> None:
    for name in ("images", "masks"):
        shutil.copy(splits / "train" / name / "1.png", splits / "train" / name / "9.png")
    report = check_dataset(splits)
    assert only(report).kind == "duplicate"
    assert only(report).files == ("train/images/1.png", "train/images/9.png")
    assert report.passed


def test_two_chosen_lists_are_compared(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", [0, 1, 2])
    shutil.copy(folder / "images" / "0.png", folder / "images" / "7.png")
    shutil.copy(folder / "masks" / "0.png", folder / "masks" / "7.png")
    (tmp_path / "a.txt").write_text("0\n1\n")
    (tmp_path / "b.txt").write_text("7\n")
    report = check_dataset(folder, [tmp_path / "a.txt", tmp_path / "b.txt"])
    assert kinds(report) == ["leak"]
    assert [split.name for split in report.splits] == ["a.txt", "b.txt"]
    assert kinds(check_dataset(folder)) == ["duplicate"]
    assert any("leaks cannot be looked for" in note for note in check_dataset(folder).notes)
    with pytest.raises(DatasetError, match=r"expected each split once, found a\.txt twice"):
        check_dataset(folder, [tmp_path / "a.txt", tmp_path / "a.txt"])


def test_orphans_are_listed(splits: Path) -> None:
    (splits / "train" / "masks" / "1.png").unlink()
    (splits / "validation" / "images" / "5.png").unlink()
    report = check_dataset(splits)
    assert [(finding.kind, finding.files) for finding in report.findings] == [
        ("orphan image", ("train/images/1.png",)),
        ("orphan mask", ("validation/masks/5.png",)),
    ]
    assert report.splits[0].images == 4
    assert report.splits[0].pairs == 3
    assert not report.passed


def test_orphans_beside_lists_are_found_too(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", [0, 1, 2])
    (folder / "train.txt").write_text("0\n")
    (folder / "val.txt").write_text("1\n")
    (folder / "images" / "2.png").unlink()
    assert [(finding.kind, finding.files) for finding in check_dataset(folder).findings] == [
        ("orphan mask", ("masks/2.png",))
    ]


def test_images_in_no_split_are_told(tmp_path: Path) -> None:
    folder = make(tmp_path / "Kvasir-SEG", [0, 1, 2])
    (folder / "train.txt").write_text("0\n")
    (folder / "val.txt").write_text("1\n")
    report = check_dataset(folder)
    assert report.title == "Kvasir-SEG"
    assert report.notes == (
        "Kvasir-SEG was published with 1000 images; here are 3",
        "1 images are in none of these splits and were not looked at",
    )


def damage(path: Path, how: str) -> None:
    if how == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("no image")
    elif how == "small":
        cv2.imwrite(str(path), np.full((10, 12), 255, np.uint8))
    elif how == "black":
        cv2.imwrite(str(path), np.zeros((96, 96), np.uint8))
    elif how == "labels":
        cv2.imwrite(str(path), np.eye(96, dtype=np.uint8))
    elif how == "probabilities":
        ramp = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (96, 1))
        cv2.imwrite(str(path), ramp)


@pytest.mark.parametrize(
    ("where", "how", "kind", "detail"),
    [
        ("images", "cut", "undecodable", "found"),
        ("images", "empty", "undecodable", "found an empty file"),
        ("images", "text", "undecodable", "found something else"),
        ("masks", "cut", "undecodable", "found"),
        ("masks", "small", "size differs", "image 96x96, mask 12x10"),
        ("masks", "labels", "not binary", "its highest grey value is 1: polyps are read above 127"),
        ("masks", "probabilities", "not binary", "of it is grey, away from the outline"),
    ],
)
def test_bad_files_are_named(splits: Path, where: str, how: str, kind: str, detail: str) -> None:
    damage(splits / "train" / where / "3.png", how)
    report = check_dataset(splits)
    finding = only(report)
    assert finding.kind == kind
    assert f"train/{where}/3.png" in finding.files
    assert detail in finding.detail
    assert not report.passed


def test_an_empty_mask_is_bad_where_every_image_shows_a_polyp(tmp_path: Path) -> None:
    for name, kind, passed in (("mine", "no polyp", True), ("Kvasir-SEG", "empty mask", False)):
        folder = make(tmp_path / name, [0, 1])
        damage(folder / "masks" / "0.png", "black")
        report = check_dataset(folder)
        assert only(report).kind == kind
        assert report.passed is passed


def test_masks_saved_as_jpeg_are_binary(tmp_path: Path) -> None:
    folder = make(tmp_path / "data", [0, 1], suffix=".jpg")
    values = np.unique(cv2.imread(str(folder / "masks" / "0.jpg"), cv2.IMREAD_GRAYSCALE))
    assert len(values) > 2  # JPEG did leave something
    assert check_dataset(folder).findings == ()


def test_blank_frames_are_no_copies_of_each_other(splits: Path) -> None:
    for split, index in (("train", 0), ("validation", 4)):
        cv2.imwrite(str(splits / split / "images" / f"{index}.png"), np.zeros((96, 96, 3), np.uint8))
    report = check_dataset(splits)
    assert report.findings == ()
    assert report.notes == ("2 images are of one colour: whether two are the same cannot be told",)


def test_findings_that_matter_come_first(splits: Path) -> None:
    for name in ("images", "masks"):
        shutil.copy(splits / "train" / name / "1.png", splits / "train" / name / "9.png")
    (splits / "validation" / "masks" / "5.png").unlink()
    report = check_dataset(splits)
    assert kinds(report) == ["orphan image", "duplicate"]
    assert DataReport.model_validate_json(report.model_dump_json()) == report


def test_the_real_masks_are_binary(test_data: Path) -> None:
    for sample in open_dataset(test_data / "data" / "kvasir-seg").samples[::9]:
        assert sample.mask is not None
        mask = np.asarray(cv2.imread(str(sample.mask), cv2.IMREAD_GRAYSCALE), np.uint8)
        assert grey_share(mask) < 0.0001  # a tenth of what is allowed
