"""TFLite files of random networks: what they hold, that every engine loads them, what they compute."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge.bundle import Artifact
from nanonet_edge.export.calibration import Calibration, calibrate
from nanonet_edge.export.quantization import plan_activations
from nanonet_edge.export.tflite_graph import TfliteWriter
from nanonet_edge.export.writers import Boundary
from nanonet_edge.graph import CONVOLUTIONS, Graph, GraphError, Node
from nanonet_edge.interpreter import evaluate
from nanonet_edge.passes import Rewritten, rewrite
from nanonet_edge.runtimes import open_runtime, runtimes_for
from nanonet_edge.variants import Format, Head, Precision, Topology
from tests.export.networks import (
    VARIANTS,
    Shelf,
    Tensor,
    calibrated,
    calibration_frames,
    expected,
    frame,
    judges,
    network,
    rewritten,
    tensor,
    with_weights,
)
from tests.export.tflite_file import TfliteFile, interpreter, run

#: Probabilities of these random networks, against the float graph. Weights of int8 and ranges from
#: eight frames cost a few hundredths at the worst pixel.
WORST = {
    Precision.FP32: 1e-5,
    Precision.FP16: 5e-3,
    Precision.DYNAMIC_WI8: 0.05,
    Precision.STATIC_WI8_AI8: 0.15,
    Precision.STATIC_WI8_AI16: 0.1,
}
MEAN = {
    Precision.FP32: 1e-6,
    Precision.FP16: 1e-3,
    Precision.DYNAMIC_WI8: 0.01,
    Precision.STATIC_WI8_AI8: 0.03,
    Precision.STATIC_WI8_AI16: 0.01,
}
#: `mixed` is written by another writer; see test_mixed.
UNIFORM = tuple(precision for precision in Precision if precision is not Precision.MIXED)
STATIC = (Precision.STATIC_WI8_AI8, Precision.STATIC_WI8_AI16)
DEAD = ("bridge", "decoder_1", "decoder_2", "decoder_3")


def parsed(artifact: Artifact) -> TfliteFile:
    return TfliteFile(artifact.path.read_bytes())


@pytest.mark.parametrize("precision", UNIFORM)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_engine_computes_the_network(shelf: Shelf, variant: str, precision: Precision) -> None:
    artifact = shelf.artifact(Format.TFLITE, precision, variant=variant)
    truth = np.stack([expected(rewritten(variant).graph, image) for image in judges()])
    runs = [("litert", 1), ("litert", 2), ("litert:no-xnnpack", 1), ("litert:no-xnnpack", 2)]
    if "tflite-runtime" in runtimes_for(Format.TFLITE):
        runs += [("tflite-runtime", 1), ("tflite-runtime:no-xnnpack", 2)]
    for spec, threads in runs:
        with open_runtime(artifact, spec, threads) as runtime:
            found = np.stack([runtime.probability(image) for image in judges()])
        difference = np.abs(found - truth)
        assert difference.max() <= WORST[precision], (spec, threads)
        assert difference.mean() <= MEAN[precision], (spec, threads)


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("classes", [1, 3])
def test_topologies_and_classes_in_fp32(shelf: Shelf, topology: Topology, classes: int) -> None:
    rewriting = rewritten("c", classes, topology)
    artifact = shelf.write(rewriting, None, Format.TFLITE, Precision.FP32)
    with open_runtime(artifact, "litert") as runtime:
        for image in judges():
            assert np.abs(runtime.probability(image) - expected(rewriting.graph, image)).max() <= 1e-5


def test_the_default_size_fits_too() -> None:
    graph = rewritten().graph.with_size(256)
    x = tensor(frame(0, 256), 256)
    found = run(TfliteWriter(graph, Precision.FP32).build(), x)
    assert np.abs(found - evaluate(graph, x)).max() <= 1e-5


@pytest.mark.parametrize("precision", UNIFORM)
@pytest.mark.parametrize("variant", VARIANTS)
def test_form_of_the_file(shelf: Shelf, variant: str, precision: Precision) -> None:
    artifact = shelf.artifact(Format.TFLITE, precision, variant=variant)
    file = parsed(artifact)
    assert file.identifier == b"TFL3"
    assert {offset % 16 for offset, _ in file.buffer_positions()} == {0}
    assert file.signatures == {
        "serving_default": ({"frame": file.inputs[0]}, {"probability": file.outputs[0]})
    }
    assert file.tensors[file.inputs[0]].shape == artifact.record.input.shape
    assert file.tensors[file.outputs[0]].shape == artifact.record.output.shape
    assert all(size > 0 for found in file.tensors for size in found.shape)
    # Nothing that a Dense, a concatenation or a padding would leave behind.
    junk = {"SHAPE", "GATHER", "PACK", "REDUCE_PROD", "RESHAPE", "CONCATENATION", "PAD", "TRANSPOSE"}
    assert not junk & set(file.names())


def is_shape_constant(file: TfliteFile, index: int) -> bool:
    """An int32 constant that tells an operator a size or an axis."""
    found = file.tensors[index]
    return found.dtype == "int32" and found.data is not None and found.scales is None


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_int8_is_integer_throughout(shelf: Shelf, variant: str, dtype: str) -> None:
    boundary = Boundary(input_dtype=dtype)  # type: ignore[arg-type]
    artifact = shelf.artifact(Format.TFLITE, Precision.STATIC_WI8_AI8, variant=variant, boundary=boundary)
    file = parsed(artifact)
    assert file.dtypes() == {"int8", "int32"} | ({"uint8"} if dtype == "uint8" else set())
    assert file.tensors[file.inputs[0]].dtype == file.tensors[file.outputs[0]].dtype == dtype
    biases = {operator.inputs[2] for operator in file.operators if "CONV" in operator.name}
    for operator in file.operators:
        for index in operator.inputs:
            found = file.tensors[index]
            if found.dtype == "int32":
                assert index in biases or is_shape_constant(file, index), found.name
            else:
                assert found.dtype in ("int8", "uint8"), found.name
                assert found.scales is not None, found.name
        assert all(file.tensors[index].dtype in ("int8", "uint8") for index in operator.outputs)
    assert file.names().count("QUANTIZE") == (2 if dtype == "uint8" else 0)
    assert "DEQUANTIZE" not in file.names()


@pytest.mark.parametrize("variant", VARIANTS)
def test_16x8_has_no_float_tensor(shelf: Shelf, variant: str) -> None:
    file = parsed(shelf.artifact(Format.TFLITE, Precision.STATIC_WI8_AI16, variant=variant))
    assert file.dtypes() == {"int16", "int8", "int32", "int64"}
    for _, kernel, bias in file.kernels():
        assert (kernel.dtype, bias.dtype) == ("int8", "int64")
    for found in file.tensors:
        if found.dtype == "int16":
            assert found.zero_points is not None
            assert not found.zero_points.any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_scales_obey_the_quantization_specification(shelf: Shelf, variant: str) -> None:
    """Per-channel symmetric weights; a bias in units of input scale x weight scale; fixed outputs."""
    file = parsed(shelf.artifact(Format.TFLITE, Precision.STATIC_WI8_AI8, variant=variant))
    for operator, kernel, bias in file.kernels():
        source = file.tensors[operator.inputs[0]]
        assert kernel.data is not None
        assert kernel.scales is not None
        assert kernel.zero_points is not None
        assert source.scales is not None
        assert bias.scales is not None
        assert kernel.axis == (3 if operator.name == "DEPTHWISE_CONV_2D" else 0)
        assert len(kernel.scales) == kernel.shape[kernel.axis] == bias.shape[0]
        assert not kernel.zero_points.any()
        assert kernel.data.min() >= -127
        assert np.allclose(bias.scales, source.scales * kernel.scales, rtol=1e-6)
        assert (np.isfinite(kernel.scales) & (kernel.scales > np.finfo(np.float32).tiny)).all()
    for operator in file.operators:
        source, target = file.tensors[operator.inputs[0]], file.tensors[operator.outputs[0]]
        if operator.name == "LOGISTIC":
            assert (target.scales, target.zero_points) == ([np.float32(1 / 256)], [-128])
        if operator.name == "RESIZE_BILINEAR":
            assert (source.scales, source.zero_points) == (target.scales, target.zero_points)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.STATIC_WI8_AI8])
@pytest.mark.parametrize("variant", VARIANTS)
def test_xnnpack_takes_the_whole_graph_in_one_piece(shelf: Shelf, variant: str, precision: Precision) -> None:
    artifact = shelf.artifact(Format.TFLITE, precision, variant=variant)
    made = interpreter(artifact.path.read_bytes())
    assert [op["op_name"] for op in made._get_ops_details()].count("DELEGATE") == 1
    with open_runtime(artifact, "litert") as runtime:
        assert runtime.info.delegate == "XNNPACK"


def test_fp16_weights_are_halves_and_fold_away(shelf: Shelf) -> None:
    artifact = shelf.artifact(Format.TFLITE, Precision.FP16)
    file = parsed(artifact)
    assert all(found.dtype != "float32" for found in file.tensors if found.data is not None)
    halves = [found for found in file.tensors if found.dtype == "float16"]
    convolutions = sum(node.op in CONVOLUTIONS for node in rewritten().graph)
    assert len(halves) == 2 * convolutions == file.names().count("DEQUANTIZE")
    plain = shelf.artifact(Format.TFLITE, Precision.FP32)
    assert artifact.record.bytes < 0.7 * plain.record.bytes


def test_dynamic_weights_are_integers_where_they_weigh(shelf: Shelf) -> None:
    file = parsed(shelf.artifact(Format.TFLITE, Precision.DYNAMIC_WI8, variant="a"))
    stored = {}
    for operator, kernel, bias in file.kernels():
        wanted = operator.name == "CONV_2D" and np.prod(kernel.shape) >= 1024
        assert kernel.dtype == ("int8" if wanted else "float32"), kernel.name
        assert bias.dtype == "float32"
        stored[kernel.dtype] = stored.get(kernel.dtype, 0) + int(np.prod(kernel.shape))
    assert stored["int8"] > 0.9 * sum(stored.values())
    assert all(found.dtype == "float32" for found in file.tensors if found.data is None)


def test_operators_carry_their_options(shelf: Shelf) -> None:
    file = parsed(shelf.artifact(Format.TFLITE, Precision.FP32))
    resizes = [operator.options for operator in file.operators if operator.name == "RESIZE_BILINEAR"]
    assert len(resizes) == 3
    assert all(options.halfPixelCenters and not options.alignCorners for options in resizes)
    means = [operator.options for operator in file.operators if operator.name == "MEAN"]
    assert len(means) == 4
    assert all(options.keepDims for options in means)


@cache
def with_dead_unit(stage: str) -> tuple[Rewritten, Calibration]:
    """A squeeze-and-excitation unit whose input is never negative and whose weights always are."""
    straight = network()
    name = f"{stage}_excite1"
    kernel = -np.abs(straight[name].weights["kernel"])
    rewriting = rewrite(with_weights(straight, {name: {"kernel": kernel}}))
    return rewriting, calibrate(rewriting.graph, calibration_frames(3), "min-max")


@pytest.mark.parametrize("precision", STATIC)
@pytest.mark.parametrize("stage", DEAD)
def test_a_dead_squeeze_and_excitation_unit(shelf: Shelf, stage: str, precision: Precision) -> None:
    """Its range is 0: with the scale that follows, XNNPACK refuses the whole graph."""
    rewriting, calibration = with_dead_unit(stage)
    assert calibration.ranges[f"{stage}_excite1_relu"] == (0.0, 0.0)
    artifact = shelf.write(rewriting, calibration, Format.TFLITE, precision)
    truth = np.stack([expected(rewriting.graph, image) for image in judges()])
    for spec in ("litert", "litert:no-xnnpack"):
        with open_runtime(artifact, spec) as runtime:
            found = np.stack([runtime.probability(image) for image in judges()])
            if precision is Precision.STATIC_WI8_AI8 and spec == "litert":
                assert runtime.info.delegate == "XNNPACK"
        assert np.abs(found - truth).mean() <= MEAN[precision]


def planted(node: Node, plant: str) -> dict[str, npt.NDArray[np.float32]]:
    """The node's weights with something awkward in its second output channel."""
    kernel, bias = node.weights["kernel"].copy(), node.bias.copy()
    channel = kernel[:, :, 1] if node.op == "depthwise_conv2d" else kernel[..., 1]
    if plant == "all-zero channel":
        channel[...] = 0
    elif plant == "tiny weights, large bias":
        channel *= 1e-9
        bias[1] = 50.0
    elif plant == "denormal weights":
        channel *= 1e-40
    else:  # a constant tensor
        kernel[...] = 0
        bias[...] = 0.75
    return {"kernel": kernel, "bias": bias}


