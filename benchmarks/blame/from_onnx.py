"""An ONNX model in QDQ form as a `Network`: each pair of quantize and dequantize becomes a point."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from nanonet_edge.benchmarks.blame.network import Network, Storage
from nanonet_edge.errors import InputError, UnsupportedError
from nanonet_edge.extras import require

_MAX_BYTES = 1 << 30
#: Operations that may work on stored integers between the two halves of a pair.
_ON_STORED = frozenset(
    "Identity Transpose Reshape Squeeze Unsqueeze Flatten MaxPool Resize Concat Slice Pad".split()
)


def read_onnx(path: Path) -> Network:
    """Read an `.onnx` file.

    Raises:
        InputError: the file is missing, too large or no ONNX model.
        UnsupportedError: it is quantized in another form.
        MissingExtraError: onnx is not installed.
    """
    onnx: Any = require("onnx")
    # Without type information; onnx brings it.
    decode_error: Any = importlib.import_module("google.protobuf.message").DecodeError
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes; at most {_MAX_BYTES} are read")
        model = onnx.load_model_from_string(path.read_bytes())
        onnx.checker.check_model(model)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except (decode_error, onnx.checker.ValidationError, ValueError, TypeError) as error:
        raise InputError(f"{path}: expected an ONNX model, found {_first_line(error)}") from None
    return _OnnxReader(path, model).read()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class _OnnxReader:
    def __init__(self, path: Path, model: Any) -> None:
        self._path, self._graph = path, model.graph
        self._helper: Any = require("onnx.helper")
        numpy_helper: Any = require("onnx.numpy_helper")
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._graph.initializer}
        inputs = [value for value in self._graph.input if value.name not in constants]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise UnsupportedError(f"{path}: expected one input and one output")
        shape = tuple(size.dim_value for size in inputs[0].type.tensor_type.shape.dim)
        opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=1)
        self._network = Network(inputs[0].name, shape, opset=opset, constants=constants)
        #: Tensors that are read as they are, whatever else is made of them.
        self._read_exactly = {
            name for node in self._graph.node if node.op_type != "QuantizeLinear" for name in node.input
        }
        #: The tensor that a name of the file stands for, and whether in stored integers.
        self._alias: dict[str, str] = {}
        self._stored: set[str] = set()

    def read(self) -> Network:
        network = self._network
        for node in self._graph.node:
            if len(node.output) != 1 or node.domain not in ("", "ai.onnx"):
                raise UnsupportedError(
                    f"{self._path}: node '{node.name}': {node.domain}:{node.op_type} is not looked into:"
                    " expected an ONNX model in QDQ form"
                )
            attributes = {one.name: self._helper.get_attribute_value(one) for one in node.attribute}
            inputs, output = list(node.input), node.output[0]
            if node.op_type == "Constant" and "value" in attributes:
                numpy_helper: Any = require("onnx.numpy_helper")
                network.constants[output] = numpy_helper.to_array(attributes["value"])
            elif node.op_type == "QuantizeLinear":
                self._quantize(inputs, output)
            elif node.op_type == "DequantizeLinear":
                self._dequantize(inputs, output, int(attributes.get("axis", 1)))
            else:
                self._plain(node.op_type, inputs, output, attributes)
        last = self._graph.output[0].name
        network.output = self._alias.get(last, last)
        return network

    def _plain(self, op: str, inputs: list[str], output: str, attributes: dict[str, Any]) -> None:
        if any(name in self._stored for name in inputs):
            if op not in _ON_STORED:
                raise UnsupportedError(
                    f"{self._path}: {op} works on stored integers: expected an ONNX model in QDQ form"
                )
            self._stored.add(output)
            self._network.points[output] = self._network.points[self._tensor(inputs[0])]
        real = [self._tensor(name) for name in inputs]
        self._network.add(op, real, output, **attributes)
        if op == "Conv" and real[1] in self._network.scales:
            self._network.kernels[output] = (real[1], real[2] if len(real) > 2 else None)

    def _quantize(self, inputs: list[str], output: str) -> None:
        tensor, storage = self._tensor(inputs[0]), self._storage(inputs)
        if inputs[0] in self._read_exactly or self._network.points.setdefault(tensor, storage) != storage:
            # Stored for some of its readers alone, or anew in another way.
            tensor = self._network.add("Identity", [tensor], output)
            self._network.points[tensor] = storage
        self._alias[output] = tensor
        self._stored.add(output)

    def _dequantize(self, inputs: list[str], output: str, axis: int) -> None:
        constants = self._network.constants
        if inputs[0] in constants:
            stored = constants[inputs[0]]
            scale = self._constant(inputs[1]).astype(np.float32)
            zero = self._constant(inputs[2]) if len(inputs) > 2 else np.zeros_like(scale)
            if scale.size > 1:
                along = [-1 if i == axis % max(stored.ndim, 1) else 1 for i in range(stored.ndim)]
                scale, zero = scale.reshape(along), zero.reshape(along)
            if scale.size == 1 or (stored.ndim == 4 and axis % 4 == 0):
                self._network.scales[output] = np.broadcast_to(scale.reshape(-1), stored.shape[:1])
            constants[output] = (stored.astype(np.float32) - zero.astype(np.float32)) * scale
            return
        if inputs[0] == self._network.input:
            self._network.points[self._network.input] = self._storage(inputs)
        self._alias[output] = self._tensor(inputs[0])

    def _storage(self, inputs: list[str]) -> Storage:
        scale = self._constant(inputs[1])
        zero = self._constant(inputs[2]) if len(inputs) > 2 and inputs[2] else np.zeros((), np.uint8)
        if scale.size != 1 or zero.size != 1 or zero.dtype.kind not in "iu":
            raise UnsupportedError(
                f"{self._path}: tensor '{inputs[0]}': expected one integer scale for all of an activation"
            )
        return Storage.of(float(scale.reshape(-1)[0]), int(zero.reshape(-1)[0]), zero.dtype.name)

    def _constant(self, name: str) -> Any:
        try:
            return self._network.constants[name]
        except KeyError:
            raise UnsupportedError(
                f"{self._path}: '{name}': expected a constant scale and zero point"
            ) from None

    def _tensor(self, name: str) -> str:
        return self._alias.get(name, name)
