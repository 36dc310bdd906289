"""Training images in memory, and batches of them drawn in the background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nanonet_edge.datasets import Sample, images_digest, read_sample, resize_mask
from nanonet_edge.errors import DatasetError
from nanonet_edge.training.augmentation import Augmenter

Images = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingSet:
    """Frames and masks at one size, and where they came from.

    Attributes:
        names: n names.
        frames: (n, size, size, 3) uint8, BGR, resized as inference resizes them.
        masks: (n, size, size) uint8, 0 and 1.
        digest: of the images' and masks' bytes, in order.
        skipped: name of each image that `load` left out -> a line that says why.
    """

    names: tuple[str, ...]
    frames: Images
    masks: Images
    digest: str
    skipped: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int]) -> TrainingSet:
        """Some of the images, in the order given."""
        chosen = list(indices)
        return TrainingSet(
            tuple(self.names[i] for i in chosen), self.frames[chosen], self.masks[chosen], self.digest
        )


def load(samples: Sequence[Sample], size: int, *, skip_bad: bool = False) -> TrainingSet:
    """Read images and masks.

    Args:
        samples: pairs; each must have its mask.
        size: height and width in pixels that they are resized to.
        skip_bad: leave out what cannot be read, and say so, instead of raising.

    Raises:
        DatasetError: an image or mask cannot be read, has none, or differs in size from its
            mask; with `skip_bad`, only if none is left.
    """
    import cv2

    names: list[str] = []
    frames: list[Images] = []
    masks: list[Images] = []
    read: list[Sample] = []
    skipped: dict[str, str] = {}
    for sample in samples:
        try:
            frame, mask = _read_pair(sample)
        except DatasetError as error:
            if not skip_bad:
                raise
            skipped[sample.name] = str(error)
            continue
        if frame.shape[:2] != (size, size):
            frame = np.asarray(cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
        names.append(sample.name)
        frames.append(frame)
        masks.append(resize_mask(mask, (size, size)))
        read.append(sample)
    if not read:
        first = f": {next(iter(skipped.values()))}" if skipped else ""
        raise DatasetError(f"expected images with masks, found none that can be read{first}")
    files = [path for sample in read for path in (sample.image, sample.mask) if path is not None]
    return TrainingSet(tuple(names), np.stack(frames), np.stack(masks), images_digest(files), skipped)


def _read_pair(sample: Sample) -> tuple[Images, Images]:
    frame, mask = read_sample(sample)
    if mask is None:
        raise DatasetError(f"{sample.image}: expected a mask for it, found none")
    return frame, mask


def batches(
    data: TrainingSet, augmenter: Augmenter, batch: int, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in an order and with changes that `seed` and `epoch` decide.

    The last, smaller batch is filled up from the epoch's beginning. The next batch is drawn by
    a thread while the caller works on the present one.

    Yields:
        (batch, size, size, 3) float32 in [0, 1], and (batch, size, size, 1) float32 masks.
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(data))
    starts = range(0, len(order), batch)
    padded = np.resize(order, len(starts) * batch)

    def make(step: int) -> tuple[Tensor, Tensor]:
        chosen = padded[starts[step] : starts[step] + batch]
        one = int(np.random.default_rng([seed, epoch, step]).integers(1 << 31))
        frames, masks = augmenter(data.frames[chosen], data.masks[chosen], one)
        return as_tensor(frames), masks[..., np.newaxis].astype(np.float32)

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(make, 0)
        for step in range(len(starts)):
            ready = waiting.result()
            if step + 1 < len(starts):
                waiting = thread.submit(make, step + 1)
            yield ready


def as_tensor(frames: Images) -> Tensor:
    """Pixels as the network takes them: float32 in [0, 1]."""
    return frames.astype(np.float32) * np.float32(1 / 255)