@pytest.mark.parametrize(
    "plant", ["all-zero channel", "tiny weights, large bias", "denormal weights", "constant tensor"]
)
@pytest.mark.parametrize("where", ["decoder_2_conv2_relu", "block_3_depthwise_relu6"])
def test_awkward_channels(shelf: Shelf, where: str, plant: str) -> None:
    graph = rewritten().graph
    changed = Rewritten(with_weights(graph, {where: planted(graph[where], plant)}), rewritten().applied)
    calibration = calibrate(changed.graph, calibration_frames(3), "min-max")
    truth = np.stack([expected(changed.graph, image) for image in judges()])
    for precision in STATIC:
        artifact = shelf.write(changed, calibration, Format.TFLITE, precision)
        for _, kernel, bias in parsed(artifact).kernels():
            assert kernel.scales is not None
            assert bias.data is not None
            assert (kernel.scales > np.finfo(np.float32).tiny).all()
            assert np.abs(bias.data).max() < 2**31
        for spec in ("litert", "litert:no-xnnpack"):
            with open_runtime(artifact, spec) as runtime:
                found = np.stack([runtime.probability(image) for image in judges()])
            # A bias of 50 takes the range of the tensor's other channels.
            loss = 4 if "large bias" in plant else 1
            assert np.abs(found - truth).mean() <= MEAN[precision] * loss, (precision, spec)


