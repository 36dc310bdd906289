"""An OpenVINO IR (`.xml`) as steps; its `.bin` is not opened.

The layout is that of IR version 10 and 11: `<layers>` with numbered ports, `<edges>` between them.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from graphlib import CycleError, TopologicalSorter
from math import prod
from pathlib import Path
from typing import Final

from nanonet_edge.benchmarks.prediction.steps import Kind, Network, Passing, Step, Value, checked
from nanonet_edge.devices.files import printable
from nanonet_edge.errors import InputError

_MAX_BYTES = 64 << 20
_DTYPES: Final = {
    "FP64": "float64", "FP32": "float32", "FP16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_PASSING: Final[dict[str, Passing]] = {
    "FakeQuantize": "quantize",
    "ReLU": "activation",
    "Clamp": "activation",
    "Add": "bias",
    "Reshape": "rename",
    "Squeeze": "rename",
    "Unsqueeze": "rename",
}
#: 256 levels are 8 bits, OpenVINO's only integer width for activations.
_LEVELS = 256


def read_network(path: Path) -> Network:
    """Read the graph of an OpenVINO IR.

    Raises:
        InputError: it is no IR, damaged, or has tensors whose size is not known before it runs.
    """
    root = _parse(path)
    try:
        return _Reader(path, root).read()
    # What the look-ups and conversions below raise where an attribute is missing or no number.
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path}: damaged OpenVINO IR: {type(error).__name__}: {error}") from None


def _parse(path: Path) -> ET.Element:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path}: expected an OpenVINO IR of at most {_MAX_BYTES} bytes, found more")
    try:
        # Entities can only be declared in a document type, which an IR never has. Any encoding
        # but UTF-8 could hide it from this look.
        text = data.decode("utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise InputError(f"{path}: expected an OpenVINO IR, found XML with a document type")
        root = ET.fromstring(text)  # noqa: S314
    except (ET.ParseError, ValueError) as error:
        raise InputError(f"{path}: expected an OpenVINO IR, found no XML: {error}") from None
    if root.tag != "net" or root.find("layers") is None:
        raise InputError(f"{path}: expected an OpenVINO IR, found XML with the root <{root.tag}>")
    return root


class _Reader:
    """Reads one IR: values are keyed "layer:port"."""

    def __init__(self, path: Path, root: ET.Element) -> None:
        self.path = path
        self.layers = list(root.iterfind("layers/layer"))
        #: (layer, input port) -> the key of the value that arrives there.
        self.arriving = {
            (
                edge.attrib["to-layer"],
                edge.attrib["to-port"],
            ): f"{edge.attrib['from-layer']}:{edge.attrib['from-port']}"
            for edge in root.iterfind("edges/edge")
        }
        self.values: dict[str, Value] = {}

    def read(self) -> Network:
        steps: list[Step] = []
        inputs: list[str] = []
        outputs: list[str] = []
        for index, layer in enumerate(_in_order(self.layers, self.arriving)):
            kind = layer.attrib["type"]
            reads = self.reads(layer)
            writes = self.writes(layer)
            if kind == "Parameter":
                inputs += writes
            elif kind == "Result":
                outputs += reads
            elif kind != "Const":
                steps.append(self.step(index, layer, reads, writes))
        return Network(self.path, "openvino", tuple(steps), self.values, tuple(inputs), tuple(outputs))

    def reads(self, layer: ET.Element) -> tuple[str, ...]:
        ports = [port.attrib["id"] for port in layer.iterfind("input/port")]
        return tuple(self.arriving[layer.attrib["id"], port] for port in ports)

    def writes(self, layer: ET.Element) -> tuple[str, ...]:
        name = layer.attrib.get("name", "")
        keys = []
        for port in layer.iterfind("output/port"):
            shape = tuple(int(size.text or "") for size in port.iterfind("dim"))
            dtype = _DTYPES.get(port.attrib.get("precision", ""), "unknown")
            stored = None
            if layer.attrib["type"] == "Const":
                stored = int(_data(layer)["size"])
            elif layer.attrib["type"] == "FakeQuantize" and int(_data(layer)["levels"]) <= _LEVELS:
                dtype = "int8"
            key = f"{layer.attrib['id']}:{port.attrib['id']}"
            self.values[key] = checked(Value(shape, dtype, stored), self.path, name)
            keys.append(key)
        return tuple(keys)

    def step(self, index: int, layer: ET.Element, reads: tuple[str, ...], writes: tuple[str, ...]) -> Step:
        # Names are printed: no escape sequences reach a terminal.
        name, op = printable(layer.attrib.get("name", "")), printable(layer.attrib["type"])
        if not reads or not writes:
            raise ValueError(f"layer '{name}' has no inputs or no outputs")
        kind, macs = self.cost(
            op, [self.values[key].shape for key in reads], self.values[writes[0]].shape, layer
        )
        return Step(index, name, op, kind, reads, writes, macs)

    def cost(
        self, op: str, inputs: list[tuple[int, ...]], result: tuple[int, ...], layer: ET.Element
    ) -> tuple[Kind | Passing, int]:
        if op == "Convolution":  # kernel: output channels, input channels, height, width
            kernel = inputs[1]
            return "pointwise" if prod(kernel[2:]) == 1 else "conv", prod(result) * prod(kernel[1:])
        if op == "GroupConvolution":  # kernel: groups, outputs of each, inputs of each, height, width
            kernel = inputs[1]
            return "depthwise" if kernel[2] == 1 else "conv", prod(result) * prod(kernel[2:])
        if op == "ConvolutionBackpropData":  # kernel: input channels, output channels, height, width
            return "conv", prod(inputs[0]) * prod(inputs[1][1:])
        if op == "MatMul":
            transposed = _data(layer).get("transpose_a", "false") == "true"
            return "pointwise", prod(result) * inputs[0][-2 if transposed else -1]
        return _PASSING.get(op, "move"), 0


def _data(layer: ET.Element) -> dict[str, str]:
    found = layer.find("data")
    return {} if found is None else found.attrib


def _in_order(layers: list[ET.Element], arriving: dict[tuple[str, str], str]) -> list[ET.Element]:
    """Layers such that each comes after those it reads from, else in the file's order.

    Raises:
        ValueError: a layer is missing or given twice, or they form a cycle.
    """
    by_id = {layer.attrib["id"]: layer for layer in layers}
    if len(by_id) != len(layers):
        raise ValueError("two layers have the same id")
    needs: dict[str, set[str]] = {key: set() for key in by_id}
    for (target, _), source in arriving.items():
        needs[target].add(source.partition(":")[0])
    # Python's own sorter keeps the order in which nodes were added, among those that are ready.
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError:
        raise ValueError("its layers form a cycle") from None
    return [by_id[key] for key in order]
