"""A graph of the intermediate form as an ONNX model.

Channels first inside, as every ONNX engine wants it. The opset is the oldest that has what a
NanoNet needs, so that JetPack 4's TensorRT 8.2 reads the file as well as today's onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.contract import Layout
from nanonet_edge.export.quantization import Quantization, boundary, quantize_weights
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph, GraphError, Node, zero_padding

if TYPE_CHECKING:
    import onnx

OPSET = 13
IR_VERSION = 8
INPUT_NAME = "frame"


class OnnxWriter:
    """Builds the nodes and initializers of one model.

    Args:
        graph: the network; batch is fixed to 1.
        layout: of the input; "nhwc" puts one Transpose at the entry, "nchw" none.
        input_dtype: "float32", or "uint8" for raw pixels (cast at the entry).
        half: store weights and compute in float16; input and output stay float32.
        plan: how each tensor is stored; with one, the model is int8 in QDQ form.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        layout: Layout = "nhwc",
        input_dtype: str = "float32",
        half: bool = False,
        plan: Mapping[str, Quantization] | None = None,
    ) -> None:
        self._onnx = require("onnx")
        self._helper: Any = require("onnx.helper")
        self._graph = graph
        self._shapes = graph.shapes()
        self._layout = layout
        self._input_dtype = np.dtype(input_dtype)
        self._float = np.dtype(np.float16 if half else np.float32)
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._plan = plan or {}
        self._values: dict[str, str] = {}

    def build(self) -> onnx.ModelProto:
        """The checked model, with the shape of every tensor written into it."""
        helper, graph = self._helper, self._graph
        height, width, channels = self._shapes[graph.input.name]
        shape = (1, height, width, channels) if self._layout == "nhwc" else (1, channels, height, width)
        inputs = [helper.make_tensor_value_info(INPUT_NAME, self._type(self._input_dtype), shape)]
        self._entry(graph.input.name)
        for node in graph.nodes[1:]:
            emit = _EMITTERS.get(node.op)
            if emit is None:
                raise GraphError(f"node '{node.name}': {node.op} has no ONNX form: rewrite the graph first")
            emit(self, node)
            self._store(node.name)
        output = self._exit(graph.output)
        proto = helper.make_graph(self._nodes, "nanonet", inputs, [output], list(self._initializers.values()))
        model = helper.make_model(
            proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="nanonet-edge"
        )
        model.ir_version = IR_VERSION
        self._onnx.checker.check_model(model, full_check=True)
        inferred: onnx.ModelProto = self._onnx.shape_inference.infer_shapes(
            model, strict_mode=True, data_prop=True
        )
        return inferred

    def _entry(self, name: str) -> None:
        source = INPUT_NAME
        if self._layout == "nhwc":
            self.add("Transpose", [source], f"{name}_nchw", perm=(0, 3, 1, 2))
            source = f"{name}_nchw"
        if self._input_dtype.kind in "iu" and self._plan:
            outer = boundary(self._plan[name], self._input_dtype.name)
            self._values[name] = self._dequantize(source, outer)
            if outer != self._plan[name]:
                # A convolution between a signed and an unsigned tensor would run in float.
                self.add("Identity", [self._values[name]], name)
                self._store(name)
            return
        if self._input_dtype != self._float:
            self.add("Cast", [source], f"{name}_cast", to=self._type(self._float))
            source = f"{name}_cast"
        self.add("Identity", [source], name)
        self._store(name)

    def _store(self, name: str) -> None:
        """Quantize a tensor that was just computed, where the plan says so."""
        quantization = self._plan.get(name)
        self._values[name] = name
        if quantization is None:
            return
        parameters = self._parameters(f"{name}_scale", quantization)
        self.add("QuantizeLinear", [name, *parameters], f"{name}_quantized")
        self._values[name] = self._dequantize(f"{name}_quantized", quantization)

    def _dequantize(self, source: str, quantization: Quantization) -> str:
        target = f"{source}_real"
        self.add("DequantizeLinear", [source, *self._parameters(f"{source}_scale", quantization)], target)
        return target

    def _parameters(self, name: str, quantization: Quantization) -> list[str]:
        zero_point = np.array(quantization.zero_point, quantization.dtype)
        return [
            self.exact_constant(name, np.array(quantization.scale, np.float32)),
            self.exact_constant(f"{name}_zero", zero_point),
        ]

    def read(self, node: Node) -> list[str]:
        """The ONNX names of a node's inputs."""
        return [self._values[name] for name in node.inputs]

    def _exit(self, name: str) -> Any:
        """Give the output its public name and dtype."""
        height, width, classes = self._shapes[name]
        last, dtype = self._last(name)
        self._rename(last, name)
        used = {source for node in self._nodes for source in node.input}
        self._initializers = {n: tensor for n, tensor in self._initializers.items() if n in used}
        return self._helper.make_tensor_value_info(name, self._type(dtype), (1, classes, height, width))

    def _last(self, name: str) -> tuple[str, np.dtype[Any]]:
        """The tensor that leaves the model, in the dtype in which it leaves."""
        if self._graph[name].op == "mask":
            return name, np.dtype(np.uint8)
        if self._plan and self._input_dtype.kind in "iu":
            outer = boundary(self._plan[name], self._input_dtype.name)
            source = self._values[name]
            if outer == self._plan[name]:
                # The quantized form is the output; the trip back to real values is not needed.
                del self._nodes[-2:]
                source = name
            parameters = self._parameters(f"{name}_stored_scale", outer)
            return self.add("QuantizeLinear", [source, *parameters], f"{name}_stored"), self._input_dtype
        last, dtype = self._values[name], np.dtype(np.float32)
        if self._float != dtype:
            last = self.add("Cast", [last], f"{name}_float32", to=self._type(dtype))
        return last, dtype

    def _rename(self, last: str, public: str) -> None:
        """Let the tensor that leaves the model bear the public name, and the one inside another."""
        if last == public:
            return
        names = {public: f"{public}_computed", last: public}
        for node in self._nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]

    def _type(self, dtype: npt.DTypeLike) -> int:
        return int(self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append one ONNX node and return the name of its output."""
        self._nodes.append(self._helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer (once) and return its name; floating point takes the model's dtype."""
        if name not in self._initializers:
            stored = array.astype(self._float) if array.dtype.kind == "f" else array
            numpy_helper: Any = require("onnx.numpy_helper")
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(stored), name)
        return name

    def exact_constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """The same without changing the dtype."""
        numpy_helper: Any = require("onnx.numpy_helper")
        self._initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def activated(self, node: Node, op: str, inputs: list[str], **attributes: Any) -> None:
        """Append `op` and then the node's fused activation."""
        if node.activation == "none" or self._saturates(node):
            self.add(op, inputs, node.name, **attributes)
            return
        self.add(op, inputs, f"{node.name}_linear", **attributes)
        self.activate(node.activation, f"{node.name}_linear", node.name)

    def _saturates(self, node: Node) -> bool:
        """Whether quantizing the output clips it just as the fused activation does."""
        quantization = self._plan.get(node.name)
        if quantization is None or quantization.zero_point != np.iinfo(quantization.dtype).min:
            return False
        return node.activation == "relu" or quantization.scale * 255 <= 6 * (1 + 1e-6)

    def activate(self, activation: str, source: str, target: str) -> None:
        """Append a ReLU or a ReLU6."""
        if activation == "relu":
            self.add("Relu", [source], target)
        else:
            limits = [self.constant(f"clip_{v}", np.array(v, np.float32)) for v in (0, 6)]
            self.add("Clip", [source, *limits], target)

    def convolution(self, node: Node) -> None:
        """Append a Conv, grouped for a depthwise one."""
        kernel, groups = node.weights["kernel"], 1
        rows, columns = zero_padding(node, *self._shapes[node.inputs[0]][:2])
        if node.op == "depthwise_conv2d":
            groups = kernel.shape[2]
            kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
        inputs = [
            *self.read(node),
            *(
                self._quantized_weights(node, groups)
                if self._in_integers(node)
                else self._weights(node, kernel)
            ),
        ]
        self.activated(
            node,
            "Conv",
            inputs,
            kernel_shape=kernel.shape[:2],
            strides=(node.strides, node.strides),
            pads=(rows[0], columns[0], rows[1], columns[1]),
            group=groups,
            **({"dilations": (node.dilation, node.dilation)} if node.dilation > 1 else {}),
        )

    def _in_integers(self, node: Node) -> bool:
        """Whether a convolution's weights are stored in integers."""
        del node
        return bool(self._plan)

    def _weights(self, node: Node, kernel: npt.NDArray[np.float32]) -> list[str]:
        names = [self.constant(f"{node.name}_kernel", kernel.transpose(3, 2, 0, 1))]
        if "bias" in node.weights:
            names.append(self.constant(f"{node.name}_bias", node.weights["bias"]))
        return names

    def _quantized_weights(self, node: Node, groups: int) -> list[str]:
        """Integer kernel and bias, each with the DequantizeLinear that engines fuse away."""
        scale = self._plan[node.inputs[0]].scale
        weights = quantize_weights(node, scale)
        kernel = weights.kernel if groups == 1 else weights.kernel.reshape(*weights.kernel.shape[:2], 1, -1)
        return [
            self._constant_real(f"{node.name}_kernel", kernel.transpose(3, 2, 0, 1), weights.scales),
            self._constant_real(
                f"{node.name}_bias", weights.bias.astype(np.int32), np.float32(scale) * weights.scales
            ),
        ]

    def _constant_real(self, name: str, stored: npt.NDArray[Any], scales: npt.NDArray[np.float32]) -> str:
        inputs = [
            self.exact_constant(name, np.ascontiguousarray(stored)),
            self.exact_constant(f"{name}_scale", scales),
            self.exact_constant(f"{name}_zero", np.zeros(len(scales), stored.dtype)),
        ]
        return self.add("DequantizeLinear", inputs, f"{name}_real", axis=0)

    def upsample(self, node: Node) -> None:
        """Append a Resize by two."""
        scales = self.exact_constant("scales_2", np.array([1, 1, 2, 2], np.float32))
        if node.op == "upsample_nearest":
            self.add(
                "Resize",
                [*self.read(node), "", scales],
                node.name,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
            return
        self.add(
            "Resize",
            [*self.read(node), "", scales],
            node.name,
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )

    def edge_pad(self, node: Node) -> None:
        """Append a Pad that repeats the border."""
        pads = self.exact_constant("edge_pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
        self.add("Pad", [*self.read(node), pads], node.name, mode="edge")

    def mask(self, node: Node) -> None:
        """Append a comparison with zero, or an arg-max, and a Cast to uint8."""
        (source,) = self.read(node)
        if self._shapes[node.inputs[0]][-1] == 1:
            zero = self.constant("zero", np.array(0, np.float32))
            self.add("Greater", [source, zero], f"{node.name}_labels")
        else:
            self.add("ArgMax", [source], f"{node.name}_labels", axis=1, keepdims=1)
        self.add("Cast", [f"{node.name}_labels"], node.name, to=self._type(np.uint8))


def _plain(op: str, **attributes: Any) -> Callable[[OnnxWriter, Node], object]:
    return lambda writer, node: writer.add(op, writer.read(node), node.name, **attributes)


_EMITTERS: dict[str, Callable[[OnnxWriter, Node], object]] = {
    "conv2d": OnnxWriter.convolution,
    "depthwise_conv2d": OnnxWriter.convolution,
    "upsample_bilinear": OnnxWriter.upsample,
    "upsample_nearest": OnnxWriter.upsample,
    "max_pool": _plain("MaxPool", kernel_shape=(2, 2), strides=(2, 2)),
    "edge_pad": OnnxWriter.edge_pad,
    "mask": OnnxWriter.mask,
    "add": lambda writer, node: writer.activated(node, "Add", writer.read(node)),
    "relu": lambda writer, node: writer.activate("relu", writer.read(node)[0], node.name),
    "relu6": lambda writer, node: writer.activate("relu6", writer.read(node)[0], node.name),
    "sigmoid": _plain("Sigmoid"),
    "softmax": _plain("Softmax", axis=1),
    "multiply": _plain("Mul"),
    "concat": _plain("Concat", axis=1),
    "global_mean": _plain("GlobalAveragePool"),
    "depth_to_space": _plain("DepthToSpace", blocksize=2, mode="DCR"),
}


def build_onnx(
    graph: Graph,
    *,
    layout: Layout = "nhwc",
    input_dtype: str = "float32",
    half: bool = False,
    plan: Mapping[str, Quantization] | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a rewritten graph; see `OnnxWriter`.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    return OnnxWriter(graph, layout=layout, input_dtype=input_dtype, half=half, plan=plan).build()
