"""The simulation is the artifact: its float form the NumPy interpreter's, its integers the engines'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.blame.channels import scale_like
from nanonet_edge.benchmarks.blame.network import Network, Step, Storage, channels_first
from nanonet_edge.benchmarks.blame.simulate import Simulator
from nanonet_edge.benchmarks.blame.subject import Subject, find_subject
from nanonet_edge.benchmarks.full_precision import FULL_PRECISION
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.contract import preprocess, to_probability
from nanonet_edge.export.quantization import Quantization
from nanonet_edge.export.writers import Boundary
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import Format, Precision
from tests.benchmarks.blame.bundles import INT8, write_bundle
from tests.export.networks import calibrated, expected, judges, rewritten

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("blame") / "nanonet-c")


def look_into(bundle: Bundle, file_format: Format) -> tuple[Artifact, Subject]:
    artifact = next(one for one in bundle.artifacts if one.record.format is file_format)
    return artifact, find_subject(bundle.root, artifact.name)


def answer(subject: Subject, simulator: Simulator, frame: npt.NDArray[np.uint8], **which: Any) -> Floats:
    output = simulator.model(**which)(preprocess(frame, subject.takes).astype(np.float32))[0]
    return to_probability(output, subject.gives(output.shape))


@pytest.mark.parametrize("file_format", Format)
def test_without_rounding_it_is_the_float_graph(bundle: Bundle, file_format: Format) -> None:
    _, subject = look_into(bundle, file_format)
    assert subject.float_weights
    simulator = Simulator(subject.network)
    for frame in judges():
        found = answer(subject, simulator, frame)
        assert np.abs(found - expected(rewritten().graph, frame)).max() < 1e-4


@pytest.mark.parametrize("file_format", Format)
def test_every_convolution_is_a_layer_with_its_weights(bundle: Bundle, file_format: Format) -> None:
    _, subject = look_into(bundle, file_format)
    layers = {layer.name: layer for layer in subject.network.layers()}
    for node in rewritten().graph:
        if "kernel" in node.weights:
            assert layers[node.name].parameters == node.weights["kernel"].size + node.bias.size
            assert layers[node.name].kernel in subject.network.floats
    if file_format is not Format.OPENVINO:
        # OpenVINO's plan leaves out what it never stores.
        assert len(layers) == len(rewritten().graph.nodes)


def forced(network: Network, values: dict[str, Floats]) -> Network:
    """Every stored tensor replaced by given values for its readers; what was computed ends in ``:own``."""
    made = replace(network, steps=[], kernels={}, points=dict(network.points))
    for step in network.steps:
        if step.output not in values:
            made.steps.append(step)
            if step.output in network.kernels:
                made.kernels[step.output] = network.kernels[step.output]
            continue
        own = f"{step.output}:own"
        made.steps.append(replace(step, output=own))
        made.points[own] = network.points[step.output]
        if step.output in network.kernels:
            made.kernels[own] = network.kernels[step.output]
        made.constants[f"{step.output}:given"] = values[step.output]
        made.steps.append(Step("Identity", (f"{step.output}:given",), step.output))
    return made


def tflite_tensors(artifact: Artifact, frame: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """Every activation of the built-in kernels as real numbers, channels first."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(artifact.path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"], preprocess(frame, artifact.record.input)
    )
    interpreter.invoke()
    found = {}
    for details in interpreter.get_tensor_details():
        if len(details["shape"]) == 4 and details["dtype"] is np.int8 and "kernel" not in details["name"]:
            scale, zero = details["quantization"]
            stored = interpreter.get_tensor(details["index"]).astype(np.float32)
            found[details["name"]] = ((stored - zero) * np.float32(scale)).transpose(0, 3, 1, 2)
    return found


