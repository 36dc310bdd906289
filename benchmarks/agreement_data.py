"""The images that an agreement run looks at, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nanonet_edge import phantom
from nanonet_edge.datasets import (
    Frame,
    Mask,
    Sample,
    draw,
    find_split,
    frames_digest,
    image_samples,
    images_digest,
    list_images,
    pair_masks,
    read_sample,
)
from nanonet_edge.manifest import Record, Sha256


class DataRecord(Record):
    """Where the images came from; `digest` identifies them and their order.

    `folder` is the folder's own name, without the path to it; where a split of it was taken, the
    split's as well. `available` is how many images there are, `count` how many were drawn with
    `seed`.
    """

    source: Literal["images", "generated"]
    folder: str
    count: int
    available: int
    seed: int
    masks: bool
    digest: Sha256

    def __str__(self) -> str:
        kind = "GENERATED frames" if self.source == "generated" else f"images of {self.folder}"
        return f"{self.count} {kind}"


@dataclass(frozen=True)
class Item:
    """A decoded frame (H, W, 3) uint8 BGR and, where known, its true mask (H, W) of 0 and 1."""

    name: str
    frame: Frame
    mask: Mask | None


class VerificationData:
    """Named images that can be gone through again and again; none is kept in memory.

    Attributes:
        record: what results say about the images.
        notes: what a user should know, one line each.
    """

    def __init__(
        self, record: DataRecord, readers: dict[str, Callable[[], Item]], notes: tuple[str, ...] = ()
    ) -> None:
        self.record = record
        self.notes = notes
        self._readers = readers

    def __len__(self) -> int:
        return len(self._readers)

    def __iter__(self) -> Iterator[Item]:
        return (read() for read in self._readers.values())

    def item(self, name: str) -> Item:
        """Decode one image.

        Raises:
            KeyError: there is none of that name.
            DatasetError: it cannot be read any more.
        """
        return self._readers[name]()

    @classmethod
    def from_folder(
        cls, folder: Path | str, masks: Path | str | None = None, limit: int | None = None, seed: int = 0
    ) -> VerificationData:
        """Images of a folder, with masks of another.

        A folder with `images/` and `masks/` in it gives both. With a `limit`, that many images
        are drawn with `seed`.

        Raises:
            DatasetError: a folder cannot be used, or images have no mask.
        """
        images, found = find_split(folder)
        masks = masks if masks is not None else found
        notes: tuple[str, ...] = ()
        if masks is None:
            everything = image_samples(list_images(images), images)
        else:
            pairing = pair_masks(images, masks)
            everything = pairing.samples
            if pairing.orphan_masks:
                notes = (f"{masks}: {len(pairing.orphan_masks)} masks have no image and are left out",)
        return cls.from_samples(everything, Path(folder).absolute().name, limit, seed, notes)

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[Sample],
        folder: str,
        limit: int | None = None,
        seed: int = 0,
        notes: tuple[str, ...] = (),
    ) -> VerificationData:
        """Samples, all with masks or all without; results call where they came from `folder`."""
        chosen = draw(samples, len(samples) if limit is None else limit, seed)
        record = DataRecord(
            source="images",
            folder=folder,
            count=len(chosen),
            available=len(samples),
            seed=seed,
            masks=all(sample.mask is not None for sample in samples),
            digest=images_digest(sample.image for sample in chosen),
        )
        return cls(record, {sample.name: _file_reader(sample) for sample in chosen}, notes)

    @classmethod
    def generated(cls, count: int, seed: int = 0, size: int = phantom.DEFAULT_SIZE) -> VerificationData:
        """Frames drawn by the toolkit, with their masks."""
        record = DataRecord(
            source="generated",
            folder="generated",
            count=count,
            available=count,
            seed=seed,
            masks=True,
            digest=frames_digest(frame for frame, _ in phantom.generate(count, size, seed)),
        )
        names = [f"generated-{seed}-{index}" for index in range(count)]
        return cls(record, {name: _phantom_reader(name, i, size, seed) for i, name in enumerate(names)})


def _file_reader(sample: Sample) -> Callable[[], Item]:
    return lambda: Item(sample.name, *read_sample(sample))


def _phantom_reader(name: str, index: int, size: int, seed: int) -> Callable[[], Item]:
    return lambda: Item(name, *phantom.draw_frame(index, size, seed))
