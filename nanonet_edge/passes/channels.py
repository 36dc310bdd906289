"""Channels of one tensor to like ranges, for 8-bit storage with one scale per tensor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from nanonet_edge.graph import CONVOLUTIONS, Graph, GraphError, Node
from nanonet_edge.passes.base import Pass

Factors = Mapping[str, npt.NDArray[np.float64]]

#: Operations f with f(s x) = s f(x) for a positive factor s per channel.
_HOMOGENEOUS = frozenset(
    "add relu upsample_bilinear upsample_nearest max_pool zero_pad edge_pad crop join global_mean "
    "column_mean".split()
)


def channel_groups(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Tensors whose channels can be scaled: those of one group by the same factors, or none of them.

    Convolutions end a group, since their kernels take up any factor. Sums, means and resizes need the
    same factors on both sides, and so does a ReLU; of a product the first operand, because the
    second is a gate that must stay within [0, 1]. A ReLU6 cuts off at a fixed value: a tensor that
    it gives cannot be scaled, nor can what enters or leaves the graph or goes into any other operation.

    Returns:
        Groups in the graph's order, each of tensor names in the graph's order.
    """
    shapes, leader = graph.shapes(), {node.name: node.name for node in graph}
    fixed = {graph.input.name, graph.output}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for node in graph:
        if node.activation == "relu6":
            fixed.add(node.name)
        if node.op in CONVOLUTIONS:
            continue
        bound = node.inputs if node.op in _HOMOGENEOUS else node.inputs[: node.op == "multiply"]
        fixed.update(set(node.inputs) - set(bound))
        if not bound:
            fixed.add(node.name)
        for name in bound:
            if shapes[name][-1] != shapes[node.name][-1]:
                fixed.update((name, node.name))
            leader[find(name)] = find(node.name)
    groups: dict[str, list[str]] = {}
    for node in graph:
        groups.setdefault(find(node.name), []).append(node.name)
    return tuple(tuple(group) for group in groups.values() if fixed.isdisjoint(group))


class ScaleChannels(Pass):
    """conv(x) read by conv'  =>  (s conv)(x) read by (conv' / s): cross-layer equalisation.

    Nagel et al., 2019, for any group of tensors between convolutions (`channel_groups`): residual sums,
    and a block's output with the squeeze-and-excitation unit that reads it.

    Args:
        factors: tensor -> (channels,) positive factors of its channels. A tensor that is not named
            stays as it is; members of one group need the same factors.

    Raises:
        GraphError: (on `run`) factors that would change the function.
    """

    name = "scale-channels"

    def __init__(self, factors: Factors) -> None:
        self.factors = {name: np.asarray(array, np.float64) for name, array in factors.items()}

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        self._check_factors(graph)
        for node in graph:
            given = self.factors.get(node.name)
            taken = self.factors.get(node.inputs[0]) if node.inputs else None
            if node.op in CONVOLUTIONS and not (given is None and taken is None):
                nodes[node.name] = _scaled(node, taken, given)
        return len(self.factors)

    def _check_factors(self, graph: Graph) -> None:
        shapes, groups = graph.shapes(), channel_groups(graph)
        if unknown := self.factors.keys() - {name for group in groups for name in group}:
            raise GraphError(f"pass {self.name}: the channels of '{min(unknown)}' cannot be scaled")
        for name, factors in self.factors.items():
            if factors.shape != shapes[name][-1:] or not (np.isfinite(factors) & (factors > 0)).all():
                raise GraphError(
                    f"pass {self.name}: expected {shapes[name][-1]} positive factors for '{name}', "
                    f"found {factors}"
                )
        for group in groups:
            first = self.factors.get(group[0])
            for name in group[1:]:
                if not np.array_equal(np.asarray(first), np.asarray(self.factors.get(name))):
                    raise GraphError(f"pass {self.name}: '{group[0]}' and '{name}' need the same factors")


def _scaled(node: Node, taken: npt.NDArray[np.float64] | None, given: npt.NDArray[np.float64] | None) -> Node:
    """A convolution that reads channels scaled by `taken` and gives them scaled by `given`."""
    kernel = node.weights["kernel"].astype(np.float64)
    weights = dict(node.weights)
    if taken is not None:
        kernel = kernel / taken[:, np.newaxis]
    if given is not None:
        kernel = kernel * (given.reshape(kernel.shape[2:]) if node.op == "depthwise_conv2d" else given)
        if "bias" in weights:
            weights["bias"] = (weights["bias"] * given).astype(np.float32)
    return node.but(weights={**weights, "kernel": kernel.astype(np.float32)})
