"""Graphs and weights that the tests of the core share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.graph import Graph, Node
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.variants import VARIANTS, Topology

Tensor = npt.NDArray[np.float32]

#: Every variant in every topology.
ALL = [(variant, topology) for variant in VARIANTS for topology in Topology]


def nanonet(
    variant: str = "c",
    topology: Topology = Topology.RELEASED,
    *,
    seed: int = 0,
    size: int = 64,
    classes: int = 1,
) -> Graph:
    """An unrewritten network with random weights and batch-norm statistics."""
    return build_network(VARIANTS[variant], topology, size=size, classes=classes, fill=random_fill(seed))


def image(size: int, seed: int = 0, count: int = 1, channels: int = 3) -> Tensor:
    """(count, size, size, channels) float32 in [0, 1)."""
    return np.random.default_rng(seed).random((count, size, size, channels)).astype(np.float32)


class Sketch:
    """Writes small graphs: each method adds a node and returns its name."""

    def __init__(self, size: int = 8, channels: int = 3, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._channels = {"image": channels}
        self.nodes = [Node("image", "input", attributes={"size": size, "channels": channels})]

    def add(
        self, op: str, *inputs: str, channels: int | None = None, name: str = "", **attributes: Any
    ) -> str:
        """Any operation without weights; `channels` where they differ from the first input's."""
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs, attributes=attributes))
        self._channels[name] = channels or self._channels[inputs[0]]
        return name

    def conv(
        self,
        source: str,
        filters: int = 4,
        kernel: int = 3,
        *,
        bias: bool = True,
        name: str = "",
        **attributes: Any,
    ) -> str:
        """A convolution."""
        shape = (kernel, kernel, self._channels[source], filters)
        return self._weighted("conv2d", source, shape, filters, bias=bias, name=name, **attributes)

    def depthwise(self, source: str, multiplier: int = 1, *, name: str = "", **attributes: Any) -> str:
        """A 3x3 depthwise convolution."""
        channels = self._channels[source]
        shape = (3, 3, channels, multiplier)
        return self._weighted(
            "depthwise_conv2d", source, shape, channels * multiplier, bias=True, name=name, **attributes
        )

    def transposed(self, source: str, filters: int = 4, *, bias: bool = True, name: str = "") -> str:
        """A 2x2 transposed convolution with stride 2."""
        shape = (2, 2, filters, self._channels[source])
        return self._weighted("conv2d_transpose", source, shape, filters, bias=bias, name=name)

    def dense(self, source: str, units: int) -> str:
        """A dense layer without bias."""
        return self._weighted("dense", source, (self._channels[source], units), units, bias=False)

    def norm(self, source: str, name: str = "") -> str:
        """A batch norm with random statistics."""
        name = name or f"batch_norm_{len(self.nodes)}"
        channels = self._channels[source]
        weights = {
            "gamma": self._uniform(channels),
            "beta": self._uniform(channels),
            "mean": self._uniform(channels),
            "variance": np.abs(self._uniform(channels)),
        }
        self.nodes.append(Node(name, "batch_norm", (source,), weights, {"epsilon": 1e-3, "momentum": 0.99}))
        self._channels[name] = channels
        return name

    def graph(self, output: str = "") -> Graph:
        """What was written so far; the output is the last node unless given."""
        return Graph(tuple(self.nodes), output or self.nodes[-1].name)

    def _weighted(
        self,
        op: str,
        source: str,
        shape: tuple[int, ...],
        out: int,
        *,
        bias: bool,
        name: str = "",
        **attributes: Any,
    ) -> str:
        name = name or f"{op}_{len(self.nodes)}"
        weights = {"kernel": self._uniform(*shape)} | ({"bias": self._uniform(out)} if bias else {})
        defaults: dict[str, object] = {} if op == "dense" else {"strides": 1, "padding": "same"}
        self.nodes.append(Node(name, op, (source,), weights, defaults | attributes))
        self._channels[name] = out
        return name

    def _uniform(self, *shape: int) -> Tensor:
        return self._random.uniform(-1, 1, shape).astype(np.float32)


Draw = Callable[[Sketch], str]
