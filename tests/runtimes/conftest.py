"""The artifacts that every runtime is tested with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.contract import preprocess
from nanonet_edge.extras import is_installed
from nanonet_edge.interpreter import evaluate
from nanonet_edge.runtimes.keras_reference import reference_contracts
from nanonet_edge.variants import Format, Precision
from tests.runtimes.tiny_tflite import make_tiny_tflite
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Every tiny artifact that can be made here, by name."""
    made: dict[str, Artifact] = {}
    if is_installed("onnx") and is_installed("openvino"):
        bundle = Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bundle")))
        made.update({artifact.name: artifact for artifact in bundle.artifacts})
    if is_installed("ai_edge_litert") and is_installed("flatbuffers"):
        folder: Path = tmp_path_factory.mktemp("tflite")
        for precision in (Precision.FP32, Precision.STATIC_WI8_AI8):
            artifact = make_tiny_tflite(folder, precision)
            made[artifact.name] = artifact
    return made


@pytest.fixture(scope="session")
def nanonet(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The shipped NanoNet-C for frames of 64 pixels, as fp32 TFLite and ONNX."""
    for module in ("tensorflow", "ai_edge_litert", "flatbuffers", "onnx"):
        if not is_installed(module):
            pytest.skip(f"{module} is not installed")
    from nanonet_edge.export import ExportOptions, export_bundle

    options = ExportOptions(size=64, formats=(Format.TFLITE, Format.ONNX), precisions=(Precision.FP32,))
    return export_bundle(options, tmp_path_factory.mktemp("nanonet") / "c")


def nanonet_probability(bundle: Bundle, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """What the bundle's reference weights make of frames, computed with NumPy alone."""
    graph = load_checkpoint(bundle.weights_path, size=bundle.manifest.size).graph
    takes, _ = reference_contracts(bundle)
    return evaluate(graph, np.concatenate([preprocess(frame, takes) for frame in frames]))
