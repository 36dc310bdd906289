"""What the operators of a `.tflite` file cost: weighted sums, parameters, memory."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from nanonet_edge.cost import peak_alive
from nanonet_edge.tflite_file import Operator, Tensor, TfliteFile

#: Where an operator keeps its weights, biases and other learned numbers among its inputs. Other
#: constants are axes, sizes and shapes: what to do, not what was learned.
_LEARNED: dict[str, range] = {
    "CONV_2D": range(1, 3),
    "DEPTHWISE_CONV_2D": range(1, 3),
    "FULLY_CONNECTED": range(1, 3),
    "TRANSPOSE_CONV": range(1, 4),
    "PRELU": range(1, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": range(1, 24),
    "ADD": range(2),
    "SUB": range(2),
    "MUL": range(2),
    "MAXIMUM": range(2),
    "MINIMUM": range(2),
    "BATCH_MATMUL": range(2),
    "GATHER": range(1),
    "EMBEDDING_LOOKUP": range(1, 2),
}
#: TRANSPOSE_CONV's input; its first is the size of its output.
_TRANSPOSED_INPUT = 2


def multiply_accumulates(file: TfliteFile, operator: Operator) -> int:
    """Multiply-accumulate operations (MACs) of one operator, those of its weighted sums.

    Counted as `nanonet_edge.cost` counts a graph's: biases, activations, additions, resizes and
    pooling are left out, windows that hang over the border count whole. 0 for everything else,
    and where shapes make no sense.
    """
    source, weights, result = file.input(operator, 0), file.input(operator, 1), file.output(operator)
    if source is None or weights is None or result is None:
        return 0
    if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _positions(result) * weights.elements
    if operator.name == "TRANSPOSE_CONV":
        source = file.input(operator, _TRANSPOSED_INPUT)
        return 0 if source is None else _positions(source) * weights.elements
    if operator.name == "FULLY_CONNECTED":
        return result.elements * _last(weights)
    if operator.name == "BATCH_MATMUL":
        return result.elements * _last(source)
    if operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        matrices = [tensor for tensor in learned(file, operator) if len(tensor.shape) > 1]
        return _positions(source) * sum(tensor.elements for tensor in matrices)
    return 0


def learned(file: TfliteFile, operator: Operator) -> list[Tensor]:
    """The constants that an operator computes with: weights and biases."""
    found = (file.input(operator, position) for position in _LEARNED.get(operator.name, ()))
    return [tensor for tensor in found if tensor is not None and tensor.is_constant]


def parameters(file: TfliteFile, operator: Operator) -> int:
    """Number of learned values of an operator; values that several share count for each."""
    return sum(tensor.elements for tensor in learned(file, operator))


def parameter_bytes(file: TfliteFile, operators: Iterable[Operator]) -> int:
    """Stored size in bytes of what the operators learned; a shared buffer counts once."""
    buffers = {tensor.buffer: tensor.data_bytes for op in operators for tensor in learned(file, op)}
    return sum(buffers.values())


def peak_activations(file: TfliteFile, operators: Iterable[Operator]) -> tuple[int, int | None]:
    """Most bytes of activations alive at once while the operators run in their order.

    See `nanonet_edge.cost.peak_alive`.

    Returns:
        That many bytes, and the index of the operator during which they are alive (None for no
        operators).
    """
    ordered = list(operators)
    sizes = {tensor.index: tensor.nbytes for tensor in file.tensors if not tensor.is_constant}
    peak, at = peak_alive([(operator.inputs, operator.outputs) for operator in ordered], sizes)
    return peak, None if at is None else ordered[at].index


def _positions(tensor: Tensor) -> int:
    """Number of pixels, time steps or rows: all dimensions but the last."""
    return prod(abs(size) for size in tensor.shape[:-1])


def _last(tensor: Tensor) -> int:
    return abs(tensor.shape[-1]) if tensor.shape else 1
