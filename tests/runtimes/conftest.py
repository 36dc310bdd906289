"""The artifacts that every runtime is tested with."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.extras import is_installed
from nanonet_edge.variants import Precision
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
