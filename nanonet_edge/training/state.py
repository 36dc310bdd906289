"""All that a run must know to go on as if it had never stopped, in one file per run."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge import atomic
from nanonet_edge.errors import InputError

Arrays = list[npt.NDArray[np.float32]]
_META = "meta"
_GROUPS = ("weights", "average", "optimizer", "best")


@dataclass(frozen=True)
class EpochRecord:
    """One line of the log; what was not computed in an epoch is None."""

    epoch: int
    size: int
    rate: float
    loss: float
    val_loss: float | None
    val_dsc: float | None
    images_per_second: float


@dataclass
class RunState:
    """Where a run stands between two epochs.

    Attributes:
        epoch: the next one, from 0.
        step: optimizer steps made.
        weights, average, optimizer: arrays of the model, of their moving average (empty without
            one) and of the optimizer.
        best: the validated weights with the lowest validation loss; `best_epoch` is when.
        waited: epochs since `best`; `cooled`: since then or since the rate was last reduced.
        rate_scale: what the plateau rule has made of the learning rate.
        history: one record per epoch.
    """

    epoch: int = 0
    step: int = 0
    weights: Arrays = field(default_factory=list)
    average: Arrays = field(default_factory=list)
    optimizer: Arrays = field(default_factory=list)
    best: Arrays = field(default_factory=list)
    best_epoch: int | None = None
    best_loss: float = float("inf")
    waited: int = 0
    cooled: int = 0
    rate_scale: float = 1.0
    history: list[EpochRecord] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything, all at once."""
        meta = {key: value for key, value in asdict(self).items() if key not in _GROUPS}
        arrays = {f"{group}/{i}": array for group in _GROUPS for i, array in enumerate(getattr(self, group))}
        buffer = io.BytesIO()
        np.savez(buffer, **{_META: np.array(json.dumps(meta)), **arrays})
        atomic.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> RunState:
        """Read what `save` wrote.

        Raises:
            InputError: the file is damaged or no such state.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                meta: dict[str, Any] = json.loads(str(stored[_META]))
                groups: dict[str, Arrays] = {group: [] for group in _GROUPS}
                for key in stored.files:
                    if key != _META:
                        groups[key.partition("/")[0]].append(stored[key])
            history = [EpochRecord(**record) for record in meta.pop("history")]
            state = cls(**meta, history=history)
            for group, arrays in groups.items():
                setattr(state, group, arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path}: expected the state of a training run, found a damaged file ({type(error).__name__})"
            ) from None
        return state
