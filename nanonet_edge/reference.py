"""The reference: the Keras model at fp32 with the unrewritten graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.checkpoint import Checkpoint, load_checkpoint
from nanonet_edge.contract import InputContract, preprocess
from nanonet_edge.extras import require, version_of
from nanonet_edge.keras_network import build_keras

_BATCH = 8


class KerasReference:
    """Masks that every artifact is held against.

    Args:
        weights: a checkpoint file, or one that was loaded.
        size: height and width of the network's input in pixels.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        CheckpointError: the file holds no known network.
    """

    name = "keras"

    def __init__(self, weights: Path | str | Checkpoint, size: int = 256) -> None:
        require("tensorflow")
        checkpoint = weights if isinstance(weights, Checkpoint) else load_checkpoint(weights, size=size)
        graph = checkpoint.graph.with_size(size)
        self.input = InputContract(name=graph.input.name, shape=(1, size, size, 3))
        self.classes = checkpoint.classes
        self.version = version_of("keras")
        # GPUs round differently (TF32): the reference is the same on every machine.
        self._device: Callable[[], Any] = partial(require("keras").device, "cpu:0")
        with self._device():
            self.model: Any = build_keras(graph)

    def probability(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Probabilities for decoded BGR frames.

        Args:
            frames: (n, H, W, 3) uint8, any size.

        Returns:
            (n, size, size, classes) float32 in [0, 1].
        """
        tensors = np.concatenate([preprocess(frame, self.input) for frame in frames])
        return self.predict(tensors)

    def predict(self, tensors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The same for tensors that are already preprocessed: (n, size, size, 3) float32 in [0, 1]."""
        with self._device():
            chunks = [
                np.asarray(self.model(tensors[i : i + _BATCH], training=False))
                for i in range(0, len(tensors), _BATCH)
            ]
        return np.concatenate(chunks)

    def close(self) -> None:
        """Drop the model."""
        self.model = None

    def __enter__(self) -> KerasReference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