def test_edge_pad_and_depth_to_space() -> None:
    """Operations that the default passes leave out; DEPTH_TO_SPACE has no 16-bit kernel."""
    generator = np.random.default_rng(3)
    kernel = generator.normal(0, 0.3, (3, 3, 3, 8)).astype(np.float32)
    nodes = (
        Node("input", "input", attributes={"size": 32, "channels": 3}),
        Node("padded", "edge_pad", ("input",)),
        Node("conv", "conv2d", ("padded",), {"kernel": kernel}, {"strides": 1, "padding": "valid"}),
        Node("wide", "depth_to_space", ("conv",)),
        Node("probability", "sigmoid", ("wide",)),
    )
    graph = Graph(nodes, "probability")
    x = tensor(frame(3), 32)
    truth = evaluate(graph, x)
    ranges = {node.name: (-3.0, 3.0) for node in graph}
    for precision in (Precision.FP32, Precision.FP16, Precision.STATIC_WI8_AI8):
        plan = plan_activations(graph, ranges) if precision.is_static else None
        data = TfliteWriter(graph, precision, plan=plan).build()
        for xnnpack in (True, False):
            assert np.abs(run(data, x, xnnpack=xnnpack) - truth).max() <= 0.02, precision


def test_graphs_that_have_no_tflite_form_are_refused() -> None:
    with pytest.raises(GraphError, match="has no TFLite form: rewrite the graph first"):
        TfliteWriter(network(), Precision.FP32).build()


