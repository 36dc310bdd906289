"""A rewritten graph as a `.tflite` model, at any precision, without TensorFlow.

Writing the file directly gives the one thing a converter takes away: every scale, zero point,
rounding and operator version is decided here, and is the same for every format.
Operator versions are the lowest that have the feature (tensorflow/lite/tools/versioning).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.export.quantization import Quantization, QuantizedWeights, boundary, quantize_weights
from nanonet_edge.export.tflite_flatbuffer import FlatbufferWriter
from nanonet_edge.graph import Graph, GraphError, Node
from nanonet_edge.variants import Precision

INPUT_NAME = "frame"
_DYNAMIC_MINIMUM_ELEMENTS = 1024

_FLOAT, _INT8, _INT16 = "float32", "int8", "int16"
#: operator -> version by activation dtype
_VERSIONS: dict[str, dict[str, int]] = {
    "CONV_2D": {_FLOAT: 1, _INT8: 3, _INT16: 4},
    "DEPTHWISE_CONV_2D": {_FLOAT: 1, _INT8: 3, _INT16: 5},
    "ADD": {_FLOAT: 1, _INT8: 2, _INT16: 3},
    "MUL": {_FLOAT: 1, _INT8: 2, _INT16: 4},
    "LOGISTIC": {_FLOAT: 1, _INT8: 2, _INT16: 3},
    "SOFTMAX": {_FLOAT: 1, _INT8: 2, _INT16: 3},
    "MEAN": {_FLOAT: 1, _INT8: 2, _INT16: 3},
    "RESIZE_BILINEAR": {_FLOAT: 3, _INT8: 3, _INT16: 4},
    "RESIZE_NEAREST_NEIGHBOR": {_FLOAT: 1, _INT8: 2, _INT16: 4},
    "MAX_POOL_2D": {_FLOAT: 1, _INT8: 2, _INT16: 3},
    "CONCATENATION": {_FLOAT: 1, _INT8: 2, _INT16: 3},
    "MIRROR_PAD": {_FLOAT: 1, _INT8: 2, _INT16: 3},
    "DEPTH_TO_SPACE": {_FLOAT: 1, _INT8: 2},
    "STRIDED_SLICE": {_FLOAT: 1, _INT8: 2, _INT16: 4},
    "GREATER": {_FLOAT: 1, _INT8: 2},
    "ARG_MAX": {_FLOAT: 1, _INT8: 2},
}
_HYBRID_CONV_VERSION = 5
_ACTIVATIONS = {"none": "NONE", "relu": "RELU", "relu6": "RELU6"}


def is_dynamic(node: Node) -> bool:
    """Whether dynamic_wi8 stores a node's kernel in int8.

    Depthwise and small kernels stay in float: they weigh little and rounding them costs most.
    """
    return node.op == "conv2d" and node.weights["kernel"].size >= _DYNAMIC_MINIMUM_ELEMENTS


class TfliteWriter:
    """Writes one model.

    Args:
        graph: rewritten; batch is fixed to 1.
        precision: of weights and activations.
        plan: how each tensor is stored, for static precisions.
        input_dtype: of the model's input, and of its output where that is quantized.
    """

    def __init__(
        self,
        graph: Graph,
        precision: Precision,
        *,
        plan: dict[str, Quantization] | None = None,
        input_dtype: str = "float32",
    ) -> None:
        if precision.is_static != (plan is not None):
            raise ValueError(
                f"{precision} {'needs' if precision.is_static else 'takes no'} quantization plan"
            )
        self._graph, self._precision, self._plan = graph, precision, plan or {}
        self._shapes = graph.shapes()
        self._file = FlatbufferWriter(f"nanonet-edge {precision}")
        self._schema = self._file.schema
        self._tensors: dict[str, int] = {}
        self._input_dtype = input_dtype
        self._dtype = {Precision.STATIC_WI8_AI8: _INT8, Precision.STATIC_WI8_AI16: _INT16}.get(
            precision, _FLOAT
        )

    def build(self) -> bytes:
        """The file's bytes."""
        entry = self._entry()
        for node in self._graph.nodes[1:]:
            self.write(node)
        output = self._exit()
        return self._file.finish({INPUT_NAME: entry}, {self._graph.output: output})

    def write(self, node: Node) -> None:
        """Append what a node comes to.

        Raises:
            GraphError: its operation has no TFLite form.
        """
        emit = _EMITTERS.get(node.op)
        if emit is None:
            raise GraphError(f"node '{node.name}': {node.op} has no TFLite form: rewrite the graph first")
        emit(self, node)

    def _entry(self) -> int:
        name = self._graph.input.name
        inner = self._plan.get(name)
        if self._input_dtype == self._dtype:
            self._tensors[name] = self._activation(name, public=INPUT_NAME)
            return self._tensors[name]
        outer = boundary(inner, self._input_dtype) if inner and self._input_dtype != _FLOAT else None
        shape = (1, *self._shapes[name])
        entry = self._file.tensor(INPUT_NAME, shape, self._input_dtype, **_scales(outer))
        self._tensors[name] = self._activation(name)
        if inner is None:
            # Raw pixels into a float graph whose first kernels have the scaling in them.
            self._file.operator(
                "CAST", 1, [entry], self._tensors[name], "CastOptions",
                inDataType=self._schema.TensorType.UINT8, outDataType=self._schema.TensorType.FLOAT32,
            )  # fmt: skip
        else:
            self._requantize(entry, self._input_dtype, self._tensors[name], self._dtype)
        return entry

    def _exit(self) -> int:
        name = self._graph.output
        inner = self._plan.get(name)
        if inner is None or self._input_dtype == self._dtype:
            return self._tensors[name]
        outer = boundary(inner, self._input_dtype) if self._input_dtype != _FLOAT else None
        shape = (1, *self._shapes[name])
        public = self._file.tensor(f"{name}_{self._input_dtype}", shape, self._input_dtype, **_scales(outer))
        self._requantize(self._tensors[name], self._dtype, public, self._input_dtype)
        return public

    def _requantize(self, source: int, source_dtype: str, target: int, target_dtype: str) -> None:
        if target_dtype == _FLOAT:
            self._file.operator("DEQUANTIZE", 3 if source_dtype == _INT16 else 2, [source], target)
        else:
            self._file.operator(
                "QUANTIZE", 1 if source_dtype == _FLOAT and target_dtype == _INT8 else 2, [source], target
            )

    def _activation(self, name: str, public: str | None = None) -> int:
        shape = (1, *self._shapes[name])
        return self._file.tensor(public or name, shape, self._dtype, **_scales(self._plan.get(name)))

    def emit(
        self, node: Node, op: str, extra: list[int] | None = None, options: str | None = None, **fields: Any
    ) -> None:
        """Append `op` for `node`: its tensor inputs first, then the constants in `extra`."""
        inputs = [self._tensors[name] for name in node.inputs] + (extra or [])
        self._tensors[node.name] = self._activation(node.name)
        version = fields.pop("version", None) or _VERSIONS[op][self._dtype]
        self._file.operator(op, version, inputs, self._tensors[node.name], options, **fields)

    def fused(self, node: Node) -> int:
        """The schema's number for the node's fused activation."""
        return int(getattr(self._schema.ActivationFunctionType, _ACTIVATIONS[node.activation]))

    def convolution(self, node: Node) -> None:
        """Append CONV_2D or DEPTHWISE_CONV_2D."""
        depthwise = node.op == "depthwise_conv2d"
        multiplier = node.weights["kernel"].shape[3]
        weights, version = self._weights(node)
        padding = str(node.attributes.get("padding", "same")).upper()
        fields: dict[str, Any] = {
            "padding": getattr(self._schema.Padding, padding),
            "strideW": node.strides,
            "strideH": node.strides,
            "fusedActivationFunction": self.fused(node),
        }
        if node.dilation > 1:
            fields |= {"dilationWFactor": node.dilation, "dilationHFactor": node.dilation}
        if depthwise:
            fields["depthMultiplier"] = multiplier
            self.emit(node, "DEPTHWISE_CONV_2D", weights, "DepthwiseConv2DOptions", version=version, **fields)
        else:
            self.emit(node, "CONV_2D", weights, "Conv2DOptions", version=version, **fields)

    def _weights(self, node: Node) -> tuple[list[int], int | None]:
        """Tensors of kernel and bias, and the operator version if it differs from the table's."""
        if self._precision.is_static:
            return self._static_weights(node), None
        kernel = _tflite_kernel(node, node.weights["kernel"])
        if self._precision is Precision.FP16:
            return [
                self._half(f"{node.name}_kernel", kernel),
                self._half(f"{node.name}_bias", node.bias),
            ], None
        # Engines want a bias even where it is all zeros.
        bias = self._file.constant(f"{node.name}_bias", node.bias)
        if self._precision is Precision.DYNAMIC_WI8 and is_dynamic(node):
            return [self._int8_kernel(node, quantize_weights(node)), bias], _HYBRID_CONV_VERSION
        return [self._file.constant(f"{node.name}_kernel", kernel), bias], None

    def _static_weights(self, node: Node) -> list[int]:
        scale = self._plan[node.inputs[0]].scale
        quantized = quantize_weights(node, scale)
        # 16-bit activations accumulate in 64 bits, and their biases are stored so.
        dtype = "int64" if self._dtype == _INT16 else "int32"
        data = quantized.bias.astype(dtype)
        scales = np.float32(scale) * quantized.scales
        return [
            self._int8_kernel(node, quantized),
            self._file.tensor(f"{node.name}_bias", data.shape, dtype, scales=scales, data=data),
        ]

    def _int8_kernel(self, node: Node, quantized: QuantizedWeights) -> int:
        kernel = _tflite_kernel(node, quantized.kernel)
        axis = 3 if node.op == "depthwise_conv2d" else 0
        return self._file.tensor(
            f"{node.name}_kernel", kernel.shape, "int8", scales=quantized.scales, axis=axis, data=kernel
        )

    def _half(self, name: str, array: npt.NDArray[np.float32]) -> int:
        """A float16 constant and the DEQUANTIZE that engines fold away at load."""
        half = self._file.constant(f"{name}_half", array.astype(np.float16))
        full = self._file.tensor(name, array.shape, "float32")
        self._file.operator("DEQUANTIZE", 3, [half], full)
        return full

    def upsample(self, node: Node) -> None:
        """Append RESIZE_BILINEAR with half-pixel centres, or RESIZE_NEAREST_NEIGHBOR."""
        size = np.array(self._shapes[node.name][:2], np.int32)
        constant = self._file.constant(f"size_{size[0]}x{size[1]}", size)
        if node.op == "upsample_nearest":
            self.emit(node, "RESIZE_NEAREST_NEIGHBOR", [constant], "ResizeNearestNeighborOptions")
            return
        self.emit(
            node,
            "RESIZE_BILINEAR",
            [constant],
            "ResizeBilinearOptions",
            alignCorners=False,
            halfPixelCenters=True,
        )

    def max_pool(self, node: Node) -> None:
        """Append MAX_POOL_2D."""
        sizes = dict.fromkeys(("strideW", "strideH", "filterWidth", "filterHeight"), 2)
        self.emit(node, "MAX_POOL_2D", None, "Pool2DOptions", padding=self._schema.Padding.VALID, **sizes)

    def concat(self, node: Node) -> None:
        """Append CONCATENATION, which copies: what is stored otherwise than the output is requantized."""
        kept = {name: self._tensors[name] for name in node.inputs}
        quantization = self._plan.get(node.name)
        for name, stored in kept.items():
            if self._plan.get(name) != quantization:
                shape = (1, *self._shapes[name])
                again = f"{name}_for_{node.name}"
                self._tensors[name] = self._file.tensor(again, shape, self._dtype, **_scales(quantization))
                self._requantize(stored, self._dtype, self._tensors[name], self._dtype)
        self.emit(node, "CONCATENATION", None, "ConcatenationOptions", axis=3)
        self._tensors.update(kept)

    def crop(self, node: Node) -> None:
        """Append STRIDED_SLICE with strides of 1."""
        top, left, height, width = (node.attributes[key] for key in ("top", "left", "height", "width"))
        begin = (0, top, left, 0)
        end = (1, top + height, left + width, self._shapes[node.name][-1])
        constants = [
            self._file.constant(f"corner_{'_'.join(map(str, values))}", np.array(values, np.int32))
            for values in (begin, end, (1, 1, 1, 1))
        ]
        self.emit(node, "STRIDED_SLICE", constants, "StridedSliceOptions")

    def join(self, node: Node) -> None:
        """Append CONCATENATION along rows or columns; all parts are stored alike."""
        self.emit(node, "CONCATENATION", None, "ConcatenationOptions", axis=1 + node.attributes["axis"])

    def column_mean(self, node: Node) -> None:
        """Append MEAN over height alone."""
        axes = self._file.constant("row_axis", np.array([1], np.int32))
        self.emit(node, "MEAN", [axes], "ReducerOptions", keepDims=True)

    def global_mean(self, node: Node) -> None:
        """Append MEAN over height and width."""
        axes = self._file.constant("spatial_axes", np.array([1, 2], np.int32))
        self.emit(node, "MEAN", [axes], "ReducerOptions", keepDims=bool(node.attributes["keepdims"]))

    def add(self, node: Node) -> None:
        """Append ADD."""
        fields = {"potScaleInt16": False} if self._dtype == _INT16 else {}
        self.emit(node, "ADD", None, "AddOptions", fusedActivationFunction=self.fused(node), **fields)

    def edge_pad(self, node: Node) -> None:
        """Append MIRROR_PAD: a symmetric border of one pixel is the border repeated."""
        pads = self._file.constant("edge_pads", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
        mode = self._schema.MirrorPadMode.SYMMETRIC
        self.emit(node, "MIRROR_PAD", [pads], "MirrorPadOptions", mode=mode)

    def mask(self, node: Node) -> None:
        """Append GREATER than zero, or ARG_MAX, and a CAST to uint8."""
        source, types = node.inputs[0], self._schema.TensorType
        shape = (1, *self._shapes[node.name])
        logits, dtype, quantization = self._tensors[source], self._dtype, self._plan.get(source)
        if dtype == _INT16:
            # Neither comparison has a 16-bit kernel in every engine.
            logits = self._file.tensor(f"{source}_real", (1, *self._shapes[source]), _FLOAT)
            self._requantize(self._tensors[source], dtype, logits, _FLOAT)
            dtype, quantization = _FLOAT, None
        if self._shapes[source][-1] == 1:
            stored = np.array([quantization.zero_point if quantization else 0], dtype)
            zero = self._file.tensor("zero", (1,), dtype, data=stored, **_scales(quantization))
            labels = self._file.tensor(f"{node.name}_labels", shape, "bool")
            self._file.operator(
                "GREATER", _VERSIONS["GREATER"][dtype], [logits, zero], labels, "GreaterOptions"
            )
            found = types.BOOL
        else:
            labels = self._file.tensor(f"{node.name}_labels", shape[:-1], "int32")
            axis = self._file.constant("channel_axis", np.array([3], np.int32))
            self._file.operator(
                "ARG_MAX",
                _VERSIONS["ARG_MAX"][dtype],
                [logits, axis],
                labels,
                "ArgMaxOptions",
                outputType=types.INT32,
            )
            found, shape = types.INT32, shape[:-1]
        self._tensors[node.name] = self._file.tensor(node.name, shape, "uint8")
        self._file.operator(
            "CAST",
            1,
            [labels],
            self._tensors[node.name],
            "CastOptions",
            inDataType=found,
            outDataType=types.UINT8,
        )


def _scales(quantization: Quantization | None) -> dict[str, Any]:
    if quantization is None:
        return {}
    return {"scales": quantization.scale, "zero_points": quantization.zero_point}


def _tflite_kernel(node: Node, kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(out, kh, kw, in) for a convolution; (1, kh, kw, channels x multiplier) for a depthwise one."""
    if node.op == "depthwise_conv2d":
        return kernel.reshape(1, *kernel.shape[:2], -1)
    return kernel.transpose(3, 0, 1, 2)


_EMITTERS: dict[str, Callable[[TfliteWriter, Node], None]] = {
    "conv2d": TfliteWriter.convolution,
    "depthwise_conv2d": TfliteWriter.convolution,
    "upsample_bilinear": TfliteWriter.upsample,
    "upsample_nearest": TfliteWriter.upsample,
    "max_pool": TfliteWriter.max_pool,
    "concat": TfliteWriter.concat,
    "crop": TfliteWriter.crop,
    "join": TfliteWriter.join,
    "column_mean": TfliteWriter.column_mean,
    "global_mean": TfliteWriter.global_mean,
    "add": TfliteWriter.add,
    "edge_pad": TfliteWriter.edge_pad,
    "mask": TfliteWriter.mask,
    "multiply": lambda w, node: w.emit(node, "MUL", None, "MulOptions"),
    "sigmoid": lambda w, node: w.emit(node, "LOGISTIC"),
    "softmax": lambda w, node: w.emit(node, "SOFTMAX", None, "SoftmaxOptions", beta=1.0),
    "depth_to_space": lambda w, node: w.emit(
        node, "DEPTH_TO_SPACE", None, "DepthToSpaceOptions", blockSize=2
    ),
}
