"""What a network costs, operator by operator: multiply-accumulates, bytes moved, arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from nanonet_edge.benchmarks.prediction.steps import WEIGHTED, Kind, Network, Step, simplify
from nanonet_edge.errors import InputError
from nanonet_edge.manifest import Record

#: What the weighted sums are computed in, as far as the file decides it.
Arithmetic = Literal["fp32", "fp16", "int8", "int16"]

MAX_FILE_BYTES = 1 << 30


class OperatorCost(Record):
    """One operator as an engine runs it.

    Attributes:
        index: its place among the file's operators; those that an engine fuses are left out.
        op: as the format names it.
        macs: multiply-accumulates of its weighted sums, 0 for all others.
        input_bytes, output_bytes: activations read and written.
        weight_bytes: constants read, as they are stored.
    """

    index: int
    name: str
    op: str
    kind: Kind
    arithmetic: Arithmetic
    macs: int = Field(ge=0)
    input_bytes: int = Field(ge=0)
    output_bytes: int = Field(ge=0)
    weight_bytes: int = Field(ge=0)

    @property
    def bytes_moved(self) -> int:
        """All that it reads and writes."""
        return self.input_bytes + self.output_bytes + self.weight_bytes

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: operations (two per multiply-accumulate) per byte moved."""
        return 2.0 * self.macs / self.bytes_moved if self.bytes_moved else 0.0


class NetworkCost(Record):
    """A whole network.

    Attributes:
        arithmetic: of most multiply-accumulates.
        weight_bytes: of all constants; what operators share counts once.
        peak_activation_bytes: most activations alive at once; padding and tiling that an engine
            adds are unknown here.
        input_bytes, output_bytes: of the network's own inputs and outputs.
    """

    format: str
    arithmetic: Arithmetic
    operators: tuple[OperatorCost, ...]
    weight_bytes: int
    peak_activation_bytes: int
    input_bytes: int
    output_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(operator.macs for operator in self.operators)

    @property
    def bytes_moved(self) -> int:
        """Bytes that its operators read and write, one by one."""
        return sum(operator.bytes_moved for operator in self.operators)


def read_cost(path: Path) -> NetworkCost:
    """Count the cost of a `.tflite`, `.onnx` or OpenVINO `.xml` file.

    Raises:
        InputError: another kind of file, none, a damaged one, or one whose tensors have sizes
            that are not known before it runs.
        MissingExtraError: the package that reads the format is not installed.
    """
    from nanonet_edge.benchmarks.prediction import onnx_steps, openvino_steps, tflite_steps

    readers = {
        ".tflite": tflite_steps.read_network,
        ".onnx": onnx_steps.read_network,
        ".xml": openvino_steps.read_network,
    }
    wanted = "a .tflite, .onnx or OpenVINO .xml file"
    if not path.is_file():
        raise InputError(f"{path}: expected {wanted}, found {'a folder' if path.is_dir() else 'nothing'}")
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: expected {wanted}, found the suffix '{path.suffix}'")
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise InputError(f"{path}: {size} bytes; at most {MAX_FILE_BYTES} are read")
    return network_cost(reader(path))


def network_cost(network: Network) -> NetworkCost:
    """Count the cost of a network's steps once an engine has simplified them.

    Raises:
        InputError: it has no operators.
    """
    network = simplify(network)
    operators = tuple(_operator(network, step) for step in network.steps)
    if not operators:
        raise InputError(f"{network.path}: expected a network, found no operators")
    values = network.values
    macs: dict[Arithmetic, int] = {}
    for operator in operators:
        macs[operator.arithmetic] = macs.get(operator.arithmetic, 0) + operator.macs
    return NetworkCost(
        format=network.format,
        arithmetic=max(macs, key=macs.__getitem__),
        operators=operators,
        weight_bytes=network.weight_bytes,
        peak_activation_bytes=network.peak_activations(),
        input_bytes=sum(values[key].nbytes for key in network.inputs),
        output_bytes=sum(values[key].nbytes for key in network.outputs),
    )


def _operator(network: Network, step: Step) -> OperatorCost:
    values = network.values
    reads = [values[key] for key in dict.fromkeys(step.reads)]
    return OperatorCost(
        index=step.index,
        name=step.name,
        op=step.op,
        kind=step.kind if step.kind in WEIGHTED else "move",
        arithmetic=_arithmetic(network, step),
        macs=step.macs,
        input_bytes=sum(value.nbytes for value in reads if value.stored is None),
        output_bytes=sum(values[key].nbytes for key in step.writes),
        weight_bytes=sum(value.stored or 0 for value in reads),
    )


def _arithmetic(network: Network, step: Step) -> Arithmetic:
    values = [network.values[key] for key in step.reads]
    computed = [value.dtype for value in values if value.stored is None]
    data = computed[0] if computed else "float32"
    if data in ("int8", "uint8"):
        return "int8"
    if data in ("int16", "uint16"):
        return "int16"
    if data in ("float16", "bfloat16"):
        return "fp16"
    # Float data on int8 weights: TFLite quantizes the data as it runs, except in depthwise ones.
    stored = [value.dtype for value in values if value.stored is not None]
    dynamic = network.format == "tflite" and bool(stored) and stored[0] == "int8"
    return "int8" if dynamic and step.kind in ("conv", "pointwise") else "fp32"
