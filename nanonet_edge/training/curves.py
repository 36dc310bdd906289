"""The curves of a training run as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from nanonet_edge import atomic
from nanonet_edge.extras import require
from nanonet_edge.training.state import EpochRecord


def draw_curves(history: Sequence[EpochRecord], path: Path) -> None:
    """Write loss, validation DSC and learning rate over the epochs as PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure_class = require("matplotlib.figure").Figure
    figure = figure_class(figsize=(7, 6), layout="constrained")
    losses, scores, rates = figure.subplots(3, 1, sharex=True)
    epochs = [record.epoch for record in history]
    validated = [record for record in history if record.val_loss is not None]
    losses.plot(epochs, [record.loss for record in history], label="training")
    losses.plot([r.epoch for r in validated], [r.val_loss for r in validated], ".-", label="validation")
    losses.set_ylabel("loss")
    losses.legend()
    scores.plot([r.epoch for r in validated], [r.val_dsc for r in validated], ".-", color="C1")
    scores.set_ylabel("validation DSC")
    rates.plot(epochs, [record.rate for record in history])
    rates.set_yscale("log")
    rates.set_ylabel("learning rate")
    rates.set_xlabel("epoch")
    for axes in (losses, scores, rates):
        axes.grid(alpha=0.3)
        for before, record in pairwise(history):
            if before.size != record.size:
                axes.axvline(record.epoch - 0.5, color="grey", linestyle=":")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    atomic.write_bytes(path, buffer.getvalue())
