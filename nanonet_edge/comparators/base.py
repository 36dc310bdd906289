"""What the comparators' builders share: their order of layers, and the blocks of more than one."""

from __future__ import annotations

from nanonet_edge.builder import Fill, GraphBuilder
from nanonet_edge.graph import Graph, Node

#: Keras' default for batch norms, which all four released codes leave as it is.
MOMENTUM = 0.99


class ComparatorBuilder(GraphBuilder):
    """A builder whose graph has its nodes in Keras' order.

    Checkpoints are read by kind and order. Keras lists a model's layers by their distance to
    the output, so parallel branches interleave; a graph in the same order fits the files that
    Keras writes as well as those that `save_checkpoint` does.

    Args:
        fill: gives the weights.
        divisor: of every width that `widths` gives out.
    """

    def __init__(self, fill: Fill, divisor: int = 1) -> None:
        super().__init__(fill)
        self._divisor = divisor

    def widths(self, *published: int) -> tuple[int, ...]:
        """The channel counts to build with."""
        return tuple(width // self._divisor for width in published)

    def graph(self, output: str) -> Graph:
        """What was added, in Keras' order."""
        return Graph(tuple(_keras_order(self.nodes, output)), output)

    def conv_norm_relu(self, name: str, source: str, filters: int, kernel: int = 3) -> str:
        """Convolution, batch norm, ReLU."""
        return self.conv(name, source, filters, kernel, MOMENTUM, activation="relu")

    def norm_relu_conv(self, name: str, source: str, filters: int, strides: int = 1) -> str:
        """Batch norm, ReLU, 3x3 convolution: the order of pre-activation residual units."""
        x = self.finish(name, source, MOMENTUM, "relu")
        return self.conv(name, x, filters, 3, None, strides=strides)

    def double_conv(self, name: str, source: str, filters: int) -> str:
        """Two 3x3 convolutions, each with batch norm and ReLU: a level of a U-Net."""
        x = self.conv_norm_relu(f"{name}_conv1", source, filters)
        return self.conv_norm_relu(f"{name}_conv2", x, filters)


def _keras_order(nodes: list[Node], output: str) -> list[Node]:
    """Sort as Keras' functional models do: farthest from the output first, then as first reached."""
    by_name = {node.name: node for node in nodes}
    distance: dict[str, int] = {output: 0}
    for node in reversed(nodes):
        for name in node.inputs:
            if node.name in distance:
                distance[name] = max(distance.get(name, 0), distance[node.name] + 1)
    reached: dict[str, int] = {}

    def visit(name: str) -> None:
        stack = [name]
        while stack:
            current = stack.pop()
            if current not in reached:
                reached[current] = len(reached)
                stack.extend(reversed(by_name[current].inputs))

    visit(output)
    return sorted((by_name[name] for name in reached), key=lambda n: (-distance[n.name], reached[n.name]))
