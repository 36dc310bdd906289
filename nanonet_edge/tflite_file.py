"""What a `.tflite` file holds: its operators, tensors and constants, whoever wrote it.

Nothing is trusted. Offsets are checked by the reads themselves, every index against what it
points into, and the work is bounded by the file's size: vectors that overlap, which would let a
small file describe an endless one, run out of that allowance. Weights are never copied.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import InputError
from nanonet_edge.extras import require

IDENTIFIER = b"TFL3"
#: An operator input that is left out.
ABSENT = -1

#: The format's own limit is 2 GiB; networks for the edge are a hundredth of this.
MAX_FILE_BYTES = 1 << 30
#: Constants of up to so many elements are read as numbers: axes, sizes, paddings.
_MAX_VALUES = 64
#: What is read may come to so many times the file: sharing of small vectors is legitimate.
_ALLOWANCE = 4

_DTYPES = {
    "float32": np.float32,
    "float16": np.float16,
    "float64": np.float64,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "bool": np.bool_,
}

#: Options that a rule or a cost asks for: union member -> accessors of the schema's class.
_POSITION = ("StrideW", "StrideH", "DilationWFactor", "DilationHFactor")
_ACTIVATION = ("FusedActivationFunction",)
_INTERPOLATION = ("AlignCorners", "HalfPixelCenters")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "Conv2DOptions": (*_POSITION, "Padding", *_ACTIVATION),
    "DepthwiseConv2DOptions": (*_POSITION, "Padding", *_ACTIVATION),
    "AddOptions": _ACTIVATION,
    "MulOptions": _ACTIVATION,
    "TransposeConvOptions": ("StrideW", "StrideH"),
    "Pool2DOptions": ("FilterWidth", "FilterHeight", "StrideW", "StrideH", "Padding", *_ACTIVATION),
    "FullyConnectedOptions": ("WeightsFormat", *_ACTIVATION),
    "ConcatenationOptions": ("Axis", *_ACTIVATION),
    "ResizeBilinearOptions": _INTERPOLATION,
    "ResizeNearestNeighborOptions": _INTERPOLATION,
    "StridedSliceOptions": ("EllipsisMask", "NewAxisMask"),
    "PackOptions": ("Axis",),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    `shape` may hold -1 for a size that is only known at run time. `data_bytes` is the size of
    its stored data, 0 unless it is a constant; `values` are a small integer constant's numbers.
    Quantized ones have `scales`, several along `axis` where each channel has its own.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    data_bytes: int
    is_variable: bool
    values: tuple[int, ...] | None
    zero_points: tuple[int, ...]
    scales: tuple[float, ...] = ()
    axis: int = 0

    @property
    def is_constant(self) -> bool:
        """Whether its values are stored in the file."""
        return self.data_bytes > 0

    @property
    def is_static(self) -> bool:
        """Whether its size is known before it runs."""
        return all(size >= 0 for size in self.shape)

    @property
    def elements(self) -> int:
        """Number of elements; sizes unknown before it runs count as 1."""
        return prod(abs(size) for size in self.shape)

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes; a type without a NumPy counterpart counts one byte each."""
        dtype = _DTYPES.get(self.dtype)
        return self.elements * (1 if dtype is None else np.dtype(dtype).itemsize)


@dataclass(frozen=True)
class Operator:
    """One operator: `name` is TFLite's, or the custom operator's own.

    `inputs` and `outputs` are indices of tensors; an input that is left out is `ABSENT`.
    """

    index: int
    name: str
    is_custom: bool
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int] = field(default_factory=dict)

    def option(self, name: str, default: int = 0) -> int:
        """The value of an option as the schema spells it, such as ``"StrideW"``."""
        return self.options.get(name, default)


