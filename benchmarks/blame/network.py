"""One form for the integer artifacts of all formats: float steps, and where they are rounded.

A reader takes scales, zero points and integer weights from a file and writes the network down as
ONNX operations on real numbers, channels first. Each rounding is a *point* beside the steps, not
a step: it can be left out, which is what blame is about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nanonet_edge.graph import CONVOLUTIONS, Graph, Node

Array = npt.NDArray[Any]

OPSET: Final = 13
#: A kernel that differs from the float one by more than this part of it was not made from it.
_SAME_WEIGHTS = 0.5
#: Steps that a layer keeps inside: what comes out of them is what is stored.
_ACTIVATIONS = frozenset({"Relu", "Clip"})
_MOVES = frozenset({"Identity", "Transpose"})
#: What a rounding that cuts off below zero may stand in for.
_UNBOUNDED = frozenset({"Conv", "Add"})
_RELU6_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Storage:
    """How a tensor is stored: ``real = (stored - zero_point) * scale``, stored within [low, high]."""

    scale: float
    zero_point: int
    low: int
    high: int

    @classmethod
    def of(cls, scale: float, zero_point: int, dtype: str) -> Storage:
        """From a scale, a zero point and an integer dtype."""
        info = np.iinfo(dtype)
        return cls(float(scale), int(zero_point), int(info.min), int(info.max))

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the largest real value, as counts of the scale."""
        return float(self.low - self.zero_point), float(self.high - self.zero_point)

    def round(self, real: Array) -> npt.NDArray[np.float32]:
        """What is left of real values once they were stored."""
        counts = np.rint(np.asarray(real, np.float32) / np.float32(self.scale))
        return np.asarray(np.clip(counts, *self.limits) * np.float32(self.scale), np.float32)


@dataclass(frozen=True)
class Step:
    """One ONNX operation with one output; `inputs` name tensors or constants, "" is left out."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """What is kept in float or quantized as one: a tensor's rounding and the weights that made it.

    Attributes:
        name: of the tensor, as the file has it.
        op: the ONNX operation that computes it.
        tensor: that is rounded, or None if only the weights are.
        kernel, bias: constants in integers, or None.
        parameters: numbers in them.
    """

    name: str
    op: str
    tensor: str | None
    kernel: str | None = None
    bias: str | None = None
    parameters: int = 0


@dataclass
class Network:
    """A network in that form.

    Attributes:
        input: name of the input tensor.
        shape: of it.
        output: name of the output tensor, (1, classes, H, W).
        steps: in order of execution.
        constants: by name; integer weights as the real numbers that they stand for.
        points: roundings by tensor.
        kernels: of convolutions in integers, output -> names of the kernel and of the bias, if any.
        drops_activations: the format's writers leave out a ReLU that rounding makes superfluous.
        scales: of integer kernels by name, one per output channel, where they are known.
        takes_stored: the input is what the file takes, as float32, instead of real values.
        opset: of the operations.
        floats: constants as they were before rounding, by name; empty where they are not known.
    """

    input: str
    shape: tuple[int, ...]
    output: str = ""
    steps: list[Step] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    points: dict[str, Storage] = field(default_factory=dict)
    kernels: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    scales: dict[str, Array] = field(default_factory=dict)
    drops_activations: bool = True
    takes_stored: bool = False
    opset: int = OPSET
    floats: dict[str, Array] = field(default_factory=dict)

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append a step and return the name of its output."""
        self.steps.append(Step(op, tuple(inputs), output, attributes))
        return output

    def constant(self, name: str, array: Array) -> str:
        """Add a constant and return its name."""
        self.constants[name] = array
        return name

    def readers(self) -> dict[str, list[Step]]:
        """The steps that read each tensor."""
        found: dict[str, list[Step]] = {}
        for step in self.steps:
            for name in step.inputs:
                found.setdefault(name, []).append(step)
        return found

    def all_kernels(self) -> dict[str, Array]:
        """The kernel of every convolution, in integers or not, by the tensor in which it ends."""
        readers = self.readers()
        return {
            self._end(step.output, readers): self.constants[step.inputs[1]]
            for step in self.steps
            if step.op == "Conv" and step.inputs[1] in self.constants
        }

    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order of execution; every point and every kernel belongs to one."""
        readers, made = self.readers(), {step.output: step for step in self.steps}
        kernels = {self._end(output, readers): output for output in self.kernels}
        tensors = {self.input, *self.points, *kernels}
        order = [self.input, *(step.output for step in self.steps)]
        return tuple(
            self._layer(tensor, kernels.get(tensor), made)
            for tensor in order
            if tensor in tensors and (tensor in self.points or tensor in kernels)
        )

    def _layer(self, tensor: str, convolution: str | None, made: Mapping[str, Step]) -> Layer:
        kernel, bias = self.kernels[convolution] if convolution else (None, None)
        source = convolution or tensor
        while source in made and made[source].op in _ACTIVATIONS | _MOVES:
            if made[source].inputs[0] in self.constants:
                break
            source = made[source].inputs[0]
        is_input = source == self.input
        return Layer(
            name=self.input if is_input else tensor,
            op="input" if is_input else _title(made[source]),
            tensor=tensor if tensor in self.points else None,
            kernel=kernel,
            bias=bias,
            parameters=sum(self.constants[name].size for name in (kernel, bias) if name),
        )

    def _end(self, tensor: str, readers: Mapping[str, list[Step]]) -> str:
        """Where a convolution's output is stored: behind its bias and its activation."""
        while tensor not in self.points and len(onward := readers.get(tensor, [])) == 1:
            step = onward[0]
            is_bias = step.op == "Add" and any(name in self.constants for name in step.inputs)
            if step.op not in _ACTIVATIONS and not is_bias:
                break
            tensor = step.output
        return tensor


