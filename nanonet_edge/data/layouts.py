"""The five datasets of the NanoNet paper's Table I, in the layouts in which they are distributed.

`recognise` names a folder's layout, `open_dataset` gives its samples. What lies in `images/`
and `masks/`, in `train/` and `validation/` with these two each, or loose in a folder, is read
too, whatever it is.

- **Kvasir-SEG**: `images/` and `masks/`, 1,000 JPEG each, of equal names [page];
  `kavsir_bboxes.json`, so spelt [use].
- its released split: `train.txt` (880) and `val.txt` (120), one stem a line [Medico repository],
  read from beside `images/` [`data.py` of DebeshJha/NanoNet].
- **Kvasir-Instrument**: 590 images and masks, and a file for each part of a split [page];
  `images.tar.gz` and `masks.tar.gz`, which must be unpacked, JPEG images, PNG masks, `train.txt` and
  `test.txt` [use].
- **Medico 2020**: for development Kvasir-SEG [Medico repository]; for the test
  `Medico_automatic_polyp_segmentation_challenge_test_data/images/`, without masks [use].
- **EndoTect 2020**, segmentation: for development the segmented part of HyperKvasir, 1,000 JPEG
  each in two folders and a JSON of boxes [page, simula/icpr-endotect-2020], unpacked as
  `segmented-images/` with `images/`, `masks/`, `bounding-boxes.json` [use]; for the test
  `EndoTect_2020_Segmentation_Test_Dataset/images/` and `masks/` [use].
- **KvasirCapsule-SEG**: 55 images, in "separate folders for images, ground truth, and images with
  bounding boxes" [page].

[page] is the dataset's page in simula/datasets.simula.no, the source of that site; [Medico
repository] is DebeshJha/2020-MediaEval-Medico-polyp-segmentation; [use] is public code of others that
reads the unpacked archive.

Not confirmed, because no archive was at hand: the names of KvasirCapsule-SEG's folders and of its
archive's top folder (several spellings are tried), whether Kvasir-Instrument's split files end in
a suffix (both are read), how many images Medico's and EndoTect's test parts have and how they are
called, and whether the challenges' test masks were given out in the same folders later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nanonet_edge.datasets import IMAGE_SUFFIXES, Sample, image_samples, list_images, pair_masks
from nanonet_edge.errors import DatasetError

IMAGE_FOLDERS = ("images", "image")
MASK_FOLDERS = ("masks", "mask", "groundtruth", "gt", "annotations")
TRAIN, VALIDATION, TEST, DEVELOPMENT = "train", "val", "test", "development"
_SPLIT_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "dev": DEVELOPMENT,
    "development": DEVELOPMENT,
}
#: Folders that challenges give out for one part of their data, as `_plain` spells them.
_CHALLENGE_PARTS = {
    "kvasirseg": DEVELOPMENT,
    "segmentedimages": DEVELOPMENT,
    "medicoautomaticpolypsegmentationchallengetestdata": TEST,
    "endotect2020segmentationtestdataset": TEST,
}
_RELEASED_SPLIT = "kvasir-seg-train-val"
_ARCHIVES = ("images.tar.gz", "masks.tar.gz")
_NAMED = 3


@dataclass(frozen=True)
class Published:
    """A dataset as its publisher describes it.

    Attributes:
        name: what `nanonet-edge data fetch` calls it.
        title: what its paper calls it.
        count: images with masks in the whole of it; None where that could not be confirmed.
        folder: how names of its folders begin, as `_plain` spells them.
    """

    name: str
    title: str
    count: int | None
    folder: tuple[str, ...]


KVASIR_SEG = Published("kvasir-seg", "Kvasir-SEG", 1000, ("kvasirseg",))
KVASIR_INSTRUMENT = Published("kvasir-instrument", "Kvasir-Instrument", 590, ("kvasirinstrument",))
MEDICO_2020 = Published("medico-2020", "Medico 2020", None, ("medico",))
ENDOTECT_2020 = Published(
    "endotect-2020", "EndoTect 2020 (segmentation)", None, ("endotect", "segmentedimages")
)
KVASIR_CAPSULE_SEG = Published("kvasir-capsule-seg", "KvasirCapsule-SEG", 55, ("kvasircapsule",))
PUBLISHED = (KVASIR_SEG, KVASIR_INSTRUMENT, MEDICO_2020, ENDOTECT_2020, KVASIR_CAPSULE_SEG)


@dataclass(frozen=True)
class Part:
    """Images, their masks where there are any, and the file of stems that selects among them."""

    name: str
    images: Path
    masks: Path | None
    listing: Path | None = None


@dataclass(frozen=True)
class Layout:
    """What a folder is, and where things lie in it.

    Attributes:
        name: a dataset's name, or ``"split-folders"``, ``"images-and-masks"``, ``"images"``.
        title: the same in words.
        root: the folder that holds the parts; below the folder that was given if that
            holds nothing but this one (archives have a top folder of their own).
        parts: what makes up the whole: one part, or one for each split folder.
        splits: the parts by which `open_dataset` selects.
        published: the dataset that it is a copy of, if it is one.
        reason: what it was recognised by.
    """

    name: str
    title: str
    root: Path
    parts: tuple[Part, ...]
    splits: tuple[Part, ...]
    published: Published | None
    reason: str


@dataclass(frozen=True)
class Dataset:
    """The samples of a folder, or of one split.

    Attributes:
        layout: of the folder.
        split: name of the split or of the file that selected the samples; None for all.
        samples: in natural order, or in the order of the file of stems. Where all samples
            of several split folders are asked for, names begin with the split's (``train/1.jpg``).
        orphan_masks: masks without an image. Empty where a file of stems selects.
        orphan_images: samples without a mask in a folder of masks, if they were let pass.
    """

    layout: Layout
    split: str | None
    samples: tuple[Sample, ...]
    orphan_masks: tuple[Path, ...] = ()
    orphan_images: tuple[Sample, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether every sample has a mask."""
        return all(sample.mask is not None for sample in self.samples)


