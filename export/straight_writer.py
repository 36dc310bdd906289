"""Artifacts of the unrewritten graph, in the shape the stock converters give them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanonet_edge.contract import DType, InputContract, OutputContract
from nanonet_edge.export.straight import StraightConverter
from nanonet_edge.export.writers import SUFFIXES, artifact_name
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph
from nanonet_edge.manifest import ArtifactRecord, CalibrationRecord, record_file
from nanonet_edge.variants import Format, Head, Precision

_QUANTIZERS = {
    Format.TFLITE: "TFLiteConverter",
    Format.ONNX: "onnxruntime quantize_static",
    Format.OPENVINO: "NNCF",
}


@dataclass(frozen=True)
class StraightWriter:
    """Writes straight artifacts; the head is a probability, the input BGR and NHWC."""

    root: Path
    name: str
    graph: Graph
    converter: StraightConverter
    calibration: CalibrationRecord | None

    def write(self, file_format: Format, precision: Precision) -> ArtifactRecord:
        """Write one artifact.

        Raises:
            MissingExtraError: the format's converter is not installed.
        """
        name = artifact_name(self.name, precision, file_format, graph="straight")
        path = self.root / f"{name}{SUFFIXES[file_format]}"
        size, classes = self.graph.size, self.graph.classes
        source = InputContract(name="input_image", shape=(1, size, size, 3))
        output = OutputContract(
            name="probability",
            shape=(1, size, size, classes),
            kind=Head.PROBABILITY,
            classes=classes,
            threshold=0.5 if classes == 1 else None,
        )
        files: tuple[Path, ...] = (path,)
        if file_format is Format.TFLITE:
            dtype: DType = "float32"
            if precision.is_static:
                dtype = "int16" if precision is Precision.STATIC_WI8_AI16 else "int8"
            path.write_bytes(self.converter.tflite(precision, dtype))
            source, output = _describe_tflite(path, source, output, dtype)
        elif file_format is Format.ONNX:
            self.converter.onnx(path, precision)
        else:
            files = self.converter.openvino(path, precision)
        integer = precision is Precision.DYNAMIC_WI8 or precision.is_static
        return ArtifactRecord(
            name=name,
            format=file_format,
            precision=precision,
            graph="straight",
            files=tuple(record_file(file, self.root) for file in files),
            input=source,
            output=output,
            calibration=self.calibration if precision.is_static else None,
            quantizer=_QUANTIZERS[file_format] if integer else None,
        )


def _describe_tflite(
    path: Path, source: InputContract, output: OutputContract, dtype: DType
) -> tuple[InputContract, OutputContract]:
    """Contracts with the scales that the converter chose."""
    interpreter: Any = require("ai_edge_litert.interpreter").Interpreter(str(path))
    (given,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    if dtype == "float32":
        return source, output
    scale, zero_point = gives["quantization"]
    threshold = None if output.threshold is None else output.threshold / scale + zero_point
    return (
        source.model_copy(
            update={
                "dtype": dtype,
                "scale": float(given["quantization"][0]),
                "zero_point": int(given["quantization"][1]),
            }
        ),
        output.model_copy(
            update={
                "dtype": dtype,
                "scale": float(scale),
                "zero_point": int(zero_point),
                "threshold": threshold,
            }
        ),
    )
