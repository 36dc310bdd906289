"""Weights that ship with the package, each with its facts, a model card and a recorded calibration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nanonet_edge.errors import UsageError
from nanonet_edge.variants import Topology, Variant, get_variant

_FOLDER = Path(__file__).parent
_CHECKPOINT = ".weights.h5"


@dataclass(frozen=True)
class BundledWeights:
    """Files of one trained network.

    Attributes:
        checkpoint: the weights.
        facts: what is known of them, as JSON.
        card: the same for people.
        curves: of the training, a picture.
        calibration: for int8, recorded on training images; holds no pixels.
    """

    variant: Variant
    topology: Topology
    checkpoint: Path
    facts: Path
    card: Path
    curves: Path
    calibration: Path


def files_of(variant: Variant, topology: Topology, folder: Path | None = None) -> BundledWeights:
    """Where the files of a network's weights lie in a folder (None: the package's), there or not."""
    folder = folder or _FOLDER
    stem = f"nanonet-{variant.name}.{topology}"
    return BundledWeights(
        variant,
        topology,
        folder / f"{stem}{_CHECKPOINT}",
        folder / f"{stem}.json",
        folder / f"{stem}.md",
        folder / f"{stem}.png",
        folder / f"{stem}.calibration.npz",
    )


def all_bundled_weights() -> tuple[BundledWeights, ...]:
    """Everything that ships, by name."""
    found = []
    for path in sorted(_FOLDER.glob(f"nanonet-*{_CHECKPOINT}")):
        variant, topology = path.name.removesuffix(_CHECKPOINT).removeprefix("nanonet-").split(".")
        found.append(files_of(get_variant(variant), Topology(topology)))
    return tuple(found)


def bundled_weights(variant: Variant, topology: Topology) -> BundledWeights:
    """The shipped weights of a variant.

    Raises:
        UsageError: none are shipped; says which are.
    """
    found = files_of(variant, topology)
    if not found.checkpoint.is_file():
        shipped = ", ".join(
            files.checkpoint.name.removesuffix(_CHECKPOINT) for files in all_bundled_weights()
        )
        wanted = f"NanoNet-{variant.name.upper()} ({topology})"
        raise UsageError(f"no weights ship for {wanted}, only for {shipped}")
    return found