def recognise(folder: Path | str) -> Layout:
    """Name a folder's layout, by the files and folders in it first, by its name second.

    Raises:
        DatasetError: there is no such folder, or neither images nor folders of images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DatasetError(f"{folder}: expected the folder of a dataset, found {found}")
    root = _enter(folder)
    images, masks = _named(root, IMAGE_FOLDERS), _named(root, MASK_FOLDERS)
    if images is not None:
        return _of_one_part(root, Part("all", images, masks))
    split_parts = _split_folders(root)
    if split_parts:
        return _of_split_folders(root, split_parts)
    packed = [name for name in _ARCHIVES if (root / name).is_file()]
    if packed:
        raise DatasetError(
            f"{root}: expected the folder images/, found {' and '.join(packed)}: unpack them first"
        )
    inner = [path.name for path in sorted(root.iterdir()) if path.is_dir() and _named(path, IMAGE_FOLDERS)]
    if inner:  # read as loose files, their masks would pass for images
        raise DatasetError(f"{root}: expected the folder of one dataset, found {_some(inner)} in it")
    list_images(root)  # says what is wrong if there are none
    return Layout("images", "images without masks", root, (Part("all", root, None),), (), None, "loose files")


def open_dataset(
    folder: Path | str, split: str | Path | None = None, *, require_masks: bool = True
) -> Dataset:
    """List the samples of a dataset, or of one split of it; no image is decoded.

    Args:
        folder: in any layout that `recognise` knows.
        split: ``"train"``, ``"val"``, ``"test"``, ``"development"`` (or a longer spelling, such
            as ``"validation"``), or a text file with one stem a line. None: all there is.
        require_masks: refuse images without a mask where the layout has a folder of masks;
            otherwise they are among the samples and listed as `Dataset.orphan_images`.

    Raises:
        DatasetError: as `recognise` and `nanonet_edge.datasets.pair_masks`; there is no such
            split; a file of stems cannot be read, names an image that is not there, or one twice.
    """
    layout = recognise(folder)
    part, listing = _select(layout, split)
    parts = layout.parts if part is None else (part,)
    samples: list[Sample] = []
    orphan_masks: list[Path] = []
    unmasked: set[Path] = set()
    for one in parts:
        found, orphans = _read(one)
        prefix = f"{one.name}/" if len(parts) > 1 else ""
        samples += [replace(sample, name=prefix + sample.name) for sample in found]
        orphan_masks += orphans
        if one.masks is not None:
            unmasked |= {sample.image for sample in found if sample.mask is None}
    if listing is not None:
        samples, orphan_masks = _listed(samples, listing), []
    without = tuple(sample for sample in samples if sample.image in unmasked)
    if without and require_masks:
        raise DatasetError(
            f"{layout.root}: expected a mask for each of {len(samples)} images, "
            f"found none for {len(without)}: {_some([sample.name for sample in without])}"
        )
    label = part.name if part is not None else None if listing is None else listing.name
    return Dataset(layout, label, tuple(samples), tuple(orphan_masks), without)


def read_stems(path: Path | str) -> tuple[str, ...]:
    """Read a file of stems: one a line; empty lines and a suffix of an image are dropped.

    Raises:
        DatasetError: it is no readable UTF-8 text, names nothing, or names something twice.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise DatasetError(f"{path}: expected a text file with one image a line: {reason}") from None
    stems = [_stem(line.strip()) for line in lines if line.strip()]
    if not stems:
        raise DatasetError(f"{path}: expected the name of an image on each line, found none")
    twice = [stem for stem, count in Counter(stems).items() if count > 1]
    if twice:
        raise DatasetError(f"{path}: expected each image once, found twice: {_some(twice)}")
    return tuple(stems)