def onnx_tensors(artifact: Artifact, frame: npt.NDArray[np.uint8]) -> dict[str, Floats]:
    """What every DequantizeLinear of an activation gives in onnxruntime, by the tensor before the pair."""
    import onnx
    import onnxruntime as ort

    model = onnx.load(artifact.path)
    quantized = {
        node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    pairs = {
        node.output[0]: quantized[node.input[0]]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantized
    }
    known = {output.name for output in model.graph.output}
    for name in pairs.keys() - known:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = list(pairs)
    values = session.run(names, {"frame": preprocess(frame, artifact.record.input)})
    return {pairs[name]: value for name, value in zip(names, values, strict=True)}


@pytest.mark.parametrize("file_format", [Format.TFLITE, Format.ONNX])
def test_every_tensor_is_the_engines_within_one_unit(bundle: Bundle, file_format: Format) -> None:
    artifact, subject = look_into(bundle, file_format)
    frame = judges()[0]
    read = tflite_tensors if file_format is Format.TFLITE else onnx_tensors
    values = {name: v for name, v in read(artifact, frame).items() if name in subject.network.points}
    assert len(values) >= len(subject.network.points) - 1
    # Each layer is given the engine's own inputs: differences do not add up.
    network = forced(subject.network, values)
    simulator = Simulator(network)
    own = [f"{name}:own" for name in values]
    model = simulator.model(simulator.layers, observed=own)
    _, *found = model(preprocess(frame, subject.takes).astype(np.float32))
    for name, value in zip(values, found, strict=True):
        apart = np.abs(value - values[name]) / subject.network.points[name].scale
        assert apart.max() < 1.01, name
        # Engines round ties and fixed-point products in their own ways, and LiteRT's mean rounds down.
        few = value.size < 100
        assert few or name.endswith("_reshape") or np.mean(apart > 0.5) < 0.1, name


def test_openvino_computes_the_very_integers(bundle: Bundle) -> None:
    artifact, subject = look_into(bundle, Format.OPENVINO)
    simulator = Simulator(subject.network)
    with open_runtime(artifact, "openvino:f32") as engine:
        for frame in judges():
            output = engine.invoke(preprocess(frame, engine.input))
            theirs = to_probability(output, engine.output)
            ours = answer(subject, simulator, frame, activations=simulator.layers)
            # But for ties: a sum of two parts may fall on either side of a half.
            assert np.mean(np.abs(ours - theirs) > 1 / 256) < 0.02
            assert np.abs(ours - theirs).max() < 0.1


@pytest.mark.parametrize("file_format", Format)
def test_other_ends_are_understood(tmp_path: Path, file_format: Format) -> None:
    boundary = Boundary(input_dtype="uint8", channel_order="rgb")
    bundle = write_bundle(tmp_path / "b", (file_format,), boundary=boundary)
    subject = find_subject(bundle.root)
    assert subject.float_weights
    simulator = Simulator(subject.network)
    frame = judges()[0]
    assert np.abs(answer(subject, simulator, frame) - expected(rewritten().graph, frame)).max() < 1e-4
    with open_runtime(subject.artifact) as engine:  # type: ignore[arg-type]
        theirs = to_probability(engine.invoke(preprocess(frame, engine.input)), engine.output)
    ours = answer(subject, simulator, frame, activations=simulator.layers)
    assert np.mean((ours > 0.5) == (theirs > 0.5)) > 0.97


def test_sixteen_bits_are_understood(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", (Format.TFLITE,), precisions=(Precision.STATIC_WI8_AI16,))
    subject = find_subject(bundle.root)
    simulator = Simulator(subject.network)
    assert {point.high for point in subject.network.points.values()} == {32767}
    with open_runtime(subject.artifact) as engine:  # type: ignore[arg-type]
        for frame in judges():
            theirs = to_probability(engine.invoke(preprocess(frame, engine.input)), engine.output)
            ours = answer(subject, simulator, frame, activations=simulator.layers)
            assert np.abs(ours - theirs).max() < 0.01


def test_scaled_channels_are_recognised(bundle: Bundle) -> None:
    """What export scaled before it rounded is scaled in the float network as well."""
    _, subject = look_into(bundle, Format.TFLITE)
    for layer in subject.network.layers():
        if layer.kernel is not None:
            exact, found = (
                channels_first(calibrated().prepared[layer.name]),
                subject.network.floats[layer.kernel],
            )
            assert np.linalg.norm(found - exact) < 0.05 * np.linalg.norm(exact), layer.name


def test_what_was_not_scaled_is_left_alone() -> None:
    graph = rewritten().graph
    network = Network("frame", (1, 64, 64, 3))
    for node in graph:
        if node.op in ("conv2d", "depthwise_conv2d"):
            noise = np.random.default_rng(0).normal(0, 0.005, channels_first(node).shape)
            network.constant(
                f"{node.name}:kernel", channels_first(node) + np.abs(channels_first(node)) * noise
            )
            network.add("Conv", ["x", f"{node.name}:kernel"], node.name)
    assert scale_like(network, graph) is graph


@pytest.mark.parametrize("file_format", Format)
def test_layers_in_float_are_none_to_blame(tmp_path: Path, file_format: Format) -> None:
    graph = rewritten().graph
    floats = frozenset(node.name for node in graph.nodes[12:40])
    bundle = write_bundle(tmp_path / "b", (file_format,), precisions=(Precision.MIXED,), floats=floats)
    subject = find_subject(bundle.root)
    assert subject.float_weights
    simulator = Simulator(subject.network)
    judged = {layer.name for layer in simulator.layers if layer.kernel is not None}
    assert judged == {node.name for node in graph if "kernel" in node.weights} - floats
    frame = judges()[0]
    # Where an integer layer and a float one share scaled channels, the factor is known as rounding left it.
    assert np.abs(answer(subject, simulator, frame) - expected(graph, frame)).max() < 0.02
    spec = FULL_PRECISION.get(str(file_format))
    with open_runtime(subject.artifact, spec) as engine:  # type: ignore[arg-type]
        theirs = to_probability(engine.invoke(preprocess(frame, engine.input)), engine.output)
    ours = answer(subject, simulator, frame, activations=simulator.layers)
    assert np.abs(ours - theirs).max() < 0.1
    assert np.mean((ours > 0.5) == (theirs > 0.5)) > 0.97


@given(
    st.floats(2**-13, 16, width=32),
    st.integers(-128, 127),
    st.lists(st.floats(-2000, 2000, width=32), min_size=1, max_size=20),
)
def test_storage_rounds_as_the_exporter_does(scale: float, zero: int, values: list[float]) -> None:
    real = np.array(values, np.float32)
    theirs = Quantization(scale, zero, "int8").quantize(real).astype(np.float64)
    ours = Storage.of(scale, zero, "int8").round(real)
    # One division is in float64, the other in float32: near a tie they may part by a unit.
    exact = np.asarray(real, np.float64) / scale
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    assert np.allclose(ours[~tie], ((theirs - zero) * scale)[~tie], rtol=1e-5, atol=1e-6)


def test_int8_is_what_the_bundle_has(bundle: Bundle) -> None:
    assert {artifact.record.precision for artifact in bundle.artifacts} == {INT8}