def _title(step: Step) -> str:
    return "depthwise Conv" if step.attributes.get("group", 1) > 1 else step.op


def complete(network: Network, graph: Graph | None) -> bool:
    """Put in what a file leaves out because rounding does it, and what rounding has taken away.

    A rounding whose least value is 0 makes a ReLU before it superfluous, so writers drop it; without
    the rounding it is needed.

    Args:
        network: changed in place.
        graph: the float graph that the file was made from, or None.

    Returns:
        Whether the float weights are known now.
    """
    nodes = {node.name: node for node in graph} if graph is not None else {}
    if network.drops_activations:
        _restore_activations(network, nodes)
    return _find_float_weights(network, nodes)


def _restore_activations(network: Network, nodes: Mapping[str, Node]) -> None:
    steps: list[Step] = []
    for step in network.steps:
        storage = network.points.get(step.output)
        activation = "none"
        if storage is not None and storage.limits[0] == 0 and step.op in _UNBOUNDED:
            activation = _activation(storage, nodes.get(step.output))
        if activation == "none":
            steps.append(step)
            continue
        inner = f"{step.output}:linear"
        steps.append(replace(step, output=inner))
        if step.output in network.kernels:
            network.kernels[inner] = network.kernels.pop(step.output)
        op, limits = ("Relu", []) if activation == "relu" else ("Clip", relu6_limits(network))
        steps.append(Step(op, (inner, *limits), step.output))
    network.steps = steps


def relu6_limits(network: Network) -> list[str]:
    """The constants 0 and 6, for a Clip."""
    return [network.constant(f"clip:{limit}", np.array(limit, np.float32)) for limit in (0, 6)]


def _activation(storage: Storage, node: Node | None) -> str:
    """What stood before a rounding to values from 0 on; without the graph, by where they end."""
    if node is not None:
        return node.activation
    is_relu6 = abs(storage.limits[1] * storage.scale - 6) < 6 * _RELU6_TOLERANCE
    return "relu6" if is_relu6 else "relu"


def _find_float_weights(network: Network, nodes: Mapping[str, Node]) -> bool:
    """Take the float weights from the graph's convolutions, if they are those of this network."""
    floats: dict[str, Array] = {}
    for layer in network.layers():
        if layer.kernel is None:
            continue
        node = nodes.get(layer.name)
        if node is None or node.op not in CONVOLUTIONS:
            return False
        stored, kernel = network.constants[layer.kernel], channels_first(node)
        if kernel.size != stored.size:
            return False
        kernel = kernel.reshape(stored.shape)
        if np.linalg.norm(kernel - stored) > _SAME_WEIGHTS * np.linalg.norm(kernel):
            return False
        floats[layer.kernel] = kernel.astype(np.float32)
        if layer.bias is not None:
            floats[layer.bias] = node.bias.reshape(network.constants[layer.bias].shape).astype(np.float32)
    network.floats = floats
    return bool(floats)


def channels_first(node: Node) -> npt.NDArray[np.float32]:
    """A convolution's float kernel as ONNX has it: (out, in / groups, kh, kw)."""
    kernel = node.weights["kernel"]
    if node.op == "depthwise_conv2d":
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    return kernel.transpose(3, 2, 0, 1)


def unique_names(names: list[str]) -> list[str]:
    """The same names; those that are empty or used twice get a number."""
    seen = Counter(names)
    return [name if name and seen[name] == 1 else f"{name}:{i}" for i, name in enumerate(names)]
