"""Which operators the Edge TPU compiler maps, and its words for why not.

Sources:

* [docs]: coral.ai/docs/edgetpu/models-intro, "Model requirements" and the table of supported
  operations for compiler 16 (runtime 14).
* [#n]: what users and maintainers reported in github.com/google-coral/edgetpu/issues/n.
* [TF 2.5]: the operator versions that TensorFlow Lite 2.5 registers, which compiler 16 reads.

The documentation leaves sizes open ("might not be mapped"). Where reports bracket such a limit,
the largest size that was seen to map is taken as the limit, so an unknown size is never promised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

from nanonet_edge.tflite_file import Operator, Tensor, TfliteFile

#: The compiler's statuses, word for word. [#342, #512, #75, #420]
MAPPED = "Mapped to Edge TPU"
SUBGRAPH = "More than one subgraph is not supported"
NOT_SUPPORTED = "Operation not supported"
VERSION = "Operation version not supported"
DATA_TYPE = "Operation is working on an unsupported data type"
RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
LIMITATION = "Operation is otherwise supported, but not mapped due to some unspecified limitation"

_NO_ACTIVATION = 0
_INNERMOST = 3
#: Softmax: "Supports only 1-D input tensor with a max of 16,000 elements". [docs]
_SOFTMAX_ELEMENTS = 16_000
#: Mean over so many positions was mapped (64x128), four times as many were not (256x128). [#461]
MEAN_POSITIONS = 64 * 128
#: Resizes to 128x128 were mapped; to 256x256 [#187] and 512x512 [#31] they were not.
RESIZE_POSITIONS = 128 * 128


@dataclass(frozen=True)
class Verdict:
    """`status` is the compiler's wording; `detail` says what it refers to, "" where it is mapped."""

    status: str
    detail: str = ""

    @property
    def is_supported(self) -> bool:
        """Whether the operator would be mapped if all before it are."""
        return self.status == MAPPED


#: Gives what is wrong with an operator, or None.
Check = Callable[[TfliteFile, Operator], str | None]


@dataclass(frozen=True)
class _Rule:
    """`parameters` are the positions of inputs that are int32 by nature and must be constants."""

    max_version: int
    checks: tuple[Check, ...] = ()
    parameters: frozenset[int] = field(default_factory=frozenset)


def judge(file: TfliteFile, operator: Operator) -> Verdict:
    """What the compiler would say about one operator by itself."""
    rule = None if operator.is_custom else _RULES.get(operator.name)
    wrong = _data_type(file, operator, rule)
    if wrong is not None:
        # A QUANTIZE from or to float is the exception: the compiler's log words it like this.
        return Verdict(LIMITATION if operator.name == "QUANTIZE" else DATA_TYPE, wrong)
    if rule is None:
        return Verdict(NOT_SUPPORTED, f"{operator.name} is not among the supported operations")
    if operator.version > rule.max_version:
        return Verdict(VERSION, f"version {operator.version}; up to {rule.max_version} is known")
    wrong = _rank(file, operator, rule)
    if wrong is not None:
        return Verdict(RANK, wrong)
    for check in (_static, _constant_parameters, *rule.checks):
        wrong = check(file, operator)
        if wrong is not None:
            return Verdict(LIMITATION, wrong)
    return Verdict(MAPPED)


def _activations(file: TfliteFile, operator: Operator, rule: _Rule | None) -> list[Tensor]:
    """What flows through an operator: its outputs, and its inputs that are not parameters."""
    parameters = rule.parameters if rule is not None else frozenset[int]()
    inputs = (file.input(operator, i) for i in range(len(operator.inputs)) if i not in parameters)
    flowing = [tensor for tensor in inputs if tensor is not None]
    return [*flowing, *file.output_tensors(operator)]


