"""The intermediate form: a network as a short list of nodes with NumPy weights.

Every tensor is the output of one node and bears its name. Shapes leave the batch out and put
channels last, (H, W, C). Kernels are stored as Keras stores them: (kh, kw, in, out) for a
convolution, (kh, kw, out, in) for a transposed one, (kh, kw, channels, multiplier) for a
depthwise one, (in, out) for a dense layer.

| op                 | inputs | weights                          | attributes                          |
|--------------------|--------|----------------------------------|-------------------------------------|
| input              | 0      |                                  | size, channels                      |
| conv2d             | 1      | kernel, bias (optional)          | strides, padding, dilation,         |
|                    |        |                                  | activation                          |
| depthwise_conv2d   | 1      | kernel, bias (optional)          | strides, padding, activation        |
| conv2d_transpose   | 1      | kernel, bias (optional)          | (2x2 kernel, stride 2)              |
| dense              | 1      | kernel                           | activation                          |
| batch_norm         | 1      | gamma, beta, mean, variance      | epsilon, momentum                   |
| relu relu6         | 1      |                                  |                                     |
| sigmoid softmax    | 1      |                                  |                                     |
| add                | 2      |                                  | activation (second may be (1, 1, C))|
| multiply           | 2      |                                  | (second may be (1, 1, C), (H, W, 1))|
| concat             | 2..    |                                  | (along channels)                    |
| upsample_bilinear  | 1      |                                  | (x2, half-pixel centres)            |
| upsample_nearest   | 1      |                                  | (x2, each pixel four times)         |
| max_pool           | 1      |                                  | (2x2, stride 2)                     |
| broadcast          | 2      |                                  | ((1, 1, C) to the second's H, W)    |
| zero_pad           | 1      |                                  | (one row below, one column right)   |
| edge_pad           | 1      |                                  | (one pixel on every side, repeated) |
| depth_to_space     | 1      |                                  | (blocks of 2)                       |
| crop               | 1      |                                  | top, left, height, width            |
| join               | 2..    |                                  | axis: 0 (rows) or 1 (columns)       |
| column_mean        | 1      |                                  | ((H, W, C) to (1, W, C))            |
| global_mean        | 1      |                                  | keepdims                            |
| reshape            | 1      |                                  | (C,) to (1, 1, C)                   |
| mask               | 1      |                                  | (z > 0, or arg-max over classes)    |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, npt.NDArray[np.float32]]
Shape = tuple[int, ...]

_ARITY = {"input": 0, "add": 2, "multiply": 2, "broadcast": 2}
_JOINING = frozenset({"concat", "join"})
_REQUIRED_WEIGHTS: dict[str, frozenset[str]] = {
    "conv2d": frozenset({"kernel"}),
    "depthwise_conv2d": frozenset({"kernel"}),
    "conv2d_transpose": frozenset({"kernel"}),
    "dense": frozenset({"kernel"}),
    "batch_norm": frozenset({"gamma", "beta", "mean", "variance"}),
}
_UNWEIGHTED = (
    "input relu relu6 sigmoid softmax add multiply concat upsample_bilinear upsample_nearest max_pool "
    "broadcast zero_pad edge_pad depth_to_space crop join column_mean global_mean reshape mask"
).split()
OPS = frozenset(_UNWEIGHTED) | _REQUIRED_WEIGHTS.keys()

CONVOLUTIONS = frozenset({"conv2d", "depthwise_conv2d"})


class GraphError(ValueError):
    """A graph that breaks a rule of the intermediate form: always a fault of the code, not of the user."""


@dataclass(frozen=True)
class Node:
    """One operation; `name` is also the name of its only output."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    weights: Weights = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def activation(self) -> str:
        """The fused activation: "none", "relu" or "relu6"."""
        return str(self.attributes.get("activation", "none"))

    @property
    def strides(self) -> int:
        """The stride, the same in both directions."""
        return int(self.attributes.get("strides", 1))

    @property
    def dilation(self) -> int:
        """The distance between neighbouring taps of the kernel, the same in both directions."""
        return int(self.attributes.get("dilation", 1))

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that a convolution's kernel spans, dilation included."""
        rows, columns = self.weights["kernel"].shape[:2]
        return (rows - 1) * self.dilation + 1, (columns - 1) * self.dilation + 1

    @property
    def bias(self) -> npt.NDArray[np.float32]:
        """The bias, zeros where none is stored: (channels out,) float32."""
        kernel = self.weights["kernel"]
        channels = kernel.shape[2] if self.op == "conv2d_transpose" else kernel.shape[-1]
        if self.op == "depthwise_conv2d":
            channels = kernel.shape[2] * kernel.shape[3]
        return self.weights.get("bias", np.zeros(channels, np.float32))

    @property
    def is_pointwise(self) -> bool:
        """Whether this is a 1x1 convolution with stride 1 and no activation."""
        return (
            self.op == "conv2d"
            and self.weights["kernel"].shape[:2] == (1, 1)
            and self.strides == 1
            and self.activation == "none"
        )

    def but(self, **changes: Any) -> Node:
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed; the first is the input.

    Raises:
        GraphError: a name used twice, an input that is not computed before its use, an unknown
            operation, a missing weight, or an output that no node computes.
    """

    nodes: tuple[Node, ...]
    output: str

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.op not in OPS:
                raise GraphError(f"node '{node.name}': unknown operation '{node.op}'")
            wanted = _ARITY.get(node.op, 1)
            if len(node.inputs) < 2 if node.op in _JOINING else len(node.inputs) != wanted:
                raise GraphError(f"node '{node.name}': {node.op} cannot have {len(node.inputs)} inputs")
            if missing := _REQUIRED_WEIGHTS.get(node.op, frozenset()) - node.weights.keys():
                raise GraphError(f"node '{node.name}': {node.op} lacks {sorted(missing)}")
            if node.op == "input" and seen:
                raise GraphError(f"node '{node.name}': a second input")
            if unknown := [name for name in node.inputs if name not in seen]:
                raise GraphError(f"node '{node.name}': input {unknown[0]} is not computed before it")
            if node.name in seen:
                raise GraphError(f"node '{node.name}': the name is used twice")
            seen.add(node.name)
        if not self.nodes or self.nodes[0].op != "input":
            raise GraphError("the first node must be the input")
        if self.output not in seen:
            raise GraphError(f"output '{self.output}' is computed by no node")

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __getitem__(self, name: str) -> Node:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @property
    def input(self) -> Node:
        """The input node; its attributes are `size` and `channels`."""
        return self.nodes[0]

    @property
    def size(self) -> int:
        """Height and width of the input in pixels."""
        return int(self.input.attributes["size"])

    @property
    def classes(self) -> int:
        """Channels of the last layer before any activation or mask."""
        shape = self.shapes()[self.output]
        node = self[self.output]
        return int(self.shapes()[node.inputs[0]][-1]) if node.op == "mask" else int(shape[-1])

    @property
    def parameters(self) -> int:
        """Number of stored values, batch-norm statistics included."""
        return sum(array.size for node in self.nodes for array in node.weights.values())

    def consumers(self) -> dict[str, list[str]]:
        """For each tensor, the names of the nodes that read it (twice if they do so twice)."""
        readers: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                readers[name].append(node.name)
        return readers

    def ops(self) -> list[str]:
        """The operations in order; what tests and reports count."""
        return [node.op for node in self.nodes]

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor, batch left out."""
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            shapes[node.name] = _infer(node, [shapes[name] for name in node.inputs])
        return shapes

    def with_size(self, size: int) -> Graph:
        """The same network for another input size."""
        first = self.input.but(attributes={**self.input.attributes, "size": size})
        return Graph((first, *self.nodes[1:]), self.output)


