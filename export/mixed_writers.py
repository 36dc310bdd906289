"""Files in which some layers compute in integers and others in float.

A layer in integers reads and gives integers. A layer in float reads what a float layer gave as it
is, and the real values of what an integer layer gave; for integer readers its own output is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nanonet_edge.contract import Layout
from nanonet_edge.export.onnx_graph import OnnxWriter
from nanonet_edge.export.quantization import Quantization
from nanonet_edge.export.tflite_graph import INPUT_NAME, TfliteWriter
from nanonet_edge.graph import Graph, Node
from nanonet_edge.variants import Precision

if TYPE_CHECKING:
    import onnx


class MixedTfliteWriter(TfliteWriter):
    """Writes a model that takes and gives float32, with QUANTIZE and DEQUANTIZE where the kinds meet.

    Args:
        graph: rewritten; integer layers with rounded weights, float ones with their own.
        plan: how each tensor is stored where it is in integers.
        floats: names of the layers in float.
    """

    def __init__(self, graph: Graph, plan: Mapping[str, Quantization], floats: frozenset[str]) -> None:
        super().__init__(graph, Precision.FP32)
        self._floats, self._integer_plan = floats, dict(plan)
        #: Each tensor of the graph by the dtype in which the file has it.
        self._forms: dict[str, dict[str, int]] = {}

    def build(self) -> bytes:
        """The file's bytes."""
        name = self._graph.input.name
        self._turn_to("float32")
        entry = self._activation(name, public=INPUT_NAME)
        self._forms[name] = {"float32": entry}
        for node in self._graph.nodes[1:]:
            dtype = "float32" if node.name in self._floats else "int8"
            inputs = {source: self._form(source, dtype) for source in node.inputs}
            self._turn_to(dtype)
            self._tensors = inputs
            self.write(node)
            self._forms[node.name] = {dtype: self._tensors[node.name]}
        output = self._form(self._graph.output, "float32")
        return self._file.finish({INPUT_NAME: entry}, {self._graph.output: output})

    def _turn_to(self, dtype: str) -> None:
        """Let what follows be written in one kind."""
        integer = dtype == "int8"
        self._dtype = dtype
        self._plan = self._integer_plan if integer else {}
        self._precision = Precision.STATIC_WI8_AI8 if integer else Precision.FP32

    def _form(self, name: str, dtype: str) -> int:
        """A tensor in a dtype, converted on first use."""
        forms = self._forms[name]
        if dtype not in forms:
            ((other, source),) = forms.items()
            self._turn_to(dtype)
            forms[dtype] = self._activation(name, public=f"{name}_{dtype}")
            self._requantize(source, other, forms[dtype], dtype)
        return forms[dtype]


class MixedOnnxWriter(OnnxWriter):
    """Writes an ONNX model with pairs of quantize and dequantize around integer layers alone.

    Args:
        graph, plan, floats: as of `MixedTfliteWriter`; tensors that `plan` lacks are not stored.
        layout: of the input, which is float32.
        relieved: never round what a float layer gives, for integer readers neither. No engine does
            that; it shows what those roundings cost.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Mapping[str, Quantization],
        floats: frozenset[str],
        *,
        layout: Layout = "nhwc",
        relieved: bool = False,
    ) -> None:
        super().__init__(graph, layout=layout, plan=plan)
        self._floats = floats
        self._rounded: dict[str, str] = {}
        readers = {} if relieved else graph.consumers()
        self._read_in_integers = {
            name for name, nodes in readers.items() if any(reader not in floats for reader in nodes)
        }

    def _store(self, name: str) -> None:
        exact = name in self._floats or name == self._graph.input.name
        if exact and name not in self._read_in_integers:
            self._values[name] = self._rounded[name] = name
            return
        super()._store(name)
        self._rounded[name] = self._values[name]
        if exact:
            self._values[name] = name

    def read(self, node: Node) -> list[str]:
        """The ONNX names of a node's inputs: rounded for integer layers."""
        source = self._values if node.name in self._floats else self._rounded
        return [source[name] for name in node.inputs]

    def _in_integers(self, node: Node) -> bool:
        return node.name not in self._floats

    def _saturates(self, node: Node) -> bool:
        return node.name not in self._floats and super()._saturates(node)


def build_mixed_onnx(
    graph: Graph,
    plan: Mapping[str, Quantization],
    floats: frozenset[str],
    *,
    layout: Layout = "nhwc",
    relieved: bool = False,
) -> onnx.ModelProto:
    """The ONNX model of a graph with layers of both kinds; see `MixedOnnxWriter`.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    return MixedOnnxWriter(graph, plan, floats, layout=layout, relieved=relieved).build()
