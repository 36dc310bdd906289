"""A trained network from a file: which one it is, and its weights in place.

Layers are recognised by kind, order and shape, never by name: the released code's names carry
suffixes that depend on what else was built in the process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nanonet_edge import atomic
from nanonet_edge.errors import CheckpointError
from nanonet_edge.graph import Graph, Node
from nanonet_edge.hdf5 import Layer, layers_as_hdf5
from nanonet_edge.hdf5_process import read_layers_isolated
from nanonet_edge.manifest import UNTRAINED, sha256_file
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.variants import NETWORKS, Network, Topology, Variant, get_network, topology_of

_KINDS = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "batch_norm", "dense")


@dataclass(frozen=True)
class Checkpoint:
    """A network recognised in a file.

    Attributes:
        path: the file.
        sha256: of the file.
        variant, topology, classes: what was recognised; only a NanoNet has a topology.
        graph: the unrewritten network with the file's weights.
    """

    path: Path
    sha256: str
    variant: Network
    topology: Topology | None
    classes: int
    graph: Graph


def load_checkpoint(
    path: Path | str, *, variant: str | None = None, topology: Topology | None = None, size: int = 256
) -> Checkpoint:
    """Read a checkpoint (`.h5`, `.weights.h5`, `.keras`) and recognise its variant and topology.

    Args:
        path: the file; nothing in it is executed.
        variant: what the caller believes it to be; None accepts any.
        topology: likewise.
        size: input size of the graph that is built, in pixels.

    Raises:
        CheckpointError: damaged, no network that is known, or not the variant or topology that was
            asked for.
        UsageError: the variant is unknown or has no topologies, or the size is not a multiple of 32.
    """
    path = Path(path)
    wanted = get_network(variant) if variant else None
    if wanted is not None:
        topology_of(wanted, topology)
    layers = read_layers_isolated(path)
    found, place, classes = _recognise(path, layers)
    if wanted is not None and found is not wanted:
        raise CheckpointError(f"{path}: expected {wanted.title}, found {_named(found, place)}")
    if topology is not None and place is not topology:
        seen = f"'{place}'" if place else found.title
        raise CheckpointError(f"{path}: expected topology '{topology}', found {seen}")
    graph = _fill(build_network(found, place, size=size, classes=classes), layers)
    return Checkpoint(path, sha256_file(path), found, place, classes, graph)


def untrained_checkpoint(
    variant: Network, topology: Topology | None = None, size: int = 256, seed: int = 0
) -> Checkpoint:
    """A network with random weights: as fast as a trained one, and its masks mean nothing."""
    place = topology_of(variant, topology)
    graph = build_network(variant, place, size=size, fill=random_fill(seed))
    digest = hashlib.sha256(layers_bytes(graph, "untrained")).hexdigest()
    return Checkpoint(Path(f"{UNTRAINED} (random, seed {seed})"), digest, variant, place, 1, graph)


def save_checkpoint(graph: Graph, path: Path, origin: str = "") -> None:
    """Write the weights of an unrewritten network as `.weights.h5`, all at once."""
    atomic.write_bytes(path, layers_bytes(graph, origin))


def layers_bytes(graph: Graph, origin: str) -> bytes:
    """What `save_checkpoint` writes."""
    layers = [Layer(node.name, node.op, dict(node.weights)) for node in graph if node.weights]
    return layers_as_hdf5(layers, {"origin": origin})


def _by_kind(items: Sequence[Layer | Node]) -> dict[str, list[Layer | Node]]:
    return {kind: [item for item in items if item.op == kind] for kind in _KINDS}


def _recognise(path: Path, layers: list[Layer]) -> tuple[Network, Topology | None, int]:
    """The network whose layers these are; says how the nearest differs if none."""
    kernels = [layer.weights["kernel"] for layer in layers if layer.op == "conv2d"]
    if not kernels:
        raise CheckpointError(f"{path}: expected a NanoNet, found a file without convolutions")
    classes = int(kernels[-1].shape[-1])
    found = _by_kind(layers)
    best: tuple[int, str] | None = None
    for network in NETWORKS.values():
        for topology in Topology if isinstance(network, Variant) else (None,):
            graph = build_network(network, topology, classes=classes, fill=_no_values)
            expected = _by_kind([node for node in graph if node.weights])
            matched, difference = _compare(expected, found)
            if difference is None:
                return network, topology, classes
            if best is None or matched > best[0]:
                best = matched, f"nearest is {_named(network, topology)}, where {difference}"
    raise CheckpointError(f"{path}: holds no known network: {best[1] if best else 'nothing'}")


def _named(network: Network, topology: Topology | None) -> str:
    return f"{network.title} ({topology})" if topology else network.title


def _no_values(layer: str, weight: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """A shape without memory behind it: a stranger's file says how many classes there are."""
    del layer, weight
    return np.broadcast_to(np.float32(0), shape)


def _compare(
    expected: dict[str, list[Layer | Node]], found: dict[str, list[Layer | Node]]
) -> tuple[int, str | None]:
    """How many layers agree, and the first difference in words (None when all agree)."""
    matched, difference = 0, None
    for kind in _KINDS:
        for index, want in enumerate(expected[kind]):
            have = found[kind][index] if index < len(found[kind]) else None
            shapes = {name: array.shape for name, array in want.weights.items()}
            if have is not None and {n: a.shape for n, a in have.weights.items()} == shapes:
                matched += 1
            elif difference is None:
                difference = _describe(want, have, shapes)
        if len(found[kind]) > len(expected[kind]) and difference is None:
            extra = found[kind][len(expected[kind])]
            label = extra.label if isinstance(extra, Layer) else extra.name
            difference = f"{kind} layer '{label}' is one too many"
    return matched, difference


def _describe(want: Layer | Node, have: Layer | Node | None, shapes: dict[str, tuple[int, ...]]) -> str:
    name = want.label if isinstance(want, Layer) else want.name
    expected = ", ".join(f"{weight} {shape}" for weight, shape in shapes.items())
    if have is None:
        return f"the {want.op} layer for '{name}' ({expected}) is missing"
    label = have.label if isinstance(have, Layer) else have.name
    found = ", ".join(f"{weight} {array.shape}" for weight, array in have.weights.items())
    return f"layer '{label}' should be '{name}' with {expected} but has {found}"


def _fill(graph: Graph, layers: list[Layer]) -> Graph:
    queues = {kind: iter(items) for kind, items in _by_kind(layers).items()}
    nodes = [node.but(weights=next(queues[node.op]).weights) if node.weights else node for node in graph]
    return Graph(tuple(nodes), graph.output)