def _infer(node: Node, inputs: list[Shape]) -> Shape:
    if node.op == "input":
        size = int(node.attributes["size"])
        return (size, size, int(node.attributes["channels"]))
    shape = inputs[0]
    if node.op in CONVOLUTIONS:
        return _infer_convolution(node, shape)
    rule = _RULES.get(node.op)
    return shape if rule is None else rule(node, inputs)


def _infer_convolution(node: Node, shape: Shape) -> Shape:
    kernel = node.weights["kernel"]
    if kernel.shape[2] != shape[-1]:
        raise GraphError(f"node '{node.name}': expected {kernel.shape[2]} input channels, found {shape[-1]}")
    channels = kernel.shape[3] if node.op == "conv2d" else kernel.shape[2] * kernel.shape[3]
    stride, (rows, columns) = node.strides, node.extent
    if node.attributes.get("padding", "same") == "same":
        return (-(-shape[0] // stride), -(-shape[1] // stride), channels)
    return ((shape[0] - rows) // stride + 1, (shape[1] - columns) // stride + 1, channels)


def _infer_transposed(node: Node, inputs: list[Shape]) -> Shape:
    kernel, (height, width, channels) = node.weights["kernel"], inputs[0]
    if kernel.shape[:2] != (2, 2):
        raise GraphError(f"node '{node.name}': expected a 2x2 kernel, found {kernel.shape[:2]}")
    if kernel.shape[3] != channels:
        raise GraphError(f"node '{node.name}': expected {kernel.shape[3]} input channels, found {channels}")
    return (2 * height, 2 * width, kernel.shape[2])


def _infer_concat(node: Node, inputs: list[Shape]) -> Shape:
    if len({shape[:-1] for shape in inputs}) > 1:
        raise GraphError(f"node '{node.name}': expected inputs of one size, found {inputs}")
    return (*inputs[0][:-1], sum(shape[-1] for shape in inputs))


def _infer_crop(node: Node, inputs: list[Shape]) -> Shape:
    top, left, height, width = (int(node.attributes[key]) for key in ("top", "left", "height", "width"))
    rows, columns, channels = inputs[0]
    if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
        raise GraphError(
            f"node '{node.name}': {height}x{width} at ({top}, {left}) is not inside {rows}x{columns}"
        )
    return (height, width, channels)


def _infer_join(node: Node, inputs: list[Shape]) -> Shape:
    axis = int(node.attributes["axis"])
    if axis not in (0, 1) or len({shape[:axis] + shape[axis + 1 :] for shape in inputs}) > 1:
        raise GraphError(f"node '{node.name}': {inputs} cannot be joined along axis {axis}")
    joined = list(inputs[0])
    joined[axis] = sum(shape[axis] for shape in inputs)
    return tuple(joined)


_RULES: dict[str, Callable[[Node, list[Shape]], Shape]] = {
    "dense": lambda node, s: (*s[0][:-1], node.weights["kernel"].shape[1]),
    "conv2d_transpose": _infer_transposed,
    "concat": _infer_concat,
    "upsample_bilinear": lambda node, s: (2 * s[0][0], 2 * s[0][1], s[0][2]),
    "upsample_nearest": lambda node, s: (2 * s[0][0], 2 * s[0][1], s[0][2]),
    "max_pool": lambda node, s: (s[0][0] // 2, s[0][1] // 2, s[0][2]),
    "broadcast": lambda node, s: (*s[1][:2], s[0][2]),
    "zero_pad": lambda node, s: (s[0][0] + 1, s[0][1] + 1, s[0][2]),
    "edge_pad": lambda node, s: (s[0][0] + 2, s[0][1] + 2, s[0][2]),
    "depth_to_space": lambda node, s: (2 * s[0][0], 2 * s[0][1], s[0][2] // 4),
    "crop": _infer_crop,
    "join": _infer_join,
    "column_mean": lambda node, s: (1, *s[0][1:]),
    "global_mean": lambda node, s: (1, 1, s[0][2]) if node.attributes["keepdims"] else (s[0][2],),
    "reshape": lambda node, s: (1, 1, s[0][0]),
    "mask": lambda node, s: (*s[0][:2], 1),
}


def zero_padding(node: Node, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros that a convolution puts before and after the rows, and before and after the columns.

    Under `same` padding an odd one goes after, as TensorFlow has it.
    """
    if node.attributes.get("padding", "same") == "valid":
        return (0, 0), (0, 0)
    stride = node.strides
    rows, columns = (
        max((-(-length // stride) - 1) * stride + kernel - length, 0)
        for length, kernel in zip((height, width), node.extent, strict=True)
    )
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def rebuild(nodes: Iterable[Node], output: str) -> Graph:
    """A graph from nodes in any order that has one: sorts them, drops what the output does not need.

    Raises:
        GraphError: there is a cycle, or an input that no node computes.
    """
    by_name = {node.name: node for node in nodes}
    ordered: dict[str, Node] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        stack = [(name, False)]
        while stack:
            current, leaving = stack.pop()
            if leaving:
                visiting.discard(current)
                ordered[current] = by_name[current]
            elif current in visiting:
                raise GraphError(f"node '{current}' depends on itself")
            elif current not in ordered:
                if current not in by_name:
                    raise GraphError(f"input '{current}' is computed by no node")
                visiting.add(current)
                stack.append((current, True))
                stack.extend((i, False) for i in by_name[current].inputs if i not in ordered)

    visit(next(node.name for node in by_name.values() if node.op == "input"))
    visit(output)
    return Graph(tuple(ordered.values()), output)
