"""Which images train and which validate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nanonet_edge.datasets import Sample, draw, find_split, pair_masks
from nanonet_edge.errors import DatasetError, UsageError

_NAMED_FOLDERS = ("train", "validation")
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
        data: a folder with train/ and validation/, each with images/ and masks/; or with
            images/ and masks/ itself.
        validation: a folder with images/ and masks/; None takes data/validation, or else holds
            out a tenth of the images, drawn by a hash of their names.
        fold: "K/N": part K (from 1) of N of the training images validates instead; the parts
            are drawn by a hash of the names and do not overlap.

    Raises:
        DatasetError: a folder has no images, or no masks for them.
        UsageError: the fold makes no sense, or is given together with `validation`.
    """
    if fold is not None and validation is not None:
        raise UsageError("--fold validates on training images: leave --validation out")
    named = [data / name for name in _NAMED_FOLDERS]
    has_both = all(folder.is_dir() for folder in named)
    training = _samples(named[0] if has_both else data)
    if fold is not None:
        part, parts = _parse_fold(fold, len(training))
        return _hold_out(training, part, parts, f"part {part + 1} of {parts} of the training images")
    if validation is None and not has_both:
        return _hold_out(training, 0, _HELD_OUT, "a tenth held out by a hash of the names")
    chosen = validation if validation is not None else named[1]
    return Split(training, _samples(chosen), f"{chosen.name}/ validates")


def _samples(folder: Path) -> tuple[Sample, ...]:
    images, masks = find_split(folder)
    if masks is None:
        raise DatasetError(f"{folder}: expected the folders images/ and masks/, found no such two")
    return pair_masks(images, masks).samples


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
