"""ONNX files of random networks: valid, static, and computed as the interpreter computes them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from nanonet_edge.contract import DType, Layout, preprocess
from nanonet_edge.export.onnx_graph import INPUT_NAME, IR_VERSION, OPSET, build_onnx
from nanonet_edge.export.writers import Boundary
from nanonet_edge.graph import CONVOLUTIONS, Graph, GraphError, Node
from nanonet_edge.interpreter import evaluate
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import Format, Precision, Topology
from tests.export.networks import (
    VARIANTS,
    Shelf,
    calibrated,
    expected,
    frame,
    judges,
    network,
    rewritten,
    tensor,
)
from tests.export.tflite_file import TfliteFile

COMMON = (Precision.FP32, Precision.FP16, Precision.STATIC_WI8_AI8)
INT8 = Precision.STATIC_WI8_AI8


def run(model: onnx.ModelProto, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: npt.NDArray[Any] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of every tensor that has one."""
    found = {info.name: info.type.tensor_type.elem_type for info in model.graph.value_info}
    for info in (*model.graph.input, *model.graph.output):
        found[info.name] = info.type.tensor_type.elem_type
    return found | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("precision", COMMON)
@pytest.mark.parametrize("variant", ["a", "c"])
def test_valid_static_and_of_the_chosen_opset(shelf: Shelf, variant: str, precision: Precision) -> None:
    model = onnx.load(shelf.artifact(Format.ONNX, precision, variant=variant).path)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    named = {info.name: info for info in inferred.graph.value_info}
    named |= {info.name: info for info in (*inferred.graph.input, *inferred.graph.output)}
    for node in model.graph.node:
        for output in node.output:
            dimensions = named[output].type.tensor_type.shape.dim
            # Scalars aside, everything has sizes that are numbers.
            assert all(dimension.dim_value > 0 for dimension in dimensions), output
            assert len(dimensions) == 4 or "bias" in output, output


@pytest.mark.parametrize("precision", COMMON)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize(("layout", "count"), [("nhwc", 1), ("nchw", 0)])
def test_transposes(shelf: Shelf, precision: Precision, dtype: DType, layout: Layout, count: int) -> None:
    boundary = Boundary(layout=layout, input_dtype=dtype)
    model = onnx.load(shelf.artifact(Format.ONNX, precision, boundary=boundary).path)
    assert ops(model).count("Transpose") == count
    assert ops(model)[0] == ("Transpose" if count else ops(model)[0])


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_interpreters_answer(variant: str, classes: int, topology: Topology) -> None:
    graph = rewritten(variant, classes, topology).graph
    model = build_onnx(graph)
    for image in judges():
        found = run(model, tensor(image))[0].transpose(1, 2, 0)
        assert np.abs(found - expected(graph, image)).max() <= 1e-5


def test_every_operation_that_the_default_passes_leave_out() -> None:
    generator = np.random.default_rng(3)
    kernel = generator.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32)
    nodes = (
        Node("input", "input", attributes={"size": 32, "channels": 3}),
        Node("padded", "edge_pad", ("input",)),
        Node("conv", "conv2d", ("padded",), {"kernel": kernel}, {"strides": 1, "padding": "valid"}),
        Node("clipped", "relu6", ("conv",)),
        Node("positive", "relu", ("clipped",)),
        Node("joined", "concat", ("conv", "positive")),
        Node("wide", "depth_to_space", ("joined",)),
        Node("probability", "softmax", ("wide",)),
    )
    graph = Graph(nodes, "probability")
    x = tensor(frame(3), 32)
    found = run(build_onnx(graph), x)[0].transpose(1, 2, 0)
    assert np.abs(found - evaluate(graph, x)[0]).max() <= 1e-5


def test_a_graph_that_was_not_rewritten_is_refused() -> None:
    with pytest.raises((GraphError, KeyError)):
        build_onnx(network())