def _data_type(file: TfliteFile, operator: Operator, rule: _Rule | None) -> str | None:
    for tensor in _activations(file, operator, rule):
        # Operators without a rule may have parameters that nobody told us of.
        is_parameter = rule is None and tensor.is_constant and tensor.dtype.startswith("int")
        if tensor.dtype not in ("int8", "uint8") and not is_parameter:
            return f"tensor '{tensor.name}' is {tensor.dtype}, expected int8 or uint8"
    return None


def _rank(file: TfliteFile, operator: Operator, rule: _Rule) -> str | None:
    for tensor in _activations(file, operator, rule):
        # Kernels have four dimensions by nature: only what flows counts.
        if not tensor.is_constant and prod(tensor.shape[:-_INNERMOST]) > 1:
            return f"tensor '{tensor.name}' is {_shape(tensor)}"
    return None


def _static(file: TfliteFile, operator: Operator) -> str | None:
    for tensor in (*file.input_tensors(operator), *file.output_tensors(operator)):
        if not tensor.is_static:
            return f"the size of tensor '{tensor.name}' is not known before it runs: {_shape(tensor)}"
    return None


def _constant_parameters(file: TfliteFile, operator: Operator) -> str | None:
    for position in _RULES[operator.name].parameters:
        tensor = file.input(operator, position)
        if tensor is not None and not tensor.is_constant and not tensor.is_variable:
            return f"input {position}, '{tensor.name}', is computed; it must be known at compile time"
    return None


def _no_activation(_file: TfliteFile, operator: Operator) -> str | None:
    fused = operator.option("FusedActivationFunction", _NO_ACTIVATION)
    return None if fused == _NO_ACTIVATION else "it has a fused activation function"


def _same_dilation(_file: TfliteFile, operator: Operator) -> str | None:
    x, y = operator.option("DilationWFactor", 1), operator.option("DilationHFactor", 1)
    return None if x == y else f"dilation {x} in x and {y} in y; they must be the same"


def _constant_weights(file: TfliteFile, operator: Operator) -> str | None:
    weights = file.input(operator, 1)
    return None if weights is not None and weights.is_constant else "its weights are computed"


def _fully_connected(file: TfliteFile, operator: Operator) -> str | None:
    if operator.option("WeightsFormat"):
        return "its weights are shuffled; only the default format is supported"
    result = file.output(operator)
    if result is not None and not _is_one_dimensional(result):
        return f"its output is {_shape(result)}; it must be one-dimensional"
    return None


def _concatenation(file: TfliteFile, operator: Operator) -> str | None:
    inputs = file.input_tensors(operator)
    constants = [tensor for tensor in inputs if tensor.is_constant]
    if constants and len(inputs) != 2:
        return f"a constant among {len(inputs)} inputs; there may be two then"
    if not all(file.means_zero(tensor) for tensor in constants):
        return "a constant input that is not all zeros"
    return None


def _reduction(file: TfliteFile, operator: Operator) -> str | None:
    return _not_over_batch(file, operator, _axes(file, operator))


def _mean(file: TfliteFile, operator: Operator) -> str | None:
    source, axes = file.input(operator, 0), _axes(file, operator)
    if source is None:
        return "it has no input"
    wrong = _not_over_batch(file, operator, axes)
    if wrong is not None:
        return wrong
    channel = len(source.shape) - 1
    if channel in axes and source.shape[channel] % 4:
        return f"it averages {source.shape[channel]} channels; their number must be a multiple of 4"
    positions = prod(source.shape[axis] for axis in axes if axis != channel)
    if positions > MEAN_POSITIONS:
        return f"it averages {positions} positions; up to {MEAN_POSITIONS} are known to map"
    return None


def _pad(file: TfliteFile, operator: Operator) -> str | None:
    source, paddings = file.input(operator, 0), file.input(operator, 1)
    if source is None or paddings is None or paddings.values is None:
        return "its paddings are not known"
    padded = [axis for axis in range(len(source.shape)) if any(paddings.values[2 * axis : 2 * axis + 2])]
    return _not_over_batch(file, operator, padded)