def _of_one_part(root: Path, whole: Part) -> Layout:
    splits = tuple(_split_files(root, whole))
    published, reason = _identify(root, {split.name for split in splits})
    if published is not None:
        return Layout(published.name, published.title, root, (whole,), splits, published, reason)
    if whole.masks is None:
        return Layout("images", "images without masks", root, (whole,), splits, None, reason)
    return Layout("images-and-masks", "images and masks", root, (whole,), splits, None, reason)


def _of_split_folders(root: Path, parts: tuple[Part, ...]) -> Layout:
    names = [_plain(part.images.parent.name) for part in parts]
    for published in (MEDICO_2020, ENDOTECT_2020):
        for name in names:
            if name.startswith(published.folder) and name in _CHALLENGE_PARTS:
                reason = f"the folder {parts[names.index(name)].images.parent.name}"
                return Layout(published.name, published.title, root, parts, parts, published, reason)
    reason = "the folders " + ", ".join(part.images.parent.name for part in parts)
    return Layout(
        "split-folders", "a folder of images and masks for each split", root, parts, parts, None, reason
    )


def _identify(root: Path, splits: set[str]) -> tuple[Published | None, str]:
    """Which dataset the folder is a copy of, and by what that was told."""
    for marker, published in (("kavsir_bboxes.json", KVASIR_SEG), ("bounding-boxes.json", ENDOTECT_2020)):
        if (root / marker).is_file():
            return published, f"the file {marker}"
    name = _plain(root.name)
    for published in PUBLISHED:
        if name.startswith(published.folder):
            return published, f"the folder's name {root.name}"
    if splits == {TRAIN, TEST}:
        return KVASIR_INSTRUMENT, "the files train.txt and test.txt beside images"
    if splits == {TRAIN, VALIDATION}:
        return KVASIR_SEG, "the files train.txt and val.txt beside images"
    return None, "its folders"


