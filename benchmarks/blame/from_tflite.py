"""An integer `.tflite` file as a `Network`, whoever wrote it, channels first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nanonet_edge.benchmarks.blame.network import Array, Network, Storage, relu6_limits, unique_names
from nanonet_edge.errors import InputError, UnsupportedError
from nanonet_edge.tflite_file import Operator, Tensor, TfliteFile, read_tflite

_INTEGERS = frozenset({"int8", "uint8", "int16"})
#: The schema's fused activations: RELU, RELU_N1_TO_1, RELU6.
_FUSED = {1: "Relu", 3: "relu6"}
_SAME = 0
_TO_CHANNELS_FIRST = (0, 3, 1, 2)


def read_tflite_network(path: Path) -> Network:
    """Read a `.tflite` file.

    Raises:
        InputError: the file is missing or damaged.
        UnsupportedError: it has an operator or a shape that is not known here.
        MissingExtraError: ai-edge-litert is not installed.
    """
    return _TfliteReader(read_tflite(path)).read()


class _TfliteReader:
    def __init__(self, file: TfliteFile) -> None:
        self.file = file
        self.names = unique_names([tensor.name for tensor in file.tensors])
        if len(file.inputs) != 1 or len(file.outputs) != 1:
            raise UnsupportedError(f"{file.path}: expected one input and one output")
        entry = file.tensors[file.inputs[0]]
        self.network = Network(self.names[entry.index], entry.shape, drops_activations=False)

    def read(self) -> Network:
        file, network = self.file, self.network
        entry = file.tensors[file.inputs[0]]
        first = f"{self.names[entry.index]}:nchw"
        network.add("Transpose", [network.input], first, perm=_TO_CHANNELS_FIRST)
        self.names[entry.index] = first
        self.point(entry)
        for operator in file.operators:
            emit = _EMITTERS.get(operator.name)
            outputs = file.output_tensors(operator)
            if emit is None or len(outputs) != 1 or len(outputs[0].shape) != 4:
                raise UnsupportedError(
                    f"{file.path}: operator {operator.index}: {operator.name}"
                    f" of shape {[list(one.shape) for one in outputs]} is not looked into"
                )
            emit(self, operator)
            self.point(outputs[0])
        network.output = self.names[file.outputs[0]]
        return network

    def point(self, tensor: Tensor) -> None:
        """Note how a tensor is stored, if it is in integers."""
        if tensor.dtype not in _INTEGERS or not tensor.scales:
            return
        if len(tensor.scales) != 1 or not tensor.scales[0] > 0:
            raise UnsupportedError(
                f"{self.file.path}: tensor '{tensor.name}': expected one positive scale for an activation"
            )
        zero = tensor.zero_points[0] if tensor.zero_points else 0
        self.network.points[self.names[tensor.index]] = Storage.of(tensor.scales[0], zero, tensor.dtype)

    def read_input(self, operator: Operator, position: int) -> str:
        """The name of an operator's input; a constant becomes one of the network, channels first."""
        tensor = self.tensor(operator, position)
        name = self.names[tensor.index]
        if tensor.is_constant and name not in self.network.constants:
            real = self.real(tensor)
            self.network.constant(name, real.transpose(_TO_CHANNELS_FIRST) if real.ndim == 4 else real)
        return name

    def tensor(self, operator: Operator, position: int) -> Tensor:
        """An operator's input tensor, which must be there."""
        tensor = self.file.input(operator, position)
        if tensor is None:
            raise InputError(
                f"{self.file.path}: operator {operator.index}: {operator.name} has no input {position}"
            )
        return tensor

    def real(self, tensor: Tensor) -> Array:
        """The real numbers of a constant, as float32 in the file's order."""
        stored = self.file.array(tensor)
        if stored.dtype.kind == "f" or not tensor.scales:
            return stored.astype(np.float32)
        shape = [1] * max(stored.ndim, 1)
        if len(tensor.scales) > 1:
            if tensor.axis >= stored.ndim or stored.shape[tensor.axis] != len(tensor.scales):
                raise InputError(f"{self.file.path}: tensor '{tensor.name}': its scales do not fit its shape")
            shape[tensor.axis] = -1
        zero = tensor.zero_points[0] if tensor.zero_points else 0
        scales = np.asarray(tensor.scales, np.float32).reshape(shape)
        return np.asarray((stored.astype(np.float32) - np.float32(zero)) * scales, np.float32)

    def output(self, operator: Operator) -> str:
        """The name of an operator's output."""
        return self.names[operator.outputs[0]]

    def shape(self, operator: Operator) -> tuple[int, ...]:
        """The shape of an operator's output, (1, H, W, C)."""
        return self.file.tensors[operator.outputs[0]].shape

    def activated(self, operator: Operator, op: str, inputs: list[str], **attributes: Any) -> str:
        """Append a step and the operator's fused activation; returns the output of the step itself."""
        fused, output = operator.option("FusedActivationFunction"), self.output(operator)
        if not fused:
            return self.network.add(op, inputs, output, **attributes)
        if fused not in _FUSED:
            raise UnsupportedError(
                f"{self.file.path}: operator {operator.index}: fused activation {fused} is not looked into"
            )
        inner = self.network.add(op, inputs, f"{output}:linear", **attributes)
        if _FUSED[fused] == "Relu":
            self.network.add("Relu", [inner], output)
        else:
            self.relu6(inner, output)
        return inner

    def relu6(self, source: str, target: str) -> None:
        """Append a ReLU6."""
        self.network.add("Clip", [source, *relu6_limits(self.network)], target)

    def plain(self, operator: Operator, op: str, count: int = 1, **attributes: Any) -> None:
        """Append `op` on the first `count` inputs."""
        inputs = [self.read_input(operator, position) for position in range(count)]
        self.activated(operator, op, inputs, **attributes)

    def convolution(self, operator: Operator) -> None:
        """Append CONV_2D or DEPTHWISE_CONV_2D."""
        source, kernel = self.tensor(operator, 0), self.tensor(operator, 1)
        if not kernel.is_constant or len(kernel.shape) != 4 or len(source.shape) != 4:
            raise UnsupportedError(f"{self.file.path}: operator {operator.index}: expected a constant kernel")
        depthwise = operator.name == "DEPTHWISE_CONV_2D"
        real = self.real(kernel)
        # (1, kh, kw, channels) of a depthwise kernel; else (out, kh, kw, in / groups).
        oihw = real.transpose(3, 0, 1, 2) if depthwise else real.transpose(0, 3, 1, 2)
        groups = source.shape[3] // max(oihw.shape[1], 1)
        strides = operator.option("StrideH", 1), operator.option("StrideW", 1)
        dilations = operator.option("DilationHFactor", 1), operator.option("DilationWFactor", 1)
        kernel_name = self.network.constant(self.names[kernel.index], np.ascontiguousarray(oihw))
        if kernel.scales:
            scales = np.asarray(kernel.scales, np.float32)
            self.network.scales[kernel_name] = np.broadcast_to(scales, oihw.shape[:1])
        inputs = [self.read_input(operator, 0), kernel_name]
        bias = self.file.input(operator, 2)
        if bias is not None:
            inputs.append(self.network.constant(self.names[bias.index], self.real(bias)))
        pads = self.pads(operator, source.shape[1:3], oihw.shape[2:], strides, dilations)
        inner = self.activated(
            operator,
            "Conv",
            inputs,
            kernel_shape=oihw.shape[2:],
            strides=strides,
            dilations=dilations,
            pads=pads,
            group=groups,
        )
        if kernel.scales:
            self.network.kernels[inner] = (kernel_name, inputs[2] if bias is not None else None)

    def pads(
        self,
        operator: Operator,
        size: tuple[int, ...],
        kernel: tuple[int, ...],
        strides: tuple[int, int],
        dilations: tuple[int, int] = (1, 1),
    ) -> tuple[int, ...]:
        """Top, left, bottom, right; under SAME an odd one goes after."""
        if operator.option("Padding") != _SAME:
            return (0, 0, 0, 0)
        totals = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
        ]
        before = [total // 2 for total in totals]
        return (*before, *(total - first for total, first in zip(totals, before, strict=True)))

    def pool(self, operator: Operator, op: str) -> None:
        """Append MAX_POOL_2D or AVERAGE_POOL_2D."""
        kernel = operator.option("FilterHeight", 1), operator.option("FilterWidth", 1)
        strides = operator.option("StrideH", 1), operator.option("StrideW", 1)
        pads = self.pads(operator, self.tensor(operator, 0).shape[1:3], kernel, strides)
        self.plain(operator, op, kernel_shape=kernel, strides=strides, pads=pads)

    def mean(self, operator: Operator) -> None:
        """Append MEAN over height and width."""
        if set(self.tensor(operator, 1).values or ()) != {1, 2}:
            raise UnsupportedError(
                f"{self.file.path}: operator {operator.index}: expected a MEAN over height and width"
            )
        self.plain(operator, "GlobalAveragePool")

    def resize(self, operator: Operator) -> None:
        """Append RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR."""
        _, height, width, channels = self.shape(operator)
        sizes = self.network.constant(
            f"{self.output(operator)}:sizes", np.array([1, channels, height, width], np.int64)
        )
        where = "asymmetric"
        if operator.option("HalfPixelCenters"):
            where = "half_pixel"
        elif operator.option("AlignCorners"):
            where = "align_corners"
        nearest = operator.name == "RESIZE_NEAREST_NEIGHBOR"
        attributes: dict[str, Any] = {"mode": "nearest" if nearest else "linear"}
        if nearest:
            attributes["nearest_mode"] = "floor" if where == "asymmetric" else "round_prefer_ceil"
        inputs = [self.read_input(operator, 0), "", "", sizes]
        self.network.add(
            "Resize", inputs, self.output(operator), coordinate_transformation_mode=where, **attributes
        )

    def pad(self, operator: Operator) -> None:
        """Append PAD with zeros, or MIRROR_PAD of one pixel, which repeats the border."""
        amounts = np.array(self.tensor(operator, 1).values or ())
        if amounts.size != 8 or (operator.name == "MIRROR_PAD" and amounts.max() > 1):
            raise UnsupportedError(
                f"{self.file.path}: operator {operator.index}: expected a {operator.name} of four dimensions"
            )
        pairs = amounts.reshape(4, 2)[list(_TO_CHANNELS_FIRST)]
        pads = self.network.constant(f"{self.output(operator)}:pads", pairs.T.reshape(-1).astype(np.int64))
        mode = "edge" if operator.name == "MIRROR_PAD" else "constant"
        self.network.add("Pad", [self.read_input(operator, 0), pads], self.output(operator), mode=mode)

    def depth_to_space(self, operator: Operator) -> None:
        """Append DEPTH_TO_SPACE."""
        block = self.shape(operator)[1] // self.tensor(operator, 0).shape[1]
        self.plain(operator, "DepthToSpace", blocksize=block, mode="DCR")

    def dequantize(self, operator: Operator) -> None:
        """A constant stored in half, or a trip back to real values, which is none here."""
        source = self.tensor(operator, 0)
        if source.is_constant:
            real = self.real(source)
            name = self.output(operator)
            self.network.constant(name, real.transpose(_TO_CHANNELS_FIRST) if real.ndim == 4 else real)
        else:
            self.names[operator.outputs[0]] = self.read_input(operator, 0)


def _concatenate(reader: _TfliteReader, operator: Operator) -> None:
    if operator.option("Axis") % 4 != 3:
        raise UnsupportedError(
            f"{reader.file.path}: operator {operator.index}: expected a concatenation of channels"
        )
    reader.plain(operator, "Concat", len(operator.inputs), axis=1)


_EMITTERS: dict[str, Callable[[_TfliteReader, Operator], object]] = {
    "CONV_2D": _TfliteReader.convolution,
    "DEPTHWISE_CONV_2D": _TfliteReader.convolution,
    "ADD": lambda r, o: r.plain(o, "Add", 2),
    "SUB": lambda r, o: r.plain(o, "Sub", 2),
    "MUL": lambda r, o: r.plain(o, "Mul", 2),
    "LOGISTIC": lambda r, o: r.plain(o, "Sigmoid"),
    "SOFTMAX": lambda r, o: r.plain(o, "Softmax", axis=1),
    "RELU": lambda r, o: r.plain(o, "Relu"),
    "RELU6": lambda r, o: r.relu6(r.read_input(o, 0), r.output(o)),
    "MEAN": _TfliteReader.mean,
    "MAX_POOL_2D": lambda r, o: r.pool(o, "MaxPool"),
    "AVERAGE_POOL_2D": lambda r, o: r.pool(o, "AveragePool"),
    "RESIZE_BILINEAR": _TfliteReader.resize,
    "RESIZE_NEAREST_NEIGHBOR": _TfliteReader.resize,
    "CONCATENATION": _concatenate,
    "PAD": _TfliteReader.pad,
    "MIRROR_PAD": _TfliteReader.pad,
    "DEPTH_TO_SPACE": _TfliteReader.depth_to_space,
    "QUANTIZE": lambda r, o: r.plain(o, "Identity"),
    "DEQUANTIZE": _TfliteReader.dequantize,
}