@pytest.mark.parametrize("variant", VARIANTS)
def test_fp16_holds_halves_and_talks_floats(shelf: Shelf, variant: str) -> None:
    artifact = shelf.artifact(Format.ONNX, Precision.FP16, variant=variant)
    model = onnx.load(artifact.path)
    weights = [t for t in model.graph.initializer if t.name.endswith(("_kernel", "_bias"))]
    assert len(weights) > 40
    assert {t.data_type for t in weights} == {TensorProto.FLOAT16}
    edges = (*model.graph.input, *model.graph.output)
    assert {info.type.tensor_type.elem_type for info in edges} == {TensorProto.FLOAT}
    plain = shelf.artifact(Format.ONNX, Precision.FP32, variant=variant)
    assert artifact.record.bytes < 0.7 * plain.record.bytes
    truth = np.stack([expected(rewritten(variant).graph, image) for image in judges()])
    with open_runtime(artifact, "onnxruntime") as runtime:
        found = np.stack([runtime.probability(image) for image in judges()])
    assert np.abs(found - truth).max() <= 5e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_activation_is_quantized(shelf: Shelf, variant: str) -> None:
    """Whatever a convolution, addition, product, mean or resize reads comes from a DequantizeLinear."""
    model = onnx.load(shelf.artifact(Format.ONNX, INT8, variant=variant).path)
    producer = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Add", "Mul", "GlobalAveragePool", "Resize", "Sigmoid"):
            read = [name for name in node.input if name and name not in constants]
            assert read
            assert {producer[name].op_type for name in read} == {"DequantizeLinear"}, node.name
    kernels = [t for t in model.graph.initializer if t.name.endswith("_kernel")]
    biases = [t for t in model.graph.initializer if t.name.endswith("_bias")]
    assert len(kernels) == sum(node.op in CONVOLUTIONS for node in rewritten(variant).graph)
    assert {t.data_type for t in kernels} == {TensorProto.INT8}
    assert {t.data_type for t in biases} == {TensorProto.INT32}
    per_channel = [n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    assert len(per_channel) == len(kernels) + len(biases)
    assert all(attribute.i == 0 for n in per_channel for attribute in n.attribute if attribute.name == "axis")


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_onnxruntime_runs_every_convolution_in_integers(
    shelf: Shelf, tmp_path: Path, variant: str, dtype: DType
) -> None:
    artifact = shelf.artifact(Format.ONNX, INT8, variant=variant, boundary=Boundary(input_dtype=dtype))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(artifact.path), options, providers=["CPUExecutionProvider"])
    found = ops(onnx.load(options.optimized_model_filepath))
    wanted = sum(node.op in CONVOLUTIONS for node in rewritten(variant).graph)
    assert found.count("QLinearConv") == wanted
    assert not {"Conv", "FusedConv", "NhwcFusedConv"} & set(found)
    assert found.count("QLinearAdd") == sum(node.op == "add" for node in rewritten(variant).graph)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_integer_edges_give_the_very_same_probabilities(shelf: Shelf, dtype: DType) -> None:
    def answers(kind: DType) -> npt.NDArray[np.float32]:
        artifact = shelf.artifact(Format.ONNX, INT8, boundary=Boundary(input_dtype=kind))
        with open_runtime(artifact, "onnxruntime") as runtime:
            return np.stack([runtime.probability(image) for image in judges()])

    assert np.abs(answers(dtype) - answers("float32")).max() <= 1e-6


def test_raw_pixels_enter_as_uint8(shelf: Shelf) -> None:
    artifact = shelf.artifact(Format.ONNX, Precision.FP32, boundary=Boundary(input_dtype="uint8"))
    model = onnx.load(artifact.path)
    assert model.graph.input[0].name == INPUT_NAME
    assert types(model)[INPUT_NAME] == TensorProto.UINT8
    x = preprocess(frame(100), artifact.record.input)
    assert np.array_equal(x[0], frame(100))
    found = run(model, x)[0].transpose(1, 2, 0)
    assert np.abs(found - expected(rewritten().graph, frame(100))).max() <= 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_same_integers_as_in_the_tflite_file(shelf: Shelf, variant: str) -> None:
    model = onnx.load(shelf.artifact(Format.ONNX, INT8, variant=variant).path)
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    file = TfliteFile(shelf.artifact(Format.TFLITE, INT8, variant=variant).path.read_bytes())
    kernels = list(file.kernels())
    assert len(kernels) == sum(node.op in CONVOLUTIONS for node in rewritten(variant).graph)
    for operator, kernel, bias in kernels:
        assert kernel.data is not None
        ours = constants[kernel.name]
        # ONNX: (out, in / groups, kh, kw); TFLite: (out, kh, kw, in), depthwise (1, kh, kw, out).
        depthwise = operator.name == "DEPTHWISE_CONV_2D"
        theirs = kernel.data.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        assert np.array_equal(ours, theirs), kernel.name
        assert np.array_equal(constants[f"{kernel.name}_scale"], kernel.scales)
        assert np.array_equal(constants[bias.name], bias.data)
        assert np.allclose(constants[f"{bias.name}_scale"], bias.scales, rtol=1e-6)
    shared = 0
    for found in file.tensors:
        if f"{found.name}_scale" in constants and found.dtype == "int8" and found.data is None:
            assert found.zero_points is not None
            assert np.array_equal(constants[f"{found.name}_scale"], found.scales[0]), found.name  # type: ignore[index]
            # uint8 there, int8 here: the zero points differ by 128 and the real values do not.
            assert int(constants[f"{found.name}_scale_zero"]) == found.zero_points[0] + 128
            shared += 1
    assert shared > 40


def test_names_are_unique(shelf: Shelf) -> None:
    for precision in COMMON:
        model = onnx.load(shelf.artifact(Format.ONNX, precision).path)
        names = sorted(output for node in model.graph.node for output in node.output)
        assert all(first != second for first, second in pairwise(names))


@pytest.mark.parametrize("precision", COMMON)
def test_the_same_graph_gives_the_same_bytes(shelf: Shelf, precision: Precision) -> None:
    artifact = shelf.artifact(Format.ONNX, precision)
    calibration = calibrated() if precision is INT8 else None
    again = shelf.write(rewritten(), calibration, Format.ONNX, precision)
    assert again.path.read_bytes() == artifact.path.read_bytes()
