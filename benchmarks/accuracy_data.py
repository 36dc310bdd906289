"""The images and true masks that an evaluation looks at."""

from __future__ import annotations

from pathlib import Path

from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.data.layouts import open_dataset
from nanonet_edge.errors import DatasetError, UsageError


def open_data(
    folder: Path | str,
    masks: Path | str | None = None,
    split: Path | str | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> VerificationData:
    """Find the images of a dataset, each with its true mask; none is decoded yet.

    Args:
        folder: a dataset in any layout that `nanonet_edge.data.layouts` knows; a folder of
            images where `masks` is given.
        masks: folder of masks with the images' stems.
        split: name of a split of the dataset, or a text file with one stem a line; None for all.
        limit: draw so many with `seed`; None for all.
        seed: of the draw.

    Raises:
        DatasetError: a folder or the split cannot be used, or images have no mask.
        UsageError: both `masks` and `split` are given.
    """
    if masks is not None:
        if split is not None:
            raise UsageError("--masks, --split: expected one of the two: a split is one of a whole dataset")
        return VerificationData.from_folder(folder, masks, limit, seed)
    dataset = open_dataset(folder, split)
    without = sum(sample.mask is None for sample in dataset.samples)
    if without:
        where = ", ".join(part.name for part in dataset.layout.splits if part.masks is not None)
        hint = f"; splits that have them: {where}" if where and split is None else ""
        raise DatasetError(
            f"{folder}: expected ground-truth masks ({dataset.layout.title}: images/ and masks/ in it, "
            f"or --masks DIR), found {len(dataset.samples)} images of which {without} have none{hint}"
        )
    orphans = len(dataset.orphan_masks)
    notes = (f"{folder}: {orphans} masks have no image and are left out",) if orphans else ()
    name = Path(folder).absolute().name
    label = name if dataset.split is None else f"{name} ({dataset.split})"
    return VerificationData.from_samples(dataset.samples, label, limit, seed, notes)
