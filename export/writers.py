"""One artifact at a time: the file in its format, and the record that describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nanonet_edge.contract import (
    PROBABILITY_THRESHOLD,
    ChannelOrder,
    DType,
    InputContract,
    Layout,
    OutputContract,
)
from nanonet_edge.errors import UnsupportedError
from nanonet_edge.export.calibration import Calibration
from nanonet_edge.export.mixed_graph import MixedGraph
from nanonet_edge.export.mixed_writers import MixedTfliteWriter, build_mixed_onnx
from nanonet_edge.export.onnx_graph import INPUT_NAME, build_onnx
from nanonet_edge.export.openvino_ir import openvino_plan, write_openvino
from nanonet_edge.export.quantization import Quantization, as_uint8, boundary, plan_activations
from nanonet_edge.export.tflite_graph import TfliteWriter, is_dynamic
from nanonet_edge.graph import Graph
from nanonet_edge.manifest import ArtifactRecord, record_file
from nanonet_edge.passes import FoldInputScale, SetHead, SwapInputChannels, rewrite
from nanonet_edge.passes.coral import CORAL_PASSES
from nanonet_edge.variants import Format, Head, Precision, Target

SUFFIXES = {Format.TFLITE: "", Format.ONNX: "", Format.OPENVINO: ".xml"}
QUANTIZER = "nanonet-edge"


@dataclass(frozen=True)
class Boundary:
    """What an artifact takes and gives, as asked for; None leaves a choice to the format."""

    head: Head = Head.PROBABILITY
    input_dtype: DType | None = None
    channel_order: ChannelOrder = "bgr"
    layout: Layout = "nhwc"

    def dtype(self, file_format: Format, precision: Precision) -> DType:
        """The input's dtype: integers for a fully integer TFLite file, else float32 in [0, 1].

        Raises:
            UnsupportedError: the precision cannot take what was asked for: a float graph no int8;
                16-bit activations no 8-bit edges, since engines cannot requantize between them.
        """
        can = _takes(precision)
        if self.input_dtype is None:
            return can[0] if file_format is Format.TFLITE else "float32"
        if self.input_dtype not in can:
            raise UnsupportedError(
                f"{precision} cannot take {self.input_dtype} input: it can take {', '.join(can)}"
            )
        return self.input_dtype

    def can_take(self, precision: Precision) -> bool:
        """Whether a precision can take the input that was asked for."""
        return self.input_dtype is None or self.input_dtype in _takes(precision)


def _takes(precision: Precision) -> tuple[DType, ...]:
    """The input dtypes a precision can have, the one native to TFLite first."""
    if precision is Precision.STATIC_WI8_AI16:
        return ("int16", "float32")
    if precision is Precision.MIXED:
        return ("float32",)
    return ("int8", "uint8", "float32") if precision.is_static else ("float32", "uint8")


@dataclass(frozen=True)
class ArtifactWriter:
    """Writes artifacts of one rewritten graph.

    Attributes:
        root: the bundle's folder.
        name: of the network, such as "nanonet-c".
        graph: rewritten, with a probability head.
        passes: that were applied to it.
        calibration: for precisions with integer weights.
        boundary: what artifacts take and give.
        floats: layers that precision `mixed` leaves in float; see `MixedSearch`.
    """

    root: Path
    name: str
    graph: Graph
    passes: tuple[str, ...]
    calibration: Calibration | None
    boundary: Boundary
    floats: frozenset[str] = frozenset()

    def write(
        self, file_format: Format, precision: Precision, target: Target | None = None
    ) -> ArtifactRecord:
        """Write one artifact, rewritten once more if it is for one accelerator.

        Raises:
            UnsupportedError: the precision cannot take the input that was asked for.
            MissingExtraError: the format's library is not installed.
        """
        dtype = self.boundary.dtype(file_format, precision)
        calibrated = self._needs_calibration(precision)
        graph, extra = self._finish(self._rounded(calibrated, precision), precision, dtype, target)
        plan = self._plan(graph, precision)
        name = artifact_name(self.name, precision, file_format, target)
        path = self.root / f"{name}{SUFFIXES[file_format]}"
        files = self._write_file(path, file_format, precision, graph, dtype, plan)
        layout: Layout = "nhwc" if file_format is Format.TFLITE else self.boundary.layout
        size = graph.size
        return ArtifactRecord(
            name=name,
            format=file_format,
            precision=precision,
            graph="rewritten",
            files=tuple(record_file(file, self.root) for file in files),
            input=InputContract(
                name=INPUT_NAME,
                shape=(1, size, size, 3) if layout == "nhwc" else (1, 3, size, size),
                layout=layout,
                channel_order=self.boundary.channel_order,
                dtype=dtype,
                **_stored(plan.get(graph.input.name), dtype, 1 / 255 if dtype == "uint8" else 1.0),
            ),
            output=self._output(graph, file_format, dtype, plan),
            passes=self.passes + (calibrated.passes if calibrated else ()) + extra,
            layers=self._layers(graph, precision),
            calibration=calibrated.record if calibrated else None,
            quantizer=QUANTIZER if calibrated else None,
        )

    def _needs_calibration(self, precision: Precision) -> Calibration | None:
        if precision.is_float:
            return None
        if self.calibration is None:
            raise ValueError(f"{precision} needs a calibration")
        return self.calibration

    def _rounded(self, calibrated: Calibration | None, precision: Precision) -> Graph:
        """The graph with the weights that this precision stores: rounded where they are integers."""
        if calibrated is None:
            return self.graph
        if precision.is_static:
            return calibrated.graph
        if precision is Precision.MIXED:
            return MixedGraph(calibrated).assigned(self.floats)
        nodes = (calibrated.graph[node.name] if is_dynamic(node) else node for node in calibrated.prepared)
        return Graph(tuple(nodes), self.graph.output)

    def _finish(
        self, graph: Graph, precision: Precision, dtype: DType, target: Target | None
    ) -> tuple[Graph, tuple[str, ...]]:
        """Rewrites at the two ends, after calibration: they move no range."""
        passes: list[Any] = [SetHead(self.boundary.head)]
        if self.boundary.channel_order == "rgb":
            passes.append(SwapInputChannels())
        if dtype == "uint8" and not precision.is_static:
            passes.append(FoldInputScale())
        if target is Target.CORAL:
            passes.extend(CORAL_PASSES)
        finished = rewrite(graph, passes)
        return finished.graph, finished.applied

    def _plan(self, graph: Graph, precision: Precision) -> dict[str, Quantization]:
        if not precision.has_integer_activations or self.calibration is None:
            return {}
        activations = "int16" if precision is Precision.STATIC_WI8_AI16 else "int8"
        return plan_activations(graph, self.calibration.ranges, activations)

    def _write_file(
        self,
        path: Path,
        file_format: Format,
        precision: Precision,
        graph: Graph,
        dtype: DType,
        plan: dict[str, Quantization],
    ) -> tuple[Path, ...]:
        mixed = precision is Precision.MIXED
        if file_format is Format.TFLITE:
            if mixed:
                writer: TfliteWriter = MixedTfliteWriter(graph, plan, self.floats)
            else:
                writer = TfliteWriter(graph, precision, plan=plan or None, input_dtype=dtype)
            path.write_bytes(writer.build())
            return (path,)
        half = precision is Precision.FP16
        layout = self.boundary.layout
        if file_format is Format.OPENVINO and dtype == "float32":
            plan = openvino_plan(graph, plan)
        if mixed:
            built = build_mixed_onnx(graph, as_uint8(plan), self.floats, layout=layout)
        else:
            built = build_onnx(
                graph,
                layout=layout,
                input_dtype=dtype,
                # OpenVINO halves constants itself: its compressed fp32 graph is faster than one of casts.
                half=half and file_format is Format.ONNX,
                plan=as_uint8(plan),
            )
        model = built.SerializeToString()
        if file_format is Format.OPENVINO:
            return write_openvino(model, path, half=half)
        path.write_bytes(model)
        return (path,)

    def _layers(self, graph: Graph, precision: Precision) -> dict[str, Literal["int8", "fp32"]]:
        if precision is not Precision.MIXED:
            return {}
        return {node.name: "fp32" if node.name in self.floats else "int8" for node in graph.nodes[1:]}

    def _output(
        self, graph: Graph, file_format: Format, dtype: DType, plan: dict[str, Quantization]
    ) -> OutputContract:
        height, width, channels = graph.shapes()[graph.output]
        layout: Layout = "nhwc" if file_format is Format.TFLITE else "nchw"
        shape: tuple[int, ...] = (1, channels, height, width)
        if layout == "nhwc":
            shape = (1, height, width, channels)
        if self.boundary.head is Head.MASK:
            if layout == "nhwc" and graph.classes > 1:
                shape = (1, height, width)
            stored: dict[str, Any] = {"dtype": "uint8", "threshold": None}
        else:
            stored = _stored(plan.get(graph.output), dtype if plan else "float32", 1.0)
            stored["dtype"] = dtype if plan else "float32"
            stored["threshold"] = None
            if graph.classes == 1:
                real = PROBABILITY_THRESHOLD if self.boundary.head is Head.PROBABILITY else 0.0
                stored["threshold"] = real / stored["scale"] + stored["zero_point"]
        return OutputContract(
            name=graph.output,
            shape=shape,
            layout=layout,
            kind=self.boundary.head,
            classes=graph.classes,
            **stored,
        )


def artifact_name(
    name: str,
    precision: Precision,
    file_format: Format,
    target: Target | None = None,
    *,
    graph: Literal["rewritten", "straight"] = "rewritten",
) -> str:
    """Such as ``nanonet-c.static_wi8_ai8.tflite``; straight ones and those for one target say so."""
    middle = "straight." if graph == "straight" else ""
    end = f".{target}" if target else ""
    return f"{name}.{middle}{precision}{end}.{file_format}"


def _stored(quantization: Quantization | None, dtype: DType, plain_scale: float) -> dict[str, Any]:
    """Scale and zero point at the model's edge; `plain_scale` where nothing is quantized."""
    if quantization is None or dtype == "float32":
        return {"scale": plain_scale, "zero_point": 0}
    outer = boundary(quantization, dtype)
    # Files keep scales as float32: the contract says what is in the file.
    return {"scale": float(np.float32(outer.scale)), "zero_point": outer.zero_point}
