"""An `.onnx` file as steps."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Final

from nanonet_edge.benchmarks.prediction.steps import Kind, Network, Passing, Step, Value, checked
from nanonet_edge.devices.files import printable
from nanonet_edge.errors import InputError
from nanonet_edge.extras import require

_PASSING: Final[dict[str, Passing]] = {
    "QuantizeLinear": "quantize",
    "DequantizeLinear": "quantize",
    "Relu": "activation",
    "Clip": "activation",
    "Identity": "rename",
    "Reshape": "rename",
    "Flatten": "rename",
    "Squeeze": "rename",
    "Unsqueeze": "rename",
    "Dropout": "rename",
}
#: Weighted sums, and where their kernel or second matrix is among the inputs.
_CONVOLUTIONS: Final = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS: Final = {"Gemm": 1, "MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 3}


def read_network(path: Path) -> Network:
    """Read an ONNX model's main graph; weights that lie in other files are not opened.

    Raises:
        InputError: it is no ONNX model, damaged, or has tensors whose size cannot be inferred.
        MissingExtraError: onnx is not installed.
    """
    onnx: Any = require("onnx")
    try:
        model = onnx.load(str(path), load_external_data=False)
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        values = _values(onnx, graph, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except InputError:
        raise
    # protobuf's DecodeError, onnx's InferenceError and others share no base but Exception.
    except Exception as error:  # noqa: BLE001
        raise InputError(f"{path}: expected an ONNX model, found {type(error).__name__}") from None
    steps = tuple(
        _step(index, node, values, path)
        for index, node in enumerate(graph.node)
        if node.op_type != "Constant"
    )
    constants = {initializer.name for initializer in graph.initializer}
    inputs = tuple(item.name for item in graph.input if item.name not in constants)
    return Network(path, "onnx", steps, values, inputs, tuple(item.name for item in graph.output))


def _values(onnx: Any, graph: Any, path: Path) -> dict[str, Value]:
    """Every tensor whose type is known, by name."""
    values = {}
    for item in (*graph.input, *graph.value_info, *graph.output):
        tensor = item.type.tensor_type
        if not tensor.HasField("shape"):
            continue
        shape = tuple(size.dim_value if size.HasField("dim_value") else -1 for size in tensor.shape.dim)
        values[item.name] = checked(Value(shape, _dtype(onnx, tensor.elem_type)), path, _text(item.name))
    constants = [(initializer.name, initializer) for initializer in graph.initializer]
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            constants += [(node.output[0], item.t) for item in node.attribute if item.name == "value"]
    for name, tensor in constants:
        value = checked(Value(tuple(tensor.dims), _dtype(onnx, tensor.data_type)), path, _text(name))
        values[name] = Value(value.shape, value.dtype, stored=value.nbytes)
    return values


def _dtype(onnx: Any, code: int) -> str:
    name = str(onnx.TensorProto.DataType.Name(code)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _text(name: str | bytes) -> str:
    """A name that can be printed; protobuf gives bytes for one that is no UTF-8."""
    return printable(name.decode("utf-8", "replace") if isinstance(name, bytes) else name)


def _step(index: int, node: Any, values: dict[str, Value], path: Path) -> Step:
    reads = tuple(name for name in node.input if name)
    writes = tuple(name for name in node.output if name)
    for name in (*reads, *writes):
        if name not in values:
            raise InputError(f"{path}: the size of tensor '{_text(name)}' is not known before it runs")
    if not reads or not writes:
        raise InputError(f"{path}: operator '{_text(node.op_type)}': expected inputs and outputs, found none")
    kind, macs = _cost(node, values, path)
    # Names are printed: no escape sequences reach a terminal.
    return Step(index, _text(node.name or writes[0]), _text(node.op_type), kind, reads, writes, macs)


def _cost(node: Any, values: dict[str, Value], path: Path) -> tuple[Kind | Passing, int]:
    inputs = [values[name] for name in node.input if name]
    result = next(values[name] for name in node.output if name)
    position = _CONVOLUTIONS.get(node.op_type) or _PRODUCTS.get(node.op_type)
    if node.op_type == "ConvTranspose":
        position = 1
    if position is None:
        return _PASSING.get(node.op_type, "move"), 0
    if len(inputs) <= position or not inputs[0].shape or len(inputs[position].shape) < 2:
        raise InputError(
            f"{path}: operator '{_text(node.op_type)}': expected a kernel of two dimensions or more"
        )
    kernel = inputs[position].shape
    if node.op_type == "ConvTranspose":
        return "conv", prod(inputs[0].shape) * prod(kernel[1:])
    if node.op_type in _CONVOLUTIONS:
        return _convolution_kind(inputs[0].shape, kernel), prod(result.shape) * prod(kernel[1:])
    inner = inputs[0].shape[-1]
    if any(item.name == "transA" and item.i for item in node.attribute):
        inner = inputs[0].shape[0]
    return "pointwise", prod(result.shape) * inner


def _convolution_kind(image: tuple[int, ...], kernel: tuple[int, ...]) -> Kind:
    if kernel[1] == 1 and len(image) > 1 and image[1] > 1:
        return "depthwise"
    return "pointwise" if prod(kernel[2:]) == 1 else "conv"
