from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.data.layouts import open_dataset, read_stems, recognise
from nanonet_edge.errors import DatasetError

STEMS = ("a", "b", "c", "d")


def make(
    folder: Path,
    stems: Sequence[str] = STEMS,
    *,
    images: str = "images",
    masks: str | None = "masks",
    mask_suffix: str = ".jpg",
) -> Path:
    """A folder of small images and masks, one frame of noise each."""
    for name, suffix in ((images, ".jpg"), (masks, mask_suffix)):
        if name is None:
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index, stem in enumerate(stems):
            pixels = np.random.default_rng(index).integers(0, 256, (32, 48, 3), dtype=np.uint8)
            assert cv2.imwrite(str(folder / name / f"{stem}{suffix}"), pixels)
    return folder


def listing(path: Path, stems: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems))
    return path


def stems(folder: Path, split: str | Path | None = None) -> list[str]:
    return [Path(sample.name).stem for sample in open_dataset(folder, split).samples]


# --- the five datasets -------------------------------------------------------------------


def test_kvasir_seg_with_the_released_split(tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    (folder / "kavsir_bboxes.json").write_text("{}")
    listing(folder / "train.txt", ["d", "a"])
    listing(folder / "val.txt", ["b"])
    layout = recognise(folder)
    assert (layout.name, layout.title) == ("kvasir-seg", "Kvasir-SEG")
    assert layout.reason == "the file kavsir_bboxes.json"
    assert layout.published is not None
    assert layout.published.count == 1000
    assert stems(folder) == ["a", "b", "c", "d"]
    assert stems(folder, "train") == ["d", "a"]  # the file's order is the released code's order
    assert stems(folder, "val") == stems(folder, "validation") == ["b"]
    opened = open_dataset(folder, "train")
    assert opened.split == "train"
    assert opened.has_masks
    assert [sample.mask for sample in opened.samples] == [
        folder / "masks" / "d.jpg",
        folder / "masks" / "a.jpg",
    ]
    assert opened.orphan_masks == ()


def test_split_files_are_read_as_their_repository_has_them(tmp_path: Path) -> None:
    folder = make(tmp_path / "Kvasir-SEG")
    listing(folder / "kvasir-seg-train-val" / "train.txt", ["a", "c"])
    assert recognise(folder).name == "kvasir-seg"
    assert stems(folder, "train") == ["a", "c"]


def test_kvasir_instrument(tmp_path: Path) -> None:
    folder = make(tmp_path / "tools", mask_suffix=".png")
    listing(folder / "train.txt", ["a", "b", "c"])
    listing(folder / "test.txt", ["d"])
    assert recognise(folder).name == "kvasir-instrument"
    assert stems(folder, "test") == ["d"]
    assert recognise(make(tmp_path / "kvasir-instrument")).name == "kvasir-instrument"


def test_kvasir_instrument_still_packed_says_so(tmp_path: Path) -> None:
    for name in ("images.tar.gz", "masks.tar.gz"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=r"found images.tar.gz and masks.tar.gz: unpack them first"):
        recognise(tmp_path)


def test_medico_2020_has_a_test_without_masks(tmp_path: Path) -> None:
    make(tmp_path / "Kvasir-SEG", ["a", "b"])
    make(tmp_path / "Medico_automatic_polyp_segmentation_challenge_test_data", ["x"], masks=None)
    layout = recognise(tmp_path)
    assert layout.name == "medico-2020"
    assert stems(tmp_path, "development") == ["a", "b"]
    test = open_dataset(tmp_path, "test")
    assert [sample.mask for sample in test.samples] == [None]
    assert test.orphan_images == ()  # nothing is missing: the test has no masks
    assert [sample.name for sample in open_dataset(tmp_path).samples] == [
        "development/a.jpg",
        "development/b.jpg",
        "test/x.jpg",
    ]


def test_the_test_part_of_medico_2020_alone(tmp_path: Path) -> None:
    folder = make(tmp_path / "Medico_automatic_polyp_segmentation_challenge_test_data", masks=None)
    for given_folder in (folder, tmp_path):
        opened = open_dataset(given_folder)
        assert opened.layout.name == "medico-2020"
        assert not opened.has_masks


def test_endotect_2020(tmp_path: Path) -> None:
    development = make(tmp_path / "segmented-images", ["a", "b"])
    (development / "bounding-boxes.json").write_text("{}")
    assert recognise(development).name == "endotect-2020"
    make(tmp_path / "EndoTect_2020_Segmentation_Test_Dataset", ["x"])
    assert recognise(tmp_path).name == "endotect-2020"
    assert stems(tmp_path, "test") == ["x"]
    assert open_dataset(tmp_path).has_masks


@pytest.mark.parametrize("masks", ["masks", "ground truth", "Ground_Truth", "groundtruth", "GT"])
def test_kvasir_capsule_seg_in_several_spellings(tmp_path: Path, masks: str) -> None:
    folder = make(tmp_path / "KvasirCapsule-SEG", images="Images", masks=masks, mask_suffix=".png")
    make(folder, images="bbox", masks=None)
    layout = recognise(folder)
    assert layout.name == "kvasir-capsule-seg"
    assert layout.published is not None
    assert layout.published.count == 55
    assert open_dataset(folder).has_masks


# --- any other folder --------------------------------------------------------------------


def test_folders_per_split(tmp_path: Path) -> None:
    make(tmp_path / "train", ["1", "2"])
    make(tmp_path / "validation", ["1"])
    layout = recognise(tmp_path)
    assert layout.name == "split-folders"
    assert [split.name for split in layout.splits] == ["train", "val"]
    assert [sample.name for sample in open_dataset(tmp_path, "val").samples] == ["1.jpg"]
    whole = open_dataset(tmp_path)
    assert [sample.name for sample in whole.samples] == ["train/1.jpg", "train/2.jpg", "val/1.jpg"]
    assert len({sample.image for sample in whole.samples}) == 3


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "val")
    make(tmp_path / "validation")
    with pytest.raises(DatasetError, match="expected one folder for val, found val and validation"):
        recognise(tmp_path)


