"""Weights that ship with the package, each with a model card and a recorded calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nanonet_edge.errors import UsageError
from nanonet_edge.variants import Topology, Variant

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class BundledWeights:
    """Files of one trained network: checkpoint, model card, and calibration for int8."""

    checkpoint: Path
    card: Path
    calibration: Path


def bundled_weights(variant: Variant, topology: Topology) -> BundledWeights:
    """The shipped weights of a variant.

    Raises:
        UsageError: none are shipped; says to give --weights.
    """
    stem = f"nanonet-{variant.name}.{topology}"
    found = BundledWeights(
        _FOLDER / f"{stem}.weights.h5", _FOLDER / f"{stem}.md", _FOLDER / f"{stem}.calibration.npz"
    )
    if not found.checkpoint.is_file():
        shipped = ", ".join(sorted(p.name.removesuffix(".weights.h5") for p in _FOLDER.glob("*.weights.h5")))
        wanted = f"NanoNet-{variant.name.upper()} ({topology})"
        raise UsageError(f"no weights ship for {wanted}: give --weights FILE (shipped: {shipped})")
    return found
