"""Rewrites at the two ends of the network: raw frames in, logits or masks out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nanonet_edge.graph import Graph, GraphError, Node
from nanonet_edge.passes.base import Pass
from nanonet_edge.variants import Head

Kernel = npt.NDArray[np.float32]


class FoldInputScale(Pass):
    """The division of pixels by 255  =>  folded into every convolution that reads the input.

    The graph then takes raw pixel values in [0, 255] (as floats). Zero padding stays right,
    since the scaling has no offset.
    """

    name = "fold-input-scale"
    without = frozenset({"batch_norm"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        return _change_first_kernels(self.name, graph, nodes, lambda kernel: kernel / np.float32(255))


class SwapInputChannels(Pass):
    """Frames in RGB order  =>  the input channels of every convolution that reads the input, reversed."""

    name = "swap-input-channels"
    without = frozenset({"batch_norm"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        return _change_first_kernels(
            self.name, graph, nodes, lambda kernel: np.ascontiguousarray(kernel[:, :, ::-1])
        )


def _change_first_kernels(
    name: str, graph: Graph, nodes: dict[str, Node], change: Callable[[Kernel], Kernel]
) -> int:
    readers = graph.consumers()[graph.input.name]
    for reader in readers:
        node = graph[reader]
        if node.op != "conv2d":
            raise GraphError(f"pass {name}: the input is read by '{reader}', a {node.op}")
        nodes[reader] = node.but(weights={**node.weights, "kernel": change(node.weights["kernel"])})
    return len(readers)


class SetHead(Pass):
    """The last sigmoid or softmax  =>  dropped for logits, replaced for a mask.

    sigmoid(z) > 0.5 is z > 0, and arg-max ignores a softmax, so a mask needs neither.
    """

    name = "set-head"
    keeps_shape = False  # an arg-max leaves one channel of many

    def __init__(self, head: Head) -> None:
        self.head = head

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        last = graph[graph.output]
        if self.head is Head.PROBABILITY:
            return 0
        if last.op not in ("sigmoid", "softmax"):
            raise GraphError(f"pass {self.name}: the output is a {last.op}, not a sigmoid or softmax")
        nodes["mask"] = Node("mask", "mask", last.inputs)
        return 1

    def _output(self, graph: Graph) -> str:
        if self.head is Head.MASK:
            return "mask"
        return graph[graph.output].inputs[0] if self.head is Head.LOGIT else graph.output
