"""Look a dataset over before it is trained on or measured with: `nanonet-edge data check`.

Every image and mask is decoded once. What is found is either fatal to a result (a leak between
splits, an orphan, a bad file) or worth knowing (a scene that a split holds twice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nanonet_edge.data.layouts import Dataset, Layout, open_dataset, recognise
from nanonet_edge.data.perceptual_hash import BITS, SAME_SCENE, Fingerprint, find_matches, fingerprint
from nanonet_edge.datasets import MASK_THRESHOLD, Frame, Sample, read_frame
from nanonet_edge.errors import DatasetError
from nanonet_edge.manifest import Record

Kind = Literal[
    "leak",
    "orphan image",
    "orphan mask",
    "undecodable",
    "size differs",
    "empty mask",
    "not binary",
    "no polyp",
    "duplicate",
]
#: Kinds that make a result wrong or a training fail; the others are only told.
SERIOUS: Final[frozenset[Kind]] = frozenset(
    {"leak", "orphan image", "orphan mask", "undecodable", "size differs", "empty mask", "not binary"}
)
#: JPEG blurs a mask's outline by a pixel or two. Grey values between these, farther than
#: `_OUTLINE` pixels from it, are no such noise: 0.0016 percent of a mask at most in the 900
#: masks of Kvasir-SEG that were measured, 0.1 percent is what is allowed.
_GREY = (32, 223)
_OUTLINE = 3
_GREY_SHARE = 0.001

Progress = Callable[[str, int, int], None]


class Finding(Record):
    """Something about one or two files; paths are relative to the dataset's root where they can be."""

    kind: Kind
    files: tuple[str, ...]
    detail: str

    @property
    def serious(self) -> bool:
        """Whether the check fails because of it."""
        return self.kind in SERIOUS


class SplitCount(Record):
    """How much a split holds; `name` is ``"all"`` where there are no splits."""

    name: str
    images: int
    pairs: int


