"""What a `.tflite` file holds, read with the schema's own classes, and running one directly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FileTensor:
    """One tensor: `data` is None unless it is a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None
    scales: Array | None
    zero_points: Array | None
    axis: int


@dataclass(frozen=True)
class FileOperator:
    """One operator, with the indices of its tensors."""

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


class TfliteFile:
    """The only subgraph of a model, and its signature."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.identifier = data[4:8]
        self.raw = schema.Model.GetRootAs(data, 0)
        model = schema.ModelT.InitFromObj(self.raw)
        types = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
        names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
        (subgraph,) = model.subgraphs
        self.description = model.description.decode()
        self.inputs = tuple(int(index) for index in subgraph.inputs)
        self.outputs = tuple(int(index) for index in subgraph.outputs)
        self.tensors = [_tensor(tensor, types[tensor.type], model.buffers) for tensor in subgraph.tensors]
        codes = model.operatorCodes
        self.operators = [
            FileOperator(
                names[codes[operator.opcodeIndex].builtinCode],
                codes[operator.opcodeIndex].version,
                tuple(int(index) for index in operator.inputs),
                tuple(int(index) for index in operator.outputs),
                operator.builtinOptions,
            )
            for operator in subgraph.operators
        ]
        self.signatures = {
            signature.signatureKey.decode(): (
                {entry.name.decode(): entry.tensorIndex for entry in signature.inputs},
                {entry.name.decode(): entry.tensorIndex for entry in signature.outputs},
            )
            for signature in model.signatureDefs
        }

    def dtypes(self) -> set[str]:
        return {tensor.dtype for tensor in self.tensors}

    def names(self) -> list[str]:
        return [operator.name for operator in self.operators]

    def by_name(self, name: str) -> FileTensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def kernels(self) -> Iterator[tuple[FileOperator, FileTensor, FileTensor]]:
        """Every convolution with its kernel and its bias."""
        for operator in self.operators:
            if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
                yield operator, self.tensors[operator.inputs[1]], self.tensors[operator.inputs[2]]

    def buffer_positions(self) -> list[tuple[int, int]]:
        """Offset in the file and length of every buffer that is not empty."""
        found = []
        for index in range(self.raw.BuffersLength()):
            buffer = self.raw.Buffers(index)
            if buffer.DataLength():
                field = buffer._tab.Offset(4)
                found.append((buffer._tab.Vector(field), buffer.DataLength()))
        return found


def _tensor(tensor: Any, kind: str, buffers: list[Any]) -> FileTensor:
    data = buffers[tensor.buffer].data
    dtype = kind.lower()
    constant = None
    if data is not None and len(data):
        constant = np.asarray(data, np.uint8).tobytes()
        constant = np.frombuffer(constant, dtype).reshape(tuple(tensor.shape))
    quantization = tensor.quantization
    stored = quantization is not None and quantization.scale is not None
    return FileTensor(
        tensor.name.decode(),
        tuple(int(size) for size in tensor.shape),
        dtype,
        constant,
        np.asarray(quantization.scale) if stored else None,
        np.asarray(quantization.zeroPoint) if stored else None,
        int(quantization.quantizedDimension) if stored else 0,
    )


def interpreter(data: bytes, *, xnnpack: bool = True, threads: int = 1) -> Any:
    """A LiteRT interpreter that is ready to run."""
    from ai_edge_litert import interpreter as litert

    kind = litert.OpResolverType
    resolver = kind.AUTO if xnnpack else kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    made = litert.Interpreter(model_content=data, num_threads=threads, experimental_op_resolver_type=resolver)
    made.allocate_tensors()
    return made


def run(data: bytes, x: Array, *, xnnpack: bool = True, threads: int = 1) -> Array:
    """The only output for the only input."""
    made = interpreter(data, xnnpack=xnnpack, threads=threads)
    made.set_tensor(made.get_input_details()[0]["index"], x)
    made.invoke()
    return np.asarray(made.get_tensor(made.get_output_details()[0]["index"]))
