"""The float graph as it was when its weights were rounded: with the channels scaled that the file has so.

Export may scale channels before it rounds (`ScaleChannels`). The kernels of the file tell by how much, as
closely as rounding left it; whatever the factors, the float graph computes the same function.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.blame.network import Network, channels_first
from nanonet_edge.graph import CONVOLUTIONS, Graph, Node
from nanonet_edge.passes.channels import ScaleChannels, channel_groups

Array = npt.NDArray[np.float64]

#: Rounding alone makes no kernel so much larger or smaller: a group with a channel beyond it was scaled.
_SCALED = 0.15


def scale_like(network: Network, graph: Graph) -> Graph:
    """Scale the channels of a float graph as those of a network that was made from it.

    Args:
        network: read from a file; layers in float are scaled like the others.
        graph: the rewritten float graph; unchanged where no channel was scaled.
    """
    groups = {name: group for group in channel_groups(graph) for name in group}
    stored = network.all_kernels()
    factors: dict[str, Array] = {}
    for node in graph:
        if node.op not in CONVOLUTIONS or node.name not in groups or node.name in factors:
            continue
        kernel = _reading(node, factors.get(node.inputs[0]))
        found = stored.get(node.name)
        if found is None or found.size != kernel.size:
            continue
        ratios = _ratios(kernel.reshape(len(kernel), -1), found.reshape(len(kernel), -1))
        if np.abs(ratios - 1).max() > _SCALED:
            factors.update(dict.fromkeys(groups[node.name], ratios))
    return ScaleChannels(factors).run(graph).graph if factors else graph


def _reading(node: Node, taken: Array | None) -> Array:
    """A kernel, channels first, that reads channels scaled by `taken`."""
    kernel = channels_first(node).astype(np.float64)
    if taken is None:
        return kernel
    along = (-1, 1, 1, 1) if node.op == "depthwise_conv2d" else (1, -1, 1, 1)
    multiplier = len(kernel) // len(taken) if node.op == "depthwise_conv2d" else 1
    return kernel / np.repeat(taken, multiplier).reshape(along)


def _ratios(exact: Array, found: Array) -> Array:
    """By which the rows of one matrix are best multiplied to give another's; 1 where nothing tells."""
    power = np.square(exact).sum(axis=1)
    ratio = (exact * found).sum(axis=1) / np.where(power > 0, power, 1)
    return np.asarray(np.where(ratio > 0, ratio, 1))