@dataclass(frozen=True)
class TfliteFile:
    """A model's first subgraph, the one that runs; operators stand in the order of execution."""

    path: Path
    description: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int
    _data: tuple[npt.NDArray[np.uint8], ...] = field(repr=False, compare=False)
    #: Buffer -> the byte that it consists of, if it is only one; looked at when asked for.
    _uniform: dict[int, int | None] = field(default_factory=dict, repr=False, compare=False)

    def input(self, operator: Operator, position: int) -> Tensor | None:
        """The tensor at that position of the operator's inputs, or None where there is none."""
        return self._at(operator.inputs, position)

    def output(self, operator: Operator, position: int = 0) -> Tensor | None:
        """The tensor at that position of the operator's outputs, or None where there is none."""
        return self._at(operator.outputs, position)

    def input_tensors(self, operator: Operator) -> list[Tensor]:
        """The operator's inputs in order, those left out aside."""
        return [self.tensors[index] for index in operator.inputs if index != ABSENT]

    def output_tensors(self, operator: Operator) -> list[Tensor]:
        """The operator's outputs in order."""
        return [self.tensors[index] for index in operator.outputs if index != ABSENT]

    def array(self, tensor: Tensor) -> npt.NDArray[Any]:
        """A constant's stored numbers, in its own shape and dtype; a view.

        Raises:
            InputError: its data does not fill its shape, or its type has no NumPy counterpart.
        """
        dtype, raw = _DTYPES.get(tensor.dtype), self._data[tensor.buffer]
        if dtype is None or not tensor.is_static or len(raw) != tensor.nbytes:
            raise InputError(
                f"{self.path}: tensor '{tensor.name}': expected {tensor.nbytes} bytes for shape"
                f" {list(tensor.shape)} of {tensor.dtype}, found {len(raw)}"
            )
        return raw.view(dtype).reshape(tensor.shape)

    def means_zero(self, tensor: Tensor) -> bool:
        """Whether a constant is all zeros, in the quantized sense where it is quantized."""
        if not tensor.is_constant:
            return False
        if tensor.buffer not in self._uniform:
            raw = self._data[tensor.buffer]
            self._uniform[tensor.buffer] = int(raw[0]) if np.all(raw == raw[0]) else None
        zero = tensor.zero_points[0] if tensor.zero_points else 0
        return self._uniform[tensor.buffer] == (zero % 256 if tensor.dtype in ("int8", "uint8") else 0)

    def _at(self, indices: Sequence[int], position: int) -> Tensor | None:
        if position >= len(indices) or indices[position] == ABSENT:
            return None
        return self.tensors[indices[position]]


def read_tflite(path: Path) -> TfliteFile:
    """Read a `.tflite` file.

    Raises:
        InputError: the file is missing, too large, no TFLite model, or damaged.
        MissingExtraError: ai-edge-litert, whose schema this uses, is not installed.
    """
    schema: Any = require("ai_edge_litert.schema_py_generated")
    data = _read_bytes(path)
    if data[4:8] != IDENTIFIER:
        raise InputError(
            f"{path}: not a .tflite file: expected the identifier TFL3 at byte 4, found {data[4:8]!r}"
        )
    try:
        return _Reader(schema, path, data).read()
    except InputError:
        raise
    # What the generated classes and struct raise when an offset leads out of the file.
    except (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InputError(f"{path}: damaged .tflite file: {error}") from None


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(
            f"{path}: expected a .tflite file, found {'a folder' if path.is_dir() else 'nothing'}"
        )
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path}: {size} bytes; at most {MAX_FILE_BYTES} are read")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


