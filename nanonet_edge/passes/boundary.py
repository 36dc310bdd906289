"""Rewrites at the two ends of the network: raw frames in, logits or masks out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nanonet_edge.graph import Graph, GraphError, Node
from nanonet_edge.passes.base import Pass
from nanonet_edge.variants import Head


class FoldInputScale(Pass):
    """The division of pixels by 255  =>  folded into every convolution that reads the input.

    The graph then takes raw pixel values in [0, 255] (as floats). Zero padding stays right,
    since the scaling has no offset.
    """

    name = "fold-input-scale"
    without = frozenset({"batch_norm"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        readers = list(_input_readers(self.name, graph))
        for reader in readers:
            weights = {**reader.weights, "kernel": reader.weights["kernel"] / np.float32(255)}
            attributes = dict(reader.attributes)
            if "kernel_scales" in attributes:
                attributes["kernel_scales"] = attributes["kernel_scales"] / 255
            nodes[reader.name] = reader.but(weights=weights, attributes=attributes)
        return len(readers)


class SwapInputChannels(Pass):
    """Frames in RGB order  =>  the input channels of every convolution that reads the input, reversed."""

    name = "swap-input-channels"
    without = frozenset({"batch_norm"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        readers = list(_input_readers(self.name, graph))
        for reader in readers:
            kernel = np.ascontiguousarray(reader.weights["kernel"][:, :, ::-1])
            nodes[reader.name] = reader.but(weights={**reader.weights, "kernel": kernel})
        return len(readers)


def _input_readers(name: str, graph: Graph) -> Iterator[Node]:
    """The convolutions that read the input, each once, also where it was multiplied by one channel.

    Raises:
        GraphError: something else reads it.
    """
    consumers, shapes = graph.consumers(), graph.shapes()
    frames = [graph.input.name]
    for frame in frames:
        for reader in dict.fromkeys(consumers[frame]):
            node = graph[reader]
            if node.op == "multiply" and node.inputs[0] == frame and shapes[node.inputs[1]][-1] == 1:
                frames.append(reader)
            elif node.op == "conv2d":
                yield node
            else:
                raise GraphError(f"pass {name}: the input is read by '{reader}', a {node.op}")


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
