"""What LiteRT and tf.lite have in common: the same Interpreter class, in-process."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.quiet import Captured, captured_output
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes._tflite_graph import Operator, read_execution
from nanonet_edge.runtimes.artifact import ArtifactRuntime, Declared, only
from nanonet_edge.runtimes.base import Array, one_line
from nanonet_edge.variants import Format

Details = Mapping[str, Any]

_REFUSED_BY_XNNPACK = "(TfLiteXNNPackDelegate) failed to prepare"


class Interpreter(Protocol):
    """The part of the interpreter's interface that is used here."""

    def allocate_tensors(self) -> None: ...
    def invoke(self) -> None: ...
    def set_tensor(self, index: int, value: Array) -> None: ...
    def get_tensor(self, index: int) -> Array: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def _get_ops_details(self) -> list[dict[str, Any]]: ...


class InterpreterRuntime(ArtifactRuntime):
    """A TFLite interpreter in this process."""

    formats = frozenset({Format.TFLITE})
    known_options: ClassVar[Mapping[str, str]] = {
        "no-xnnpack": "run the built-in kernels instead of the XNNPACK delegate"
    }

    _interpreter: Interpreter | None = None

    @abstractmethod
    def _make(self, path: Path, xnnpack: bool) -> Interpreter:
        """Create the engine's interpreter, with `self.threads` threads."""

    @property
    def _opened(self) -> Interpreter:
        if self._interpreter is None:
            raise RuntimeFailure(f"{self.source}: no interpreter is open")
        return self._interpreter

    def _load(self, path: Path) -> None:
        said = Captured()
        try:
            # The engine announces its delegate on stderr each time.
            with captured_output() as said:
                start = time.perf_counter_ns()
                interpreter = self._make(path, "no-xnnpack" not in self.options)
                interpreter.allocate_tensors()
                self.load_ns = time.perf_counter_ns() - start
        except (RuntimeError, ValueError) as error:
            message = with_last_words(str(error), said)
            if (refusal := explain_refusal(self.source, message, self.name)) is not None:
                raise refusal from error
            raise RuntimeFailure(f"{self.source}: {self.name} refused it: {one_line(message)}") from error
        self._interpreter = interpreter
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        only(self.source, "input", len(inputs))
        only(self.source, "output", len(outputs))
        self._input_index = int(inputs[0]["index"])
        self._output_index = int(outputs[0]["index"])

    def _declared(self) -> tuple[Declared, Declared]:
        interpreter = self._opened
        return read_details(interpreter.get_input_details()[0]), read_details(
            interpreter.get_output_details()[0]
        )

    def _invoke(self, x: Array) -> Array:
        # set_tensor and get_tensor copy: no view into the arena leaves this method, and the
        # interpreter refuses to run while one exists.
        interpreter = self._opened
        interpreter.set_tensor(self._input_index, x)
        interpreter.invoke()
        return interpreter.get_tensor(self._output_index)

    def _describe(self) -> RuntimeInfo:
        execution = read_execution([read_operator(details) for details in self._opened._get_ops_details()])
        return RuntimeInfo(
            name=self.name,
            version=self.version() or "unknown",
            delegate=execution.delegate,
            device="CPU",
            threads=self.threads,
            computed_precision=execution.precision,
            options={"delegated_operators": f"{execution.delegated} of {execution.operators}"},
        )

    def _release(self) -> None:
        self._interpreter = None


def with_last_words(message: str, said: Captured) -> str:
    """The engine's error with what it wrote on stderr and the error does not repeat."""
    extra = [line for line in said.lines if not line.startswith("INFO: ") and line not in message]
    return "; ".join([message.strip(), *extra])


def explain_refusal(source: str, message: str, name: str) -> RuntimeFailure | None:
    """The error for a graph that XNNPACK would not prepare; None if `message` says something else."""
    if _REFUSED_BY_XNNPACK not in message:
        return None
    return RuntimeFailure(
        f"{source}: XNNPACK refused the graph ({one_line(message)}): {name}:no-xnnpack may run it"
    )


def read_details(details: Details) -> Declared:
    """A tensor as the interpreter describes it; floats, raw pixels and masks have no scale."""
    dtype = np.dtype(details["dtype"])
    scale, zero_point = details["quantization"]
    # The interpreter says 0 for a tensor without one.
    quantized = dtype.kind in "iu" and scale > 0
    return Declared(
        tuple(int(size) for size in details["shape"]),
        dtype.name,
        float(scale) if quantized else None,
        int(zero_point) if quantized else None,
    )


def read_operator(details: Details) -> Operator:
    """An operator as the interpreter describes it."""
    return Operator(
        str(details["op_name"]),
        tuple(int(index) for index in details["inputs"]),
        tuple(int(index) for index in details["outputs"]),
        tuple(np.dtype(dtype).name for dtype in details["operand_types"]),
    )