def _pack(file: TfliteFile, operator: Operator) -> str | None:
    result = file.output(operator)
    rank = 0 if result is None else len(result.shape)
    axis = operator.option("Axis")
    return "it packs in the batch dimension" if axis in (0, -rank) else None


def _split(file: TfliteFile, operator: Operator) -> str | None:
    axis, source = file.input(operator, 0), file.input(operator, 1)
    if axis is None or source is None or not axis.values:
        return "its axis is not known"
    return _not_over_batch(file, operator, [axis.values[0] % max(len(source.shape), 1)], position=1)


def _transpose(file: TfliteFile, operator: Operator) -> str | None:
    source, order = file.input(operator, 0), file.input(operator, 1)
    if source is None or order is None or not order.values:
        return "its permutation is not known"
    moves_batch = len(source.shape) > _INNERMOST and order.values[0] != 0
    return "it moves the batch dimension" if moves_batch else None


def _prelu(file: TfliteFile, operator: Operator) -> str | None:
    alpha = file.input(operator, 1)
    if alpha is None or not alpha.is_constant:
        return "its alpha is not known"
    return None if prod(alpha.shape[:-1]) == 1 else f"its alpha is {_shape(alpha)}; only channels may differ"


def _softmax(file: TfliteFile, operator: Operator) -> str | None:
    source = file.input(operator, 0)
    if source is None or not _is_one_dimensional(source):
        return f"its input is {'missing' if source is None else _shape(source)}; it must be one-dimensional"
    if source.elements > _SOFTMAX_ELEMENTS:
        return f"it has {source.elements} elements; at most {_SOFTMAX_ELEMENTS} are supported"
    return None


def _strided_slice(file: TfliteFile, operator: Operator) -> str | None:
    strides = file.input(operator, 3)
    if strides is None or strides.values is None:
        return "its strides are not known"
    if any(stride != 1 for stride in strides.values):
        return f"strides {list(strides.values)}; all must be 1"
    if operator.option("EllipsisMask") or operator.option("NewAxisMask"):
        return "it has an ellipsis mask or a new-axis mask"
    return None


def _transposed(file: TfliteFile, operator: Operator) -> str | None:
    """Kernels no larger than their stride (1x1 and 2x2 with stride 2) failed, see #64, #509, #684."""
    kernel = file.input(operator, 1)
    strides = operator.option("StrideH", 1), operator.option("StrideW", 1)
    if kernel is None or len(kernel.shape) != 4:
        return "its kernel must have four dimensions"
    sides = kernel.shape[1:3]
    if max(strides) > 1 and any(side <= stride for side, stride in zip(sides, strides, strict=True)):
        return f"a {sides[0]}x{sides[1]} kernel with stride {max(strides)} is reported to fail"
    return None


def _resize(file: TfliteFile, operator: Operator) -> str | None:
    """Both resizes: of one image, up to a size to which precision is kept."""
    source, result = file.input(operator, 0), file.output(operator)
    if source is None or result is None or len(source.shape) != 4 or len(result.shape) != 4:
        return "its input and output must be height x width x channels of one image"
    if operator.option("AlignCorners") and operator.option("HalfPixelCenters"):
        return "align_corners and half_pixel_centers exclude each other"
    if result.shape[1] * result.shape[2] > RESIZE_POSITIONS:
        return (
            f"to {result.shape[1]}x{result.shape[2]}; up to 128x128 is known to map, "
            "beyond it depends on the size"
        )
    return None


def _resize_bilinear(file: TfliteFile, operator: Operator) -> str | None:
    """Samples a whole fraction of a pixel apart; a single pixel leaves nothing to interpolate."""
    wrong = _resize(file, operator)
    if wrong is not None:
        return wrong
    source, result = file.input(operator, 0), file.output(operator)
    assert source is not None and result is not None  # noqa: S101, PT018 - _resize has seen them
    corner = 1 if operator.option("AlignCorners") else 0
    for before, after in zip(source.shape[1:3], result.shape[1:3], strict=True):
        if before == after:
            continue
        steps, unit = after - corner, before - corner
        if before <= 1 or steps % unit:
            return f"from {before} to {after} pixels is no whole factor: it would lose precision"
    return None