def test_a_plan_belongs_to_static_precisions_alone() -> None:
    graph = rewritten().graph
    with pytest.raises(ValueError, match="static_wi8_ai8 needs quantization plan"):
        TfliteWriter(graph, Precision.STATIC_WI8_AI8)
    plan = plan_activations(graph, calibrated().ranges)
    with pytest.raises(ValueError, match="fp32 takes no quantization plan"):
        TfliteWriter(graph, Precision.FP32, plan=plan)


@pytest.mark.parametrize("precision", UNIFORM)
def test_the_same_graph_gives_the_same_bytes(shelf: Shelf, precision: Precision) -> None:
    artifact = shelf.artifact(Format.TFLITE, precision)
    calibration = calibrated() if precision not in (Precision.FP32, Precision.FP16) else None
    again = shelf.write(rewritten(), calibration, Format.TFLITE, precision)
    assert again.path.read_bytes() == artifact.path.read_bytes()


@pytest.mark.parametrize("classes", [1, 3])
def test_a_mask_needs_no_sigmoid(shelf: Shelf, classes: int) -> None:
    artifact = shelf.artifact(
        Format.TFLITE, Precision.FP32, classes=classes, boundary=Boundary(head=Head.MASK)
    )
    names = parsed(artifact).names()
    assert names[-2:] == (["GREATER", "CAST"] if classes == 1 else ["ARG_MAX", "CAST"])
    assert "SOFTMAX" not in names
    gates = sum(node.op == "sigmoid" for node in rewritten("c", classes).graph) - (classes == 1)
    assert names.count("LOGISTIC") == gates


def test_frames_of_any_size_go_through_the_contract(shelf: Shelf) -> None:
    big: Tensor = expected(rewritten().graph, frame(5, 352))
    with open_runtime(shelf.artifact(Format.TFLITE, Precision.FP32), "litert") as runtime:
        assert np.abs(runtime.probability(frame(5, 352)) - big).max() <= 1e-5


def test_dynamic_wi8_rounds_only_what_it_stores_in_integers(shelf: Shelf) -> None:
    file = parsed(shelf.artifact(Format.TFLITE, Precision.DYNAMIC_WI8))
    prepared = replace(rewritten(), graph=calibrated().prepared)
    full = parsed(shelf.write(prepared, None, Format.TFLITE, Precision.FP32))
    kernels = {kernel.name: kernel for _, kernel, _ in full.kernels()}
    kept = [kernel for _, kernel, _ in file.kernels() if kernel.dtype == "float32"]
    assert kept
    for kernel in kept:
        assert np.array_equal(kernel.data, kernels[kernel.name].data), kernel.name
