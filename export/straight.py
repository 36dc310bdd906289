"""The unrewritten graph through the stock converters: what the rewrite is measured against.

TFLiteConverter, tf2onnx with onnxruntime's static quantizer, and OpenVINO with NNCF, each as
its own guide says. They are quiet here: what they print is no news for a user.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from nanonet_edge.export.observe import Tensor
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph
from nanonet_edge.keras_network import build_keras
from nanonet_edge.quiet import STDERR, STDOUT, quiet
from nanonet_edge.variants import Precision

Tensors = Callable[[], Iterable[Tensor]]


class StraightConverter:
    """Builds the Keras model of a graph once and converts it as often as asked.

    Args:
        graph: unrewritten.
        tensors: a fresh iterator over calibration inputs, (1, H, W, 3) float32 in [0, 1].

    Raises:
        MissingExtraError: TensorFlow is not installed.
    """

    def __init__(self, graph: Graph, tensors: Tensors) -> None:
        require("tensorflow")
        with _quiet():
            self._model: Any = build_keras(graph)
            # Keras exports to ONNX only a model that was called at least once.
            self._model(np.zeros((1, graph.size, graph.size, 3), np.float32))
        self._tensors = tensors

    def tflite(self, precision: Precision, io_dtype: str) -> bytes:
        """TFLiteConverter's model; static precisions take and give `io_dtype`."""
        tf: Any = require("tensorflow")
        converter = tf.lite.TFLiteConverter.from_keras_model(self._model)
        if precision is not Precision.FP32:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision is Precision.FP16:
            converter.target_spec.supported_types = [tf.float16]
        if precision.is_static:
            converter.representative_dataset = lambda: ([tensor] for tensor in self._tensors())
            converter.inference_input_type = converter.inference_output_type = getattr(tf, io_dtype)
            ops = tf.lite.OpsSet
            wide = precision is Precision.STATIC_WI8_AI16
            converter.target_spec.supported_ops = [
                ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                if wide
                else ops.TFLITE_BUILTINS_INT8
            ]
        with _quiet():
            return bytes(converter.convert())

    def onnx(self, path: Path, precision: Precision) -> None:
        """tf2onnx's model, quantized by onnxruntime for the static precision."""
        with _quiet():
            self._model.export(str(path), format="onnx", verbose=False)
            if precision is Precision.STATIC_WI8_AI8:
                self._quantize_onnx(path)

    def _quantize_onnx(self, path: Path) -> None:
        quantization: Any = require("onnxruntime.quantization")
        shape_inference: Any = require("onnxruntime.quantization.shape_inference")
        name = require("onnx").load(str(path)).graph.input[0].name
        samples = ({name: tensor} for tensor in self._tensors())

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
            def get_next(self) -> dict[str, Tensor] | None:
                return next(samples, None)

        prepared = path.with_suffix(".prepared.onnx")
        shape_inference.quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(str(prepared), str(path), Reader(), per_channel=True)
        prepared.unlink()

    def openvino(self, path: Path, precision: Precision) -> tuple[Path, Path]:
        """OpenVINO's model of the exported SavedModel, quantized by NNCF for the static precision."""
        openvino: Any = require("openvino")
        with _quiet(), tempfile.TemporaryDirectory() as folder:
            self._model.export(folder, verbose=False)
            model = openvino.convert_model(folder)
            if precision is Precision.STATIC_WI8_AI8:
                nncf: Any = require("nncf")
                samples = list(self._tensors())
                model = nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples))
            openvino.save_model(model, str(path), compress_to_fp16=precision is Precision.FP16)
        return path, path.with_suffix(".bin")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Python's and the native libraries' chatter off the user's streams."""
    with quiet(STDOUT, STDERR), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield
