"""Writes a network down as a graph: layers by name, their shapes and weights filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from nanonet_edge.graph import Graph, Node

#: Keras' default for batch norms, which every released code uses.
EPSILON = 1e-3

#: Gives the array for (layer name, weight name, shape).
Fill = Callable[[str, str, tuple[int, ...]], npt.NDArray[np.float32]]


class GraphBuilder:
    """Adds one node after another; each method returns the name of the tensor that it made.

    Attributes:
        nodes: what was added, in order.
        channels: of each tensor, by name.
    """

    def __init__(self, fill: Fill) -> None:
        self.nodes: list[Node] = []
        self.channels: dict[str, int] = {}
        self._fill = fill

    def graph(self, output: str) -> Graph:
        """What was added, as a graph with that output."""
        return Graph(tuple(self.nodes), output)

    def add(self, name: str, op: str, *inputs: str, **attributes: object) -> str:
        """An operation without weights; the output has the first input's channels unless joined."""
        self.nodes.append(Node(name, op, inputs, attributes=attributes))
        channels = [self.channels[i] for i in inputs]
        self.channels[name] = sum(channels) if op == "concat" else channels[0] if channels else 3
        return name

    def weighted(
        self,
        name: str,
        op: str,
        source: str,
        shapes: Mapping[str, tuple[int, ...]],
        out: int,
        **attributes: object,
    ) -> str:
        """An operation with weights of these shapes and `out` output channels."""
        weights = {weight: self._fill(name, weight, shape) for weight, shape in shapes.items()}
        self.nodes.append(Node(name, op, (source,), weights, attributes))
        self.channels[name] = out
        return name

    def batch_norm(self, name: str, source: str, momentum: float) -> str:
        """Batch norm with Keras' default epsilon."""
        channels = self.channels[source]
        shapes = dict.fromkeys(("gamma", "beta", "mean", "variance"), (channels,))
        return self.weighted(name, "batch_norm", source, shapes, channels, epsilon=EPSILON, momentum=momentum)

    def conv(
        self, name: str, source: str, filters: int, kernel: int, momentum: float | None,
        *, bias: bool = True, strides: int = 1, dilation: int = 1, activation: str | None = None,
    ) -> str:  # fmt: skip
        """Convolution, then batch norm unless `momentum` is None, then an activation if any."""
        shapes: dict[str, tuple[int, ...]] = {"kernel": (kernel, kernel, self.channels[source], filters)}
        if bias:
            shapes["bias"] = (filters,)
        attributes = {"dilation": dilation} if dilation > 1 else {}
        x = self.weighted(
            name, "conv2d", source, shapes, filters, strides=strides, padding="same", **attributes
        )
        return self.finish(name, x, momentum, activation)

    def transposed(self, name: str, source: str, filters: int) -> str:
        """A 2x2 transposed convolution with stride 2 and bias."""
        shapes = {"kernel": (2, 2, filters, self.channels[source]), "bias": (filters,)}
        return self.weighted(name, "conv2d_transpose", source, shapes, filters)

    def finish(self, name: str, x: str, momentum: float | None, activation: str | None) -> str:
        """Batch norm unless `momentum` is None, then an activation if any, named after `name`."""
        if momentum is not None:
            x = self.batch_norm(f"{name}_bn", x, momentum)
        return self.add(f"{name}_{activation}", activation, x) if activation else x

    def squeeze_and_excite(self, name: str, source: str, ratio: int) -> str:
        """Squeeze-and-excitation (Hu et al., 2018) without biases, ReLU and then sigmoid."""
        width = self.channels[source]
        hidden = max(width // ratio, 1)
        x = self.add(f"{name}_squeeze", "global_mean", source, keepdims=False)
        x = self.add(f"{name}_reshape", "reshape", x)
        x = self.weighted(f"{name}_excite1", "dense", x, {"kernel": (width, hidden)}, hidden)
        x = self.add(f"{name}_excite1_relu", "relu", x)
        x = self.weighted(f"{name}_excite2", "dense", x, {"kernel": (hidden, width)}, width)
        x = self.add(f"{name}_gate", "sigmoid", x)
        return self.add(f"{name}_scale", "multiply", source, x)
