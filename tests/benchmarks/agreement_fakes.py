"""A reference and data for agreement tests, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from tests.tiny_bundle import Floats, tiny_frames, tiny_reference

SIZE = 64


class FakeReference:
    """The tiny network in NumPy, at the size of the tiny bundle.

    Args:
        weights: kept and not read; the Keras reference takes them first, too.
        size: height and width of the input.
        offset: added to every probability, to be wrong on purpose.
    """

    name = "numpy"
    version = "1"

    def __init__(self, weights: Path | None = None, size: int = SIZE, offset: float = 0.0) -> None:
        self.weights = weights
        self.size = size
        self.offset = offset
        self.largest_batch = 0

    def probability(self, frames: npt.NDArray[np.uint8]) -> Floats:
        self.largest_batch = max(self.largest_batch, len(frames))
        small = [cv2.resize(frame, (self.size, self.size)) for frame in frames]
        return tiny_reference(np.stack(small)) + np.float32(self.offset)

    def __enter__(self) -> FakeReference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def write_dataset(root: Path, count: int = 12, size: int = 96, masks: bool = True) -> Path:
    """Write `count` bright-blob frames into ``root/images`` and their true masks into ``root/masks``."""
    frames = tiny_frames(count, size, seed=11)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for index, frame in enumerate(frames):
        assert cv2.imwrite(str(root / "images" / f"{index}.png"), frame)
        bright = (cv2.GaussianBlur(frame, (0, 0), 3).mean(axis=2) > 127).astype(np.uint8) * 255
        if masks:
            assert cv2.imwrite(str(root / "masks" / f"{index}.jpg"), bright)
    return root