def _enter(folder: Path) -> Path:
    """Go down into an archive's top folder: the only folder there, with images in it."""
    if _named(folder, IMAGE_FOLDERS) is not None:
        return folder
    visible = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
    inner = [path for path in visible if path.is_dir()]
    has_images = any(path.suffix.lower() in IMAGE_SUFFIXES for path in visible)
    is_top = len(inner) == 1 and not has_images and _plain(inner[0].name) not in _SPLIT_WORDS
    if is_top and (_named(inner[0], IMAGE_FOLDERS) or _split_folders(inner[0])):
        return inner[0]
    return folder


def _named(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder of one of these names; spelling with spaces, hyphens or capitals is the same."""
    found = {_plain(path.name): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _split_folders(root: Path) -> tuple[Part, ...]:
    """Folders that are a split each: by their usual names, or those of a challenge's parts."""
    children = [path for path in sorted(root.iterdir()) if path.is_dir()]
    usual = _parts(root, children, _SPLIT_WORDS)
    if usual:
        return usual
    # A folder of datasets may hold Kvasir-SEG too: only beside a challenge's test it is a part.
    challenge = _parts(root, children, _CHALLENGE_PARTS)
    return challenge if any(part.name == TEST for part in challenge) else ()


def _parts(root: Path, children: Sequence[Path], words: Mapping[str, str]) -> tuple[Part, ...]:
    parts: dict[str, Part] = {}
    for path in children:
        name, images = words.get(_plain(path.name)), _named(path, IMAGE_FOLDERS)
        if name is None or images is None:
            continue
        if name in parts:
            other = parts[name].images.parent.name
            raise DatasetError(f"{root}: expected one folder for {name}, found {other} and {path.name}")
        parts[name] = Part(name, images, _named(path, MASK_FOLDERS))
    return tuple(parts.values())


def _split_files(root: Path, whole: Part) -> Iterator[Part]:
    for folder in (root, root / _RELEASED_SPLIT):
        for path in sorted(folder.glob("*.txt")):
            name = _SPLIT_WORDS.get(_plain(path.stem))
            if name is not None:
                yield replace(whole, name=name, listing=path)


def _select(layout: Layout, split: str | Path | None) -> tuple[Part | None, Path | None]:
    """The part that a split names, and the file of stems that selects in it."""
    if split is None:
        return None, None
    if isinstance(split, str):
        word = _SPLIT_WORDS.get(split.lower(), split)
        for part in layout.splits:
            if part.name == word:
                return part, part.listing
    if Path(split).is_file():
        return None, Path(split)
    there = ", ".join(part.name for part in layout.splits) or "no splits"
    raise DatasetError(f"{layout.root}: expected a split of it ({there}) or a file of stems, found '{split}'")


def _read(part: Part) -> tuple[tuple[Sample, ...], tuple[Path, ...]]:
    """Samples and orphan masks of a part, whatever its file of stems selects."""
    if part.masks is None:
        return image_samples(list_images(part.images), part.images), ()
    pairing = pair_masks(part.images, part.masks, require_all=False)
    return pairing.samples, pairing.orphan_masks


def _listed(samples: Sequence[Sample], listing: Path) -> list[Sample]:
    stems = read_stems(listing)
    bare = Counter(Path(sample.name).stem for sample in samples)
    by_stem = {Path(sample.name).stem: sample for sample in samples if bare[Path(sample.name).stem] == 1}
    by_stem |= {_stem(sample.name): sample for sample in samples}
    missing = [stem for stem in stems if stem not in by_stem]
    if missing:
        raise DatasetError(
            f"{listing}: expected names of images, each there once, "
            f"found {len(missing)} of {len(stems)} that are not: {_some(missing)}"
        )
    return [by_stem[stem] for stem in stems]


def _stem(name: str) -> str:
    path = name.removeprefix("./").removeprefix("images/")
    suffix = Path(path).suffix
    return path[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else path


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
