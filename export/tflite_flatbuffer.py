"""The bytes of a `.tflite` file: tensors, buffers and operators, and nothing about networks.

Uses the schema classes that ai-edge-litert ships. Buffers are aligned to 16 bytes, as the
schema's `force_align` asks for and the generated Python classes do not do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.extras import require

FILE_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_ALIGNMENT = 16

_TENSOR_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


class FlatbufferWriter:
    """Collects the parts of one model with a single subgraph."""

    def __init__(self, description: str) -> None:
        self.schema: Any = require("ai_edge_litert.schema_py_generated")
        self._description = description
        self._buffers: list[npt.NDArray[np.uint8] | None] = [None]
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple[Any, ...], int] = {}

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        *,
        scales: npt.ArrayLike | None = None,
        zero_points: npt.ArrayLike | None = None,
        axis: int = 0,
        data: npt.NDArray[Any] | None = None,
    ) -> int:
        """Add a tensor and return its index; with `data` it is a constant."""
        tensor = self.schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = list(shape)
        tensor.type = getattr(self.schema.TensorType, _TENSOR_TYPES[dtype])
        tensor.buffer = 0
        if data is not None:
            tensor.buffer = len(self._buffers)
            self._buffers.append(np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8))
        if scales is not None:
            quantization = self.schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.asarray(scales, np.float32))
            points = np.zeros(len(quantization.scale)) if zero_points is None else zero_points
            quantization.zeroPoint = np.atleast_1d(np.asarray(points, np.int64))
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, name: str, data: npt.NDArray[Any]) -> int:
        """Add an unquantized constant; the same values under the same name are stored once."""
        key = (name, data.dtype.str, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self.tensor(name, data.shape, data.dtype.name, data=data)
        return self._constants[key]

    def operator(
        self, op: str, version: int, inputs: list[int], output: int, options: str | None = None, **fields: Any
    ) -> None:
        """Add an operator, such as ``("CONV_2D", 3, [...], out, "Conv2DOptions", strideW=1, ...)``."""
        schema = self.schema
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(getattr(schema.BuiltinOperator, op), version)
        operator.inputs = inputs
        operator.outputs = [output]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in fields.items():
                if not hasattr(operator.builtinOptions, name):
                    raise AttributeError(f"{options} has no field '{name}'")
                setattr(operator.builtinOptions, name, value)
        self._operators.append(operator)

    def _code(self, builtin: int, version: int) -> int:
        return self._codes.setdefault((builtin, version), len(self._codes))

    def finish(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        """The file's bytes, with a `serving_default` signature naming inputs and outputs."""
        flatbuffers: Any = require("flatbuffers")
        schema = self.schema
        subgraph = schema.SubGraphT()
        subgraph.name = b"main"
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs = list(inputs.values())
        subgraph.outputs = list(outputs.values())
        signature = schema.SignatureDefT()
        signature.signatureKey = b"serving_default"
        signature.subgraphIndex = 0
        signature.inputs = [self._signature_entry(*item) for item in inputs.items()]
        signature.outputs = [self._signature_entry(*item) for item in outputs.items()]
        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = self._description.encode()
        model.operatorCodes = [self._operator_code(*key) for key in self._codes]
        model.subgraphs = [subgraph]
        model.signatureDefs = [signature]
        model.buffers = [_aligned_buffer(schema, data) for data in self._buffers]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _signature_entry(self, name: str, tensor: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name = name.encode()
        entry.tensorIndex = tensor
        return entry

    def _operator_code(self, builtin: int, version: int) -> Any:
        code = self.schema.OperatorCodeT()
        code.builtinCode = builtin
        # Readers from before 2020 know only this field; 127 sends newer ones to builtinCode.
        code.deprecatedBuiltinCode = min(builtin, 127)
        code.version = version
        return code


def _aligned_buffer(schema: Any, data: npt.NDArray[np.uint8] | None) -> Any:
    class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> int:  # noqa: N802 (the generated classes' name)
            if data is None:
                schema.BufferStart(builder)
                return int(schema.BufferEnd(builder))
            builder.StartVector(1, data.size, _ALIGNMENT)
            builder.head -= data.size
            builder.Bytes[builder.head : builder.head + data.size] = data.tobytes()
            vector = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, vector)
            return int(schema.BufferEnd(builder))

    return AlignedBuffer()
