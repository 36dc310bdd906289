"""A `.tflite` file as steps."""

from __future__ import annotations

from pathlib import Path

from nanonet_edge.benchmarks.prediction.steps import Kind, Network, Passing, Step, Value, checked
from nanonet_edge.tflite_cost import multiply_accumulates
from nanonet_edge.tflite_file import ABSENT, Operator, TfliteFile, read_tflite

_KINDS: dict[str, Kind] = {
    "DEPTHWISE_CONV_2D": "depthwise",
    "FULLY_CONNECTED": "pointwise",
    "BATCH_MATMUL": "pointwise",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "pointwise",
    "TRANSPOSE_CONV": "conv",
}
#: They change how data is looked at, not the data.
_RENAMES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


def read_network(path: Path) -> Network:
    """Read a `.tflite` file's first subgraph.

    Raises:
        InputError: it is none, damaged, or has tensors of unknown size.
        MissingExtraError: ai-edge-litert, whose schema is used, is not installed.
    """
    file = read_tflite(path)
    values = {
        str(tensor.index): checked(
            Value(tensor.shape, tensor.dtype, tensor.data_bytes if tensor.is_constant else None),
            path,
            tensor.name,
        )
        for tensor in file.tensors
    }
    steps = tuple(
        Step(
            index=operator.index,
            name=_name(file, operator),
            op=operator.name,
            kind=_kind(file, operator),
            reads=tuple(str(index) for index in operator.inputs if index != ABSENT),
            writes=tuple(str(index) for index in operator.outputs if index != ABSENT),
            macs=multiply_accumulates(file, operator),
        )
        for operator in file.operators
    )
    inputs, outputs = (
        tuple(str(index) for index in indices if index != ABSENT) for indices in (file.inputs, file.outputs)
    )
    return Network(path, "tflite", steps, values, inputs, outputs)


def _name(file: TfliteFile, operator: Operator) -> str:
    result = file.output(operator)
    return operator.name if result is None else result.name


def _kind(file: TfliteFile, operator: Operator) -> Kind | Passing:
    if operator.name in _RENAMES:
        return "rename"
    if operator.name == "CONV_2D":
        kernel = file.input(operator, 1)
        return "pointwise" if kernel is not None and kernel.shape[1:3] == (1, 1) else "conv"
    return _KINDS.get(operator.name, "move")
