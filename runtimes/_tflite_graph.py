"""Reading what a TFLite interpreter did with a graph from its list of operators.

After a delegate took nodes over, the interpreter lists the original operators followed by
one ``DELEGATE`` per group that was taken; which operators a group replaced follows from its
inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_DELEGATE = "DELEGATE"
_CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})

#: (activations, weights) -> the arithmetic of a convolution
_ARITHMETIC = {
    ("float32", "float32"): "fp32",
    ("float16", "float16"): "fp16",
    ("float32", "int8"): "dynamic int8",
    ("int8", "int8"): "int8",
    ("uint8", "uint8"): "uint8",
    ("int16", "int8"): "int16x8",
}


@dataclass(frozen=True)
class Operator:
    """One entry of the list: name, tensor indices, NumPy names of the input dtypes."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Execution:
    """How many operators the graph has, how many a delegate runs, in what arithmetic."""

    operators: int
    delegated: int
    precision: str

    @property
    def delegate(self) -> str:
        """Who runs the operators: XNNPACK (the only delegate that is applied by default), or none."""
        if not self.delegated:
            return "none"
        return (
            "XNNPACK"
            if self.delegated == self.operators
            else f"XNNPACK ({self.delegated} of {self.operators} operators)"
        )


def read_execution(operators: Sequence[Operator]) -> Execution:
    """Tell which operators were delegated and in what arithmetic the convolutions run."""
    original = [operator for operator in operators if operator.name != _DELEGATE]
    producer = {output: index for index, operator in enumerate(original) for output in operator.outputs}
    taken: set[int] = set()
    for group in operators:
        if group.name == _DELEGATE:
            taken |= _members(group, original, producer)
    found = {
        _ARITHMETIC.get(pair, "x".join(pair))
        for operator in original
        if operator.name in _CONVOLUTIONS and (pair := _multiplied(operator)) is not None
    }
    return Execution(len(original), len(taken), "+".join(sorted(found)) or "none")


def _multiplied(operator: Operator) -> tuple[str, str] | None:
    """The dtypes of a convolution's activations and weights, if it lists both."""
    # A transposed one's inputs are the output's shape, the weights, the activations.
    activations, weights = (2, 1) if operator.name == "TRANSPOSE_CONV" else (0, 1)
    if len(operator.dtypes) <= max(activations, weights):
        return None
    return operator.dtypes[activations], operator.dtypes[weights]


def _members(group: Operator, original: Sequence[Operator], producer: dict[int, int]) -> set[int]:
    """The operators on the way back from the group's outputs to its inputs."""
    members: set[int] = set()
    inputs = set(group.inputs)
    pending = list(group.outputs)
    while pending:
        index = producer.get(pending.pop())
        if index is not None and index not in members:
            members.add(index)
            pending.extend(tensor for tensor in original[index].inputs if tensor not in inputs)
    return members