class DataReport(Record):
    """What `check_dataset` found.

    Attributes:
        folder: where the images and masks lie.
        layout: as `Layout.name`, `title` in words, `reason` by what it was recognised.
        splits: that were looked at.
        findings: serious ones first.
        notes: what else to know, such as how many images the published dataset has.
    """

    schema_version: Literal[1] = 1
    kind: Literal["data-check"] = "data-check"
    folder: str
    layout: str
    title: str
    reason: str
    splits: tuple[SplitCount, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    same_scene_bits: int = Field(ge=0, le=BITS)

    @property
    def passed(self) -> bool:
        """Whether nothing serious was found."""
        return not any(finding.serious for finding in self.findings)


@dataclass
class _Image:
    """One image file, and the splits that it is in."""

    sample: Sample
    splits: list[str]
    print: Fingerprint | None = None
    is_blank: bool = False


def check_dataset(
    folder: Path | str,
    splits: Sequence[str | Path] = (),
    *,
    same_scene: int = SAME_SCENE,
    progress: Progress | None = None,
) -> DataReport:
    """Check the splits of a dataset, one by one and against each other.

    Args:
        folder: in any layout that `nanonet_edge.data.layouts.recognise` knows.
        splits: names of splits or files of stems; none: all that the layout has, else the whole.
        same_scene: bits of `nanonet_edge.data.perceptual_hash` in which pictures of one scene
            may differ.
        progress: called with the stage, and how much of it is done.

    Raises:
        DatasetError: the folder or a split cannot be listed at all, or a stem is ambiguous.
    """
    layout = recognise(folder)
    wanted: Sequence[str | Path | None] = (
        tuple(splits) or tuple(part.name for part in layout.splits) or (None,)
    )
    opened = [open_dataset(folder, split, require_masks=False) for split in wanted]
    labels = _labels(opened)
    images: dict[Path, _Image] = {}
    for label, dataset in zip(labels, opened, strict=True):
        for sample in dataset.samples:
            images.setdefault(sample.image, _Image(sample, [])).splits.append(label)
    whole = [open_dataset(folder, require_masks=False)] if layout.splits else []
    findings = [*_orphans(layout, [*opened, *whole]), *_files(layout, list(images.values()), progress)]
    findings += _repetitions(layout, list(images.values()), same_scene, progress)
    findings.sort(key=lambda finding: not finding.serious)
    return DataReport(
        folder=str(layout.root),
        layout=layout.name,
        title=layout.title,
        reason=layout.reason,
        splits=tuple(_count(label, dataset) for label, dataset in zip(labels, opened, strict=True)),
        findings=tuple(findings),
        notes=tuple(_notes(layout, images, [sample for one in whole for sample in one.samples], len(opened))),
        same_scene_bits=same_scene,
    )


def _labels(opened: Sequence[Dataset]) -> list[str]:
    names = [dataset.split or "all" for dataset in opened]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise DatasetError(f"expected each split once, found {', '.join(sorted(twice))} twice")
    return names


def _count(label: str, dataset: Dataset) -> SplitCount:
    pairs = sum(sample.mask is not None for sample in dataset.samples)
    return SplitCount(name=label, images=len(dataset.samples), pairs=pairs)


def _notes(
    layout: Layout, images: Mapping[Path, _Image], whole: Sequence[Sample], splits: int
) -> Iterator[str]:
    published = layout.published
    there = max(len(images), len(whole))
    if published is not None and published.count not in (None, there):
        yield f"{published.title} was published with {published.count} images; here are {there}"
    unused = sum(sample.image not in images for sample in whole)
    if unused:
        yield f"{unused} images are in none of these splits and were not looked at"
    blank = sum(image.is_blank for image in images.values())
    if blank:
        yield f"{blank} images are of one colour: whether two are the same cannot be told"
    if splits < 2:
        yield "one split: leaks cannot be looked for; --split NAME --split NAME compares two"


def _orphans(layout: Layout, opened: Sequence[Dataset]) -> list[Finding]:
    masks = {path for dataset in opened for path in dataset.orphan_masks}
    images = {sample.image for dataset in opened for sample in dataset.orphan_images}
    return [
        *(_finding(layout, "orphan image", [path], "no mask has its stem") for path in sorted(images)),
        *(_finding(layout, "orphan mask", [path], "no image has its stem") for path in sorted(masks)),
    ]


def _files(layout: Layout, images: Sequence[_Image], progress: Progress | None) -> list[Finding]:
    """Decode everything; fingerprints are kept in `images`."""
    findings = []
    for done, image in enumerate(images, 1):
        mask = image.sample.mask
        frame: Frame | None = None
        try:
            frame = read_frame(image.sample.image)
        except DatasetError as error:
            findings.append(_finding(layout, "undecodable", [image.sample.image], _reason(error)))
        if frame is not None:
            image.print = fingerprint(frame)
            image.is_blank = image.print is None
        if mask is not None:
            try:
                findings += _mask(layout, image.sample.image, mask, frame)
            except DatasetError as error:
                findings.append(_finding(layout, "undecodable", [mask], _reason(error)))
        if progress is not None:
            progress("read", done, len(images))
    return findings


def _mask(layout: Layout, image: Path, path: Path, frame: Frame | None) -> list[Finding]:
    import cv2

    grey = np.asarray(cv2.cvtColor(read_frame(path), cv2.COLOR_BGR2GRAY), np.uint8)
    found = []
    if frame is not None and frame.shape[:2] != grey.shape:
        detail = f"image {frame.shape[1]}x{frame.shape[0]}, mask {grey.shape[1]}x{grey.shape[0]}"
        found.append(_finding(layout, "size differs", [image, path], detail))
    highest = int(grey.max())
    if 0 < highest <= MASK_THRESHOLD:
        detail = f"its highest grey value is {highest}: polyps are read above {MASK_THRESHOLD}"
        found.append(_finding(layout, "not binary", [path], detail))
    elif highest == 0:
        # The published datasets show a polyp or a tool on every image; others may hold frames without.
        kind: Kind = "no polyp" if layout.published is None else "empty mask"
        found.append(_finding(layout, kind, [path], "all black"))
    share = grey_share(grey)
    if share > _GREY_SHARE:
        detail = f"{share:.1%} of it is grey, away from the outline: neither polyp nor background"
        found.append(_finding(layout, "not binary", [path], detail))
    return found


def grey_share(mask: npt.NDArray[np.uint8]) -> float:
    """Share of a grey mask (H, W) that is neither black nor white, away from its outline."""
    import cv2

    inside = np.asarray(mask > MASK_THRESHOLD, np.uint8)
    kernel = np.ones((2 * _OUTLINE + 1, 2 * _OUTLINE + 1), np.uint8)
    outline = cv2.dilate(inside, kernel) != cv2.erode(inside, kernel)
    grey = (mask > _GREY[0]) & (mask < _GREY[1])
    return float((grey & ~outline).mean())


def _repetitions(
    layout: Layout, images: Sequence[_Image], same_scene: int, progress: Progress | None
) -> list[Finding]:
    findings = [
        _finding(layout, "leak", [image.sample.image], f"it is in {' and in '.join(image.splits)}")
        for image in images
        if len(image.splits) > 1
    ]

    def compared(done: int, total: int) -> None:
        if progress is not None:
            progress("compare", done, total)

    for match in find_matches([image.print for image in images], same_scene, compared):
        first, second = images[match.first], images[match.second]
        paths = [first.sample.image, second.sample.image]
        how = "the same picture" if match.distance == 0 else f"{match.distance} of {BITS} bits differ"
        # Of two that are both in two splits, the lines above have told already.
        if set(first.splits) == set(second.splits):
            findings.append(_finding(layout, "duplicate", paths, f"{how}; both in {first.splits[0]}"))
        else:
            where = f"one in {' and '.join(first.splits)}, one in {' and '.join(second.splits)}"
            findings.append(_finding(layout, "leak", paths, f"{how}; {where}"))
    return findings


def _finding(layout: Layout, kind: Kind, paths: Sequence[Path], detail: str) -> Finding:
    return Finding(kind=kind, files=tuple(_relative(layout, path) for path in paths), detail=detail)


def _relative(layout: Layout, path: Path) -> str:
    return path.relative_to(layout.root).as_posix() if path.is_relative_to(layout.root) else str(path)


def _reason(error: DatasetError) -> str:
    return str(error).partition(": ")[2] or str(error)
