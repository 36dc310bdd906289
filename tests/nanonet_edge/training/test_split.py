"""Which images train and which validate."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.datasets import Sample
from nanonet_edge.errors import DatasetError, UsageError
from nanonet_edge.training import split_samples

NAMES = st.sets(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True), min_size=10, max_size=40)


def touch(folder: Path, names: Iterable[str], *kinds: str) -> Path:
    """Files that are images and masks by their names: nothing is decoded here."""
    for kind in kinds or ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / kind / f"{name}.png").touch()
    return folder


def names_of(samples: Iterable[Sample]) -> list[str]:
    return [Path(sample.name).stem for sample in samples]


@given(names=NAMES, parts=st.integers(2, 10))
def test_folds_partition_the_images(names: set[str], parts: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = touch(Path(folder), names)
        held: list[str] = []
        for part in range(1, parts + 1):
            split = split_samples(data, fold=f"{part}/{parts}")
            training, validation = names_of(split.training), names_of(split.validation)
            assert set(training) | set(validation) == names
            assert len(training) + len(validation) == len(names)
            assert len(validation) in (len(names) // parts, -(-len(names) // parts))
            assert f"part {part} of {parts}" in split.rule
            held += validation
    assert sorted(held) == sorted(names)


@given(
    names=NAMES,
    more=st.from_regex(r"_[a-z]{1,8}", fullmatch=True),
    fold=st.sampled_from((None, "1/3", "2/3")),
)
def test_an_image_more_moves_one_other_at_each_border_at_most(
    names: set[str], more: str, fold: str | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before = set(names_of(split_samples(touch(Path(folder), names), fold=fold).validation))
        after = set(names_of(split_samples(touch(Path(folder), {more}), fold=fold).validation)) - {more}
    assert len(before ^ after) <= (2 if fold == "2/3" else 1)


def test_a_tenth_is_held_out_and_folder_and_order_do_not_matter(tmp_path: Path) -> None:
    names = [str(index) for index in range(50)]
    first = split_samples(touch(tmp_path / "one", names))
    second = split_samples(touch(tmp_path / "two", names[::-1]))
    assert len(first.validation) == 5
    assert names_of(first.validation) == names_of(second.validation)
    assert "a tenth" in first.rule


@pytest.mark.parametrize("name", ["validation", "val"])
def test_folders_of_splits_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "train", "abc")
    touch(tmp_path / name, "xy")
    split = split_samples(tmp_path)
    assert (names_of(split.training), names_of(split.validation)) == (["a", "b", "c"], ["x", "y"])
    # A fold is of the training images: the validation images stay unseen.
    folds = [split_samples(tmp_path, fold=f"{part}/3") for part in (1, 2, 3)]
    assert sorted(one for fold in folds for one in names_of(fold.validation)) == ["a", "b", "c"]


def test_the_released_split_of_kvasir_seg(tmp_path: Path) -> None:
    touch(tmp_path, "abcdef")
    (tmp_path / "train.txt").write_text("c\na\nb\n")
    (tmp_path / "val.txt").write_text("f\nd\n")
    split = split_samples(tmp_path)
    assert (names_of(split.training), names_of(split.validation)) == (["c", "a", "b"], ["f", "d"])


def test_test_images_are_never_looked_at(tmp_path: Path) -> None:
    touch(tmp_path, "abcdefghijklmnop")
    (tmp_path / "train.txt").write_text("\n".join("abcdefghijklm"))
    (tmp_path / "test.txt").write_text("n\no\np\n")
    split = split_samples(tmp_path)
    assert sorted(names_of(split.training + split.validation)) == list("abcdefghijklm")
    assert len(split.validation) == 1


def test_a_challenges_development_data_trains(tmp_path: Path) -> None:
    touch(tmp_path / "Kvasir-SEG", "abcdefghijkl")
    touch(tmp_path / "Medico_automatic_polyp_segmentation_challenge_test_data", "xyz", "images")
    split = split_samples(tmp_path)
    assert sorted(names_of(split.training + split.validation)) == list("abcdefghijkl")


def test_a_validation_folder_of_ones_own(tmp_path: Path) -> None:
    touch(tmp_path / "data" / "train", "abc")
    touch(tmp_path / "data" / "validation", "xy")
    split = split_samples(tmp_path / "data", touch(tmp_path / "own", "uvw"))
    assert (names_of(split.training), names_of(split.validation)) == (["a", "b", "c"], ["u", "v", "w"])
    assert split.rule == "own/ validates"


def test_images_that_are_trained_on_cannot_validate(tmp_path: Path) -> None:
    data = touch(tmp_path, "abc")
    with pytest.raises(DatasetError, match=r"a\.png: expected images that are not trained on, found 3"):
        split_samples(data, data)


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "5", "a/b", "1/21", "-1/5", "1/5/2", ""])
def test_a_fold_that_makes_no_sense_is_refused(tmp_path: Path, fold: str) -> None:
    data = touch(tmp_path, [str(index) for index in range(20)])
    with pytest.raises(UsageError, match="expected K/N such as 1/5, with at most 20 parts"):
        split_samples(data, fold=fold)


def test_a_fold_and_a_validation_folder_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --validation out"):
        split_samples(tmp_path, tmp_path, "1/5")


def test_data_that_cannot_be_parted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "tests" / "test", "abc")
    touch(touch(tmp_path / "orphan", "abcdefghijk"), "l", "images")
    with pytest.raises(DatasetError, match=r"empty: expected images"):
        split_samples(tmp_path / "empty")
    with pytest.raises(DatasetError, match=r"bare: expected the folders images/ and masks/"):
        split_samples(touch(tmp_path / "bare", "abcdefghijk", "images"))
    with pytest.raises(DatasetError, match=r"found none for 1: l\.png"):
        split_samples(tmp_path / "orphan")
    with pytest.raises(DatasetError, match="expected at least 10 images to hold some out, found 3"):
        split_samples(touch(tmp_path / "few", "abc"))
    with pytest.raises(DatasetError, match=r"tests: expected a split to train on, found test"):
        split_samples(tmp_path / "tests")