def test_images_and_masks_and_loose_images(tmp_path: Path) -> None:
    assert recognise(make(tmp_path / "mine")).name == "images-and-masks"
    assert recognise(tmp_path / "mine" / "images").name == "images"
    assert stems(tmp_path / "mine" / "images") == ["a", "b", "c", "d"]
    assert recognise(make(tmp_path / "frames", masks=None)).name == "images"


def test_an_archives_top_folder_is_entered(tmp_path: Path) -> None:
    make(tmp_path / "download" / "Kvasir-SEG")
    (tmp_path / "download" / "__MACOSX").mkdir()
    assert recognise(tmp_path / "download").root == tmp_path / "download" / "Kvasir-SEG"


def test_a_folder_of_datasets_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "Kvasir-SEG")
    make(tmp_path / "kvasir-instrument")
    with pytest.raises(
        DatasetError, match="expected the folder of one dataset, found Kvasir-SEG, kvasir-inst"
    ):
        recognise(tmp_path)


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (lambda path: None, "found nothing"),
        (lambda path: path.touch(), "found a file"),
        (lambda path: path.mkdir(), "expected images"),
        (lambda path: (path / "images").mkdir(parents=True), "images: expected images"),
    ],
)
def test_unusable_folders_are_named(tmp_path: Path, prepare: object, found: str) -> None:
    assert callable(prepare)
    prepare(tmp_path / "data")
    with pytest.raises(DatasetError, match=found):
        open_dataset(tmp_path / "data")


# --- splits and pairs --------------------------------------------------------------------


def test_a_file_of_stems_selects_in_any_layout(tmp_path: Path) -> None:
    make(tmp_path / "data" / "train", ["1", "2"])
    make(tmp_path / "data" / "val", ["1", "3"])
    chosen = listing(tmp_path / "mine.txt", ["3", "train/1"])
    opened = open_dataset(tmp_path / "data", chosen)
    assert opened.split == "mine.txt"
    assert [sample.name for sample in opened.samples] == ["val/3.jpg", "train/1.jpg"]
    # "1" alone is in both
    with pytest.raises(DatasetError, match=r"mine\.txt: .*each there once, found 1 of 1 that are not: 1$"):
        open_dataset(tmp_path / "data", str(listing(chosen, ["1"])))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test", r"expected a split of it \(train\) or a file of stems, found 'test'"),
        ("gone.txt", "found 'gone.txt'"),
    ],
)
def test_an_unknown_split_names_those_there_are(tmp_path: Path, split: str, message: str) -> None:
    folder = make(tmp_path / "data")
    listing(folder / "train.txt", ["a"])
    with pytest.raises(DatasetError, match=message):
        open_dataset(folder, split)


def test_a_listed_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    listing(folder / "val.txt", ["a", "zz"])
    with pytest.raises(DatasetError, match=r"val\.txt: .*found 1 of 2 that are not: zz"):
        open_dataset(folder, "val")


def test_orphans_are_refused_or_listed(tmp_path: Path) -> None:
    folder = make(tmp_path / "data")
    (folder / "masks" / "b.jpg").unlink()
    (folder / "images" / "d.jpg").unlink()
    with pytest.raises(DatasetError, match=r"expected a mask for each of 3 images, found none for 1: b\.jpg"):
        open_dataset(folder)
    opened = open_dataset(folder, require_masks=False)
    assert [sample.name for sample in opened.orphan_images] == ["b.jpg"]
    assert opened.orphan_masks == (folder / "masks" / "d.jpg",)
    assert not opened.has_masks
    chosen = listing(tmp_path / "chosen.txt", ["a", "c"])
    assert open_dataset(folder, chosen).has_masks  # the orphan is not among them


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found none"),
        (b"\n \n", "found none"),
        (b"a\nb\na\n", "found twice: a"),
        (b"a.jpg\na\n", "found twice: a"),
        (b"\xff\xfe\xfa", "it is no UTF-8 text"),
    ],
)
def test_unusable_files_of_stems_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"train\.txt: expected .*{message}"):
        read_stems(path)


@given(
    st.lists(
        st.text("abcdefghijklmnopqrstuvwxyz0123456789_-", min_size=1, max_size=25), min_size=1, unique=True
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", ".jpg", ".PNG"]),
    st.sampled_from(["", "\ufeff"]),
    st.booleans(),
)
def test_files_of_stems_are_read_however_they_were_saved(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    newline: str,
    suffix: str,
    mark: str,
    ends: bool,
) -> None:
    text = mark + newline.join(f"{name}{suffix}" for name in names) + (newline if ends else "")
    path = tmp_path_factory.mktemp("stems") / "list.txt"
    path.write_bytes(text.encode())
    assert read_stems(path) == tuple(names)


def test_the_real_images(test_data: Path) -> None:
    folder = test_data / "data" / "kvasir-seg"
    assert [len(open_dataset(folder, split).samples) for split in (None, "train", "val")] == [900, 800, 100]
