"""The log of a training run for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from nanonet_edge.extras import require
from nanonet_edge.training.state import EpochRecord


class TensorBoardLog:
    """Writes the figures of each epoch to a folder that TensorBoard reads.

        with TensorBoardLog(folder) as log:
            train(..., on_epoch=log.write)

    Args:
        folder: made if it is not there; a resumed run adds a file of its own.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._writer: Any = require("tensorboardX").SummaryWriter(str(folder))

    def write(self, record: EpochRecord) -> None:
        """Add an epoch, counted from 1; what was not computed in it is left out."""
        figures = {
            "loss/training": record.loss,
            "loss/validation": record.val_loss,
            "dsc/validation": record.val_dsc,
            "rate": record.rate,
            "images_per_second": record.images_per_second,
        }
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, record.epoch + 1)
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
