"""Which images train and which validate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nanonet_edge.data.layouts import DEVELOPMENT, TRAIN, VALIDATION, open_dataset, recognise
from nanonet_edge.datasets import Sample, draw
from nanonet_edge.errors import DatasetError, UsageError

_HELD_OUT = 10


@dataclass(frozen=True)
class Split:
    """Samples to train and to validate on, and the rule that parted them, in words."""

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    rule: str


def split_samples(data: Path, validation: Path | None = None, fold: str | None = None) -> Split:
    """Part a dataset.

    Args:
        data: a folder in a layout that `nanonet_edge.data.layouts` knows, with masks. Its
            split "train" trains, or else "development"; where there are no splits, all of it.
        validation: another such folder; None takes the split "val" of `data`, or else holds out
            a tenth of the training images, drawn by a hash of their names. A split "test" is
            never looked at.
        fold: "K/N": part K (from 1) of N of the training images validates instead; the parts
            are drawn by a hash of the names and do not overlap.

    Raises:
        DatasetError: a folder has no images, or no masks for them; an image is in both parts.
        UsageError: the fold makes no sense, or is given together with `validation`.
    """
    if fold is not None and validation is not None:
        raise UsageError("--fold validates on training images: leave --validation out")
    splits = [part.name for part in recognise(data).splits]
    training = _samples(data, _training_split(data, splits))
    if fold is not None:
        part, parts = _parse_fold(fold, len(training))
        return _hold_out(training, part, parts, f"part {part + 1} of {parts} of the training images")
    if validation is not None:
        return _disjoint(Split(training, _samples(validation, None), f"{validation.name}/ validates"))
    if VALIDATION in splits:
        return _disjoint(Split(training, _samples(data, VALIDATION), "the dataset's own split"))
    return _hold_out(training, 0, _HELD_OUT, "a tenth held out by a hash of the names")


def _training_split(data: Path, splits: list[str]) -> str | None:
    found = next((name for name in (TRAIN, DEVELOPMENT) if name in splits), None)
    if splits and found is None:
        raise DatasetError(f"{data}: expected a split to train on, found {', '.join(splits)}")
    return found


def _samples(folder: Path, split: str | None) -> tuple[Sample, ...]:
    dataset = open_dataset(folder, split)
    if not dataset.has_masks:
        raise DatasetError(f"{folder}: expected the folders images/ and masks/, found no such two")
    return dataset.samples


def _disjoint(split: Split) -> Split:
    """What is trained on must not choose the stopping point."""
    images = {sample.image.resolve() for sample in split.training}
    shared = [sample.image for sample in split.validation if sample.image.resolve() in images]
    if shared:
        raise DatasetError(
            f"{shared[0]}: expected images that are not trained on, found {len(shared)} in both parts"
        )
    return split


def _parse_fold(fold: str, count: int) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", fold)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts or parts < 2 or parts > count:
        raise UsageError(f"--fold {fold}: expected K/N such as 1/5, with at most {count} parts")
    return part - 1, parts


def _hold_out(samples: tuple[Sample, ...], part: int, parts: int, rule: str) -> Split:
    """Part `part` of `parts` validates; drawing more keeps what was drawn before."""
    count = len(samples)
    if count < parts:
        raise DatasetError(f"expected at least {parts} images to hold some out, found {count}")
    before = {sample.name for sample in draw(samples, count * part // parts)}
    upto = {sample.name for sample in draw(samples, count * (part + 1) // parts)}
    held = upto - before
    return Split(
        tuple(sample for sample in samples if sample.name not in held),
        tuple(sample for sample in samples if sample.name in held),
        rule,
    )
