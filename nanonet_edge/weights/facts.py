"""What is known of shipped weights, as data; the model card is drawn from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from nanonet_edge.errors import InputError
from nanonet_edge.manifest import Record
from nanonet_edge.metrics import ModelAccuracy
from nanonet_edge.variants import Topology


class Validated(Record):
    """Accuracy on the validation images of the weights after `epoch` (from 1).

    `without_leaks` leaves out the images of which training has a near copy; None if there are none.
    """

    epoch: int
    accuracy: ModelAccuracy
    without_leaks: ModelAccuracy | None = None


class Fold(Record):
    """One of the runs of a cross-validation: images validated on, and their DSC."""

    part: int
    images: int
    best_dsc: float
    last_dsc: float


class CrossValidation(Record):
    """Runs that each left one part of the training images out."""

    command: str
    folds: tuple[Fold, ...] = Field(min_length=2)


class Facts(Record):
    """Facts of one shipped checkpoint.

    Attributes:
        sha256, bytes: of the checkpoint.
        settings: of the training run, as its run.json holds them.
        command: that trains it.
        shipped: whether the file holds the best epoch's weights or the last one's.
        best, last: accuracy of both, of the fp32 network, masks at its size.
        images: how many the accuracy is over.
        leaked: names of those of which training has a near copy, by `nanonet-edge data check`.
        remarks: what else to know, a sentence each.
    """

    schema_version: Literal[1] = 1
    variant: str
    topology: Topology
    size: int
    parameters: int
    sha256: str
    bytes: int
    settings: dict[str, Any]
    command: str
    epochs: int
    shipped: Literal["best", "last"]
    best: Validated
    last: Validated
    images: int
    leaked: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    cross_validation: CrossValidation | None = None

    @property
    def accuracy(self) -> ModelAccuracy:
        """Of the weights that ship."""
        return (self.best if self.shipped == "best" else self.last).accuracy


def read_facts(path: Path) -> Facts:
    """Read the facts file beside a shipped checkpoint.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return Facts.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"{path}: expected the facts of shipped weights, found a damaged file ({first})"
        ) from None
