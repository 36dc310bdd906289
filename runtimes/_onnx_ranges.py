"""The ranges that an int8 ONNX file in QDQ form was calibrated to, read without the onnx package.

A board that runs TensorRT need not have it. Only the few fields of onnx.proto that tell are read
(field numbers as published there); sizes are checked before anything is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanonet_edge.errors import RuntimeFailure

_MAX_BYTES = 1 << 28
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP = 1, 2, 4
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_INTEGERS, _TENSOR_NAME, _TENSOR_RAW = 2, 4, 5, 8, 9
#: TensorProto.DataType -> NumPy.
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    4: np.dtype("<u2"),
    5: np.dtype("<i2"),
}
#: These hand values on unchanged, so their inputs have the range of their output.
_UNCHANGED = frozenset({"Identity", "Transpose"})


@dataclass(frozen=True)
class Range:
    """What a quantized tensor can hold, in real values, and how it is stored."""

    low: float
    high: float
    dtype: str
    zero_point: int

    @property
    def is_symmetric(self) -> bool:
        """Whether it is int8 around 0, the only form that TensorRT takes."""
        return self.dtype == "int8" and self.zero_point == 0


@dataclass
class _Node:
    op: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read_ranges(path: Path) -> dict[str, Range]:
    """The ranges of the tensors that QuantizeLinear takes, by name; empty for a file without any.

    Tensors before it that hold the same values, moved about, get the same range.

    Raises:
        RuntimeFailure: the file is no ONNX model, or a scale cannot be read.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise RuntimeFailure(f"{path}: expected at most {_MAX_BYTES} bytes of ONNX, found {size}")
    try:
        return dict(_ranges(path.read_bytes()))
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise RuntimeFailure(f"{path}: expected an ONNX model with readable scales: {error!r}") from error


def _ranges(model: bytes) -> Iterator[tuple[str, Range]]:
    (graph,) = (value for key, value in _fields(model) if key == _MODEL_GRAPH and isinstance(value, bytes))
    nodes: list[_Node] = []
    tensors: dict[str, bytes] = {}
    for key, value in _fields(graph):
        if key == _GRAPH_NODE and isinstance(value, bytes):
            nodes.append(_node(value))
        elif key == _GRAPH_INITIALIZER and isinstance(value, bytes):
            tensors[_name(value)] = value
    producers = {output: node for node in nodes for output in node.outputs}
    for node in nodes:
        if node.op != "QuantizeLinear":
            continue
        source, scale_name, zero_name = node.inputs
        scale, zero_point = _scalar(tensors[scale_name]), _scalar(tensors[zero_name])
        dtype = _DTYPES[_type(tensors[zero_name])]
        limits = np.iinfo(dtype)
        low, high = ((limit - zero_point) * scale for limit in (limits.min, limits.max))
        found = Range(float(low), float(high), dtype.name, int(zero_point))
        yield source, found
        seen = {source}
        while source in producers and producers[source].op in _UNCHANGED:
            source = producers[source].inputs[0]
            if source in seen:
                raise ValueError(f"{source} depends on itself")
            seen.add(source)
            yield source, found


def _node(data: bytes) -> _Node:
    node = _Node()
    for key, value in _fields(data):
        if isinstance(value, bytes) and key in (_NODE_INPUT, _NODE_OUTPUT, _NODE_OP):
            text = value.decode("utf-8")
            if key == _NODE_OP:
                node.op = text
            else:
                (node.inputs if key == _NODE_INPUT else node.outputs).append(text)
    return node


def _name(tensor: bytes) -> str:
    return next(
        value.decode("utf-8")
        for key, value in _fields(tensor)
        if key == _TENSOR_NAME and isinstance(value, bytes)
    )


def _type(tensor: bytes) -> int:
    return next(value for key, value in _fields(tensor) if key == _TENSOR_TYPE and isinstance(value, int))


def _scalar(tensor: bytes) -> float:
    """The only element of a tensor, wherever it is kept."""
    dtype = _DTYPES[_type(tensor)]
    for key, value in _fields(tensor):
        if key == _TENSOR_RAW and isinstance(value, bytes):
            return float(np.frombuffer(value, dtype).item())
        if key == _TENSOR_FLOATS and isinstance(value, bytes):
            return float(np.frombuffer(value, "<f4").item())
        if key == _TENSOR_INTEGERS:
            packed = next(_varints(value)) if isinstance(value, bytes) else value
            return float(packed - (1 << 64) if packed >= 1 << 63 else packed)
    raise ValueError("a scale or zero point without a value")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of one protobuf message, in order."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        if at + size > len(data):
            raise ValueError("a field that ends behind the file")
        yield tag >> 3, data[at : at + size]
        at += size


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("an integer without an end")