class _Reader:
    """Reads one file through the schema's accessors, which compute nothing ahead."""

    def __init__(self, schema: Any, path: Path, data: bytes) -> None:
        self.schema = schema
        self.path = path
        self.data = data
        self.left = _ALLOWANCE * len(data)
        self.types = _names(schema.TensorType)
        self.builtins = _names(schema.BuiltinOperator)
        self.unions = _names(schema.BuiltinOptions)

    def read(self) -> TfliteFile:
        model = self.schema.Model.GetRootAs(self.data, 0)
        subgraphs = self.spend(model.SubgraphsLength(), "subgraphs")
        if subgraphs == 0:
            raise ValueError("no subgraph")
        graph = model.Subgraphs(0)
        buffers = tuple(
            self.buffer(model.Buffers(i)) for i in range(self.spend(model.BuffersLength(), "buffers"))
        )
        codes = [
            self.code(model.OperatorCodes(i))
            for i in range(self.spend(model.OperatorCodesLength(), "operator codes"))
        ]
        count = self.spend(graph.TensorsLength(), "tensors")
        tensors = tuple(self.tensor(i, graph.Tensors(i), buffers) for i in range(count))
        operators = tuple(
            self.operator(i, graph.Operators(i), codes, count)
            for i in range(self.spend(graph.OperatorsLength(), "operators"))
        )
        _check_order(operators)
        return TfliteFile(
            path=self.path,
            description=self.text(model.Description()),
            tensors=tensors,
            operators=operators,
            inputs=self.indices(graph.InputsAsNumpy(), count, "an input of the graph"),
            outputs=self.indices(graph.OutputsAsNumpy(), count, "an output of the graph"),
            subgraphs=subgraphs,
            _data=buffers,
        )

    def spend(self, count: int, what: str, each: int = 4) -> int:
        """Take `count` things of `each` bytes from what may be read; the rest of the file is the limit."""
        self.left -= count * each
        if count * each > len(self.data) or self.left < 0:
            raise ValueError(f"{count} {what} do not fit into {len(self.data)} bytes")
        return count

    def text(self, raw: bytes | None) -> str:
        raw = raw or b""
        self.spend(len(raw), "characters", 1)
        # Names are printed: no escape sequences reach a terminal.
        return "".join(one if one.isprintable() else "\ufffd" for one in raw.decode("utf-8", "replace"))

    def integers(self, vector: Any, what: str) -> tuple[int, ...]:
        if isinstance(vector, int):  # the accessor's word for "not there"
            return ()
        self.spend(len(vector), what)
        return tuple(int(value) for value in vector)

    def indices(self, vector: Any, count: int, what: str) -> tuple[int, ...]:
        found = self.integers(vector, "indices")
        for index in found:
            if not ABSENT <= index < count:
                raise ValueError(f"{what} is tensor {index} of {count}")
        return found

    def buffer(self, buffer: Any) -> npt.NDArray[np.uint8]:
        # Files beyond 2 GiB keep data behind the flatbuffer; 0 and 1 mean "not there".
        if buffer.Offset() > 1:
            start, end = buffer.Offset(), buffer.Offset() + buffer.Size()
            if end > len(self.data):
                raise ValueError(f"a buffer ends at byte {end} of {len(self.data)}")
            self.spend(buffer.Size(), "bytes of data", 1)
            return np.frombuffer(self.data, np.uint8)[start:end]
        if not buffer.DataLength():
            return np.empty(0, np.uint8)
        self.spend(buffer.DataLength(), "bytes of data", 1)
        stored: npt.NDArray[np.uint8] = buffer.DataAsNumpy()
        return stored

    def code(self, code: Any) -> tuple[str, bool, int]:
        # Writers from before 2020 know only the deprecated field; later ones leave 127 there.
        builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        custom = builtin == self.schema.BuiltinOperator.CUSTOM
        name = self.text(code.CustomCode()) if custom else self.builtins.get(builtin, f"BUILTIN_{builtin}")
        return name or "CUSTOM", custom, code.Version()

    def tensor(self, index: int, tensor: Any, buffers: tuple[npt.NDArray[np.uint8], ...]) -> Tensor:
        shape = self.integers(tensor.ShapeAsNumpy(), "dimensions")
        if any(size < -1 for size in shape):
            raise ValueError(f"tensor {index} has the shape {list(shape)}")
        buffer = tensor.Buffer()
        if buffer >= len(buffers):
            raise ValueError(f"tensor {index} has its data in buffer {buffer} of {len(buffers)}")
        dtype = self.types.get(tensor.Type(), f"type {tensor.Type()}").lower()
        quantization = tensor.Quantization()
        zero_points: tuple[int, ...] = ()
        scales: tuple[float, ...] = ()
        axis = 0
        if quantization is not None:
            if quantization.ZeroPointLength():
                zero_points = (int(quantization.ZeroPoint(0)),)
            count = self.spend(quantization.ScaleLength(), "scales")
            scales = tuple(float(quantization.Scale(i)) for i in range(count))
            axis = int(quantization.QuantizedDimension())
        return Tensor(
            index=index,
            name=self.text(tensor.Name()),
            shape=shape,
            dtype=dtype,
            buffer=buffer,
            data_bytes=len(buffers[buffer]),
            is_variable=bool(tensor.IsVariable()),
            values=_values(dtype, buffers[buffer]),
            zero_points=zero_points,
            scales=scales,
            axis=axis,
        )

    def operator(
        self, index: int, operator: Any, codes: list[tuple[str, bool, int]], tensors: int
    ) -> Operator:
        opcode = operator.OpcodeIndex()
        if opcode >= len(codes):
            raise ValueError(f"operator {index} has the operator code {opcode} of {len(codes)}")
        name, custom, version = codes[opcode]
        return Operator(
            index=index,
            name=name,
            is_custom=custom,
            version=version,
            inputs=self.indices(operator.InputsAsNumpy(), tensors, f"an input of operator {index}"),
            outputs=self.indices(operator.OutputsAsNumpy(), tensors, f"an output of operator {index}"),
            options=self.options(operator),
        )

    def options(self, operator: Any) -> dict[str, int]:
        union = self.unions.get(operator.BuiltinOptionsType(), "")
        table = operator.BuiltinOptions()
        if table is None or union not in _OPTIONS:
            return {}
        view = getattr(self.schema, union)()
        view.Init(table.Bytes, table.Pos)
        return {accessor: int(getattr(view, accessor)()) for accessor in _OPTIONS[union]}


def _names(enumeration: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _values(dtype: str, raw: npt.NDArray[np.uint8]) -> tuple[int, ...] | None:
    """The numbers of a small int32 or int64 constant: parameters of an operator."""
    if dtype not in ("int32", "int64") or not 0 < len(raw) <= 8 * _MAX_VALUES:
        return None
    if len(raw) % np.dtype(dtype).itemsize:
        return None
    return tuple(int(value) for value in raw.view(dtype))


def _check_order(operators: tuple[Operator, ...]) -> None:
    """Refuse a graph that no order of execution satisfies: cycles, and tensors written twice."""
    writer: dict[int, int] = {}
    for operator in operators:
        for index in operator.outputs:
            if index in writer:
                raise ValueError(f"operators {writer[index]} and {operator.index} both write tensor {index}")
            if index != ABSENT:
                writer[index] = operator.index
    for operator in operators:
        for index in operator.inputs:
            if writer.get(index, ABSENT) >= operator.index:
                raise ValueError(
                    f"operator {operator.index} reads tensor {index}, which operator {writer[index]} "
                    "has yet to write"
                )