def _not_over_batch(file: TfliteFile, operator: Operator, axes: list[int], position: int = 0) -> str | None:
    """The first of four dimensions is the batch; smaller tensors have none."""
    source = file.input(operator, position)
    if source is not None and len(source.shape) > _INNERMOST and 0 in axes:
        return "it works on the batch dimension"
    return None


def _axes(file: TfliteFile, operator: Operator) -> list[int]:
    """The axes of a reduction, counted from the front; none that the input does not have."""
    source, axes = file.input(operator, 0), file.input(operator, 1)
    if source is None or axes is None or axes.values is None:
        return []
    rank = len(source.shape)
    return sorted({axis % rank for axis in axes.values}) if rank else []


def _is_one_dimensional(tensor: Tensor) -> bool:
    return sum(size != 1 for size in tensor.shape) <= 1


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _at(*positions: int) -> frozenset[int]:
    return frozenset(positions)


_ELEMENTWISE = {
    "ADD": 3,
    "SUB": 3,
    "MUL": 4,
    "MAXIMUM": 4,
    "MINIMUM": 4,
    "SQUARED_DIFFERENCE": 2,
    "LOGISTIC": 3,
    "TANH": 3,
    "RELU": 3,
    "RELU6": 3,
    "RELU_N1_TO_1": 1,
    "RSQRT": 2,
    "L2_NORMALIZATION": 2,
    "QUANTIZE": 3,
    "SPACE_TO_DEPTH": 2,
}
_CONVOLUTION = (_same_dilation, _constant_weights)

#: TFLite's name -> its rule: the highest version of [TF 2.5], the limits of [docs].
_RULES: dict[str, _Rule] = {
    **{name: _Rule(version) for name, version in _ELEMENTWISE.items()},
    "CONV_2D": _Rule(5, _CONVOLUTION, _at(2)),
    "DEPTHWISE_CONV_2D": _Rule(6, _CONVOLUTION, _at(2)),
    "TRANSPOSE_CONV": _Rule(3, (_constant_weights, _transposed), _at(0, 3)),
    "FULLY_CONNECTED": _Rule(8, (_constant_weights, _fully_connected), _at(2)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Rule(3, (), frozenset(range(9, 24))),
    "AVERAGE_POOL_2D": _Rule(3, (_no_activation,)),
    "MAX_POOL_2D": _Rule(3, (_no_activation,)),
    "MEAN": _Rule(2, (_mean,), _at(1)),
    "SUM": _Rule(2, (_reduction,), _at(1)),
    "REDUCE_MAX": _Rule(2, (_reduction,), _at(1)),
    "REDUCE_MIN": _Rule(2, (_reduction,), _at(1)),
    "CONCATENATION": _Rule(3, (_no_activation, _concatenation)),
    "PAD": _Rule(3, (_pad,), _at(1)),
    "PACK": _Rule(3, (_pack,)),
    "SPLIT": _Rule(4, (_split,), _at(0)),
    "SLICE": _Rule(3, (), _at(1, 2)),
    "STRIDED_SLICE": _Rule(4, (_strided_slice,), _at(1, 2, 3)),
    "RESHAPE": _Rule(1, (), _at(1)),
    "SQUEEZE": _Rule(2),
    "EXPAND_DIMS": _Rule(1, (), _at(1)),
    "TRANSPOSE": _Rule(4, (_transpose,), _at(1)),
    "PRELU": _Rule(1, (_prelu,)),
    "SOFTMAX": _Rule(3, (_softmax,)),
    "RESIZE_BILINEAR": _Rule(3, (_resize_bilinear,), _at(1)),
    "RESIZE_NEAREST_NEIGHBOR": _Rule(3, (_resize,), _at(1)),
}
