"""OpenVINO IR of random networks: it compiles, and computes what the ONNX file does."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino
import pytest

from nanonet_edge.bundle import Artifact
from nanonet_edge.contract import preprocess
from nanonet_edge.export.openvino_ir import openvino_plan
from nanonet_edge.export.quantization import plan_activations
from nanonet_edge.export.writers import Boundary
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import Format, Precision
from tests.export.networks import Shelf, calibrated, expected, frame, judges, rewritten

#: The widest and the narrowest; compiling takes a second.
VARIANTS = ("a", "c")
COMMON = (Precision.FP32, Precision.FP16, Precision.STATIC_WI8_AI8)


def constants(artifact: Artifact) -> list[tuple[str, int]]:
    """Element type and bytes of every constant in the .xml."""
    root = ElementTree.parse(artifact.path).getroot()
    data = [layer.find("data") for layer in root.iter("layer") if layer.get("type") == "Const"]
    return [(entry.attrib["element_type"], int(entry.attrib["size"])) for entry in data if entry is not None]


def compiled(artifact: Artifact) -> Any:
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return openvino.Core().compile_model(str(artifact.path), "CPU", config)


@pytest.mark.parametrize("precision", COMMON)
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_compiles_as_it_is_declared(shelf: Shelf, variant: str, precision: Precision) -> None:
    artifact = shelf.artifact(Format.OPENVINO, precision, variant=variant)
    assert artifact.path.suffix == ".xml"
    assert artifact.path.with_suffix(".bin").is_file()
    model = compiled(artifact)
    assert (len(model.inputs), len(model.outputs)) == (1, 1)
    assert model.inputs[0].get_partial_shape().is_static
    assert tuple(model.inputs[0].shape) == artifact.record.input.shape
    assert tuple(model.outputs[0].shape) == artifact.record.output.shape


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_true_fp32_it_equals_the_onnx_file(shelf: Shelf, variant: str) -> None:
    artifact = shelf.artifact(Format.OPENVINO, Precision.FP32, variant=variant)
    model = compiled(artifact)
    with open_runtime(shelf.artifact(Format.ONNX, Precision.FP32, variant=variant), "onnxruntime") as other:
        for image in judges():
            x = preprocess(image, artifact.record.input)
            found = model(x)[0]
            assert np.abs(found - other.invoke(x)).max() <= 1e-5
            truth = expected(rewritten(variant).graph, image)
            assert np.abs(found[0].transpose(1, 2, 0) - truth).max() <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_constants_are_halves_where_asked(shelf: Shelf, variant: str) -> None:
    full = constants(shelf.artifact(Format.OPENVINO, Precision.FP32, variant=variant))
    half = constants(shelf.artifact(Format.OPENVINO, Precision.FP16, variant=variant))
    assert "f16" not in {kind for kind, _ in full}
    weights = sum(size for kind, size in full if kind == "f32")
    assert sum(size for kind, size in half if kind == "f16") >= 0.9 * weights / 2
    assert sum(size for kind, size in half if kind == "f32") <= 0.05 * weights


@pytest.mark.parametrize("variant", VARIANTS)
def test_int8_weights_are_bytes_and_computed_in_integers(shelf: Shelf, variant: str) -> None:
    artifact = shelf.artifact(Format.OPENVINO, Precision.STATIC_WI8_AI8, variant=variant)
    kinds = constants(artifact)
    stored = sum(size for kind, size in kinds if kind == "i8")
    kernels = sum(n.weights["kernel"].size for n in rewritten(variant).graph if "kernel" in n.weights)
    assert stored >= 0.9 * kernels
    with open_runtime(artifact, "openvino:f32") as runtime:
        assert runtime.info.computed_precision == "int8"
        found = np.stack([runtime.probability(image) for image in judges()])
    truth = np.stack([expected(rewritten(variant).graph, image) for image in judges()])
    assert np.abs(found - truth).mean() <= 0.03


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_plan_leaves_out_what_is_never_stored(variant: str) -> None:
    graph = rewritten(variant).graph
    plan = plan_activations(graph, calibrated(variant).ranges)
    ours = openvino_plan(graph, plan)
    assert all(ours[name] is plan[name] for name in ours)
    readers = graph.consumers()
    for name in plan.keys() - ours.keys():
        fused = all(graph[reader].op in ("add", "sigmoid", "softmax") for reader in readers[name])
        assert graph[name].op == "sigmoid" or fused, name
    for node in graph:
        if node.op in ("conv2d", "depthwise_conv2d"):
            assert node.inputs[0] in ours, f"{node.name} would run in float"
    assert graph["probability"].inputs[0] in ours


def test_raw_pixels(shelf: Shelf) -> None:
    artifact = shelf.artifact(Format.OPENVINO, Precision.FP32, boundary=Boundary(input_dtype="uint8"))
    model = compiled(artifact)
    assert model.inputs[0].get_element_type().get_type_name() == "u8"
    found = model(frame(100)[np.newaxis])[0][0].transpose(1, 2, 0)
    assert np.abs(found - expected(rewritten().graph, frame(100))).max() <= 1e-5
