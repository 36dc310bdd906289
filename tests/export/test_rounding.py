"""Rounded weights keep a layer's output better than nearest rounding does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge.export.quantization import kernel_scales
from nanonet_edge.export.rounding import MomentCollector, Moments, round_weights
from nanonet_edge.graph import Graph, Node
from nanonet_edge.interpreter import evaluate
from tests.export.networks import calibrated, rewritten

Array = npt.NDArray[np.float32]

SIZE = 24
CHANNELS = 12
CASES = ("pointwise", "conv 3x3", "strided", "depthwise")


def layer(case: str, seed: int = 0) -> Graph:
    """An input and one convolution with random weights."""
    generator = np.random.default_rng(seed)
    width = 1 if case == "pointwise" else 3
    out = 1 if case == "depthwise" else 8
    weights = {
        "kernel": generator.normal(0, 1, (width, width, CHANNELS, out)).astype(np.float32),
        "bias": generator.normal(0, 1, CHANNELS if case == "depthwise" else out).astype(np.float32),
    }
    op = "depthwise_conv2d" if case == "depthwise" else "conv2d"
    attributes = {"strides": 2 if case == "strided" else 1, "padding": "same"}
    nodes = (
        Node("input", "input", attributes={"size": SIZE, "channels": CHANNELS}),
        Node("layer", op, ("input",), weights, attributes),
    )
    return Graph(nodes, "layer")


def correlated(count: int, seed: int) -> Array:
    """Inputs whose channels and neighbours move together, as activations do: (n, H, W, C)."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(0, 1, (3, CHANNELS))
    coarse = generator.normal(0, 1, (count, SIZE // 4, SIZE // 4, 3))
    smooth = coarse.repeat(4, axis=1).repeat(4, axis=2) @ mixing
    return np.asarray(np.maximum(smooth + 0.1 * generator.normal(0, 1, smooth.shape), 0), np.float32)


def moments_of(graph: Graph, inputs: Array, positions: int = 10**6) -> dict[str, Moments]:
    collector = MomentCollector(graph, positions=positions)
    for x in inputs:
        collector.add({graph.input.name: x.transpose(2, 0, 1)[np.newaxis]})
    return collector.moments()


def nearest(graph: Graph) -> Graph:
    """Each weight rounded to the nearest integer, with the scale that clips nothing."""
    node = graph["layer"]
    kernel = node.weights["kernel"]
    scales = kernel_scales(node)
    per_channel = scales.reshape(kernel.shape[2:]) if node.op == "depthwise_conv2d" else scales
    rounded = (np.rint(kernel / per_channel) * per_channel).astype(np.float32)
    return Graph((graph.input, node.but(weights={**node.weights, "kernel": rounded})), "layer")


@pytest.mark.parametrize("case", CASES)
def test_weights_are_integers_of_eight_bits(case: str) -> None:
    graph = layer(case)
    node = round_weights(graph, moments_of(graph, correlated(4, 1)))["layer"]
    scales = np.asarray(node.attributes["kernel_scales"])
    kernel = node.weights["kernel"]
    stored = kernel / (scales.reshape(kernel.shape[2:]) if case == "depthwise" else scales)
    assert np.abs(stored - np.rint(stored)).max() < 1e-3
    assert np.abs(np.rint(stored)).max() <= 127
    # Every channel uses its integers: a scale that is too large would waste them.
    assert (np.abs(stored).reshape(-1, len(scales)).max(axis=0) > 60).all()


@pytest.mark.parametrize("case", CASES)
def test_the_output_on_held_out_inputs_is_nearer_than_by_nearest_rounding(case: str) -> None:
    graph = layer(case)
    held_out = correlated(6, seed=50)
    rounded = round_weights(graph, moments_of(graph, correlated(6, seed=1)))
    truth = evaluate(graph, held_out)
    ours = np.square(evaluate(rounded, held_out) - truth).mean()
    plain = np.square(evaluate(nearest(graph), held_out) - truth).mean()
    # Nine weights of a depthwise channel leave less to make up for than a hundred do.
    assert ours < plain * (0.9 if case == "depthwise" else 0.6)


@pytest.mark.parametrize("case", CASES)
def test_bias_correction_leaves_no_mean_error(case: str) -> None:
    graph, inputs = layer(case), correlated(4, 1)
    rounded = round_weights(graph, moments_of(graph, inputs))
    error = (evaluate(rounded, inputs) - evaluate(graph, inputs)).mean(axis=(0, 1, 2))
    uncorrected = rounded["layer"].but(
        weights={**rounded["layer"].weights, "bias": graph["layer"].weights["bias"]}
    )
    before = evaluate(Graph((graph.input, uncorrected), "layer"), inputs) - evaluate(graph, inputs)
    assert np.abs(error).max() < 1e-4
    assert np.abs(before.mean(axis=(0, 1, 2))).max() > 10 * np.abs(error).max()


@pytest.mark.parametrize("case", CASES)
def test_moments_are_those_of_the_windows(case: str) -> None:
    """With the kernel as a projection, outputs have the mean and variance that moments predict."""
    graph, inputs = layer(case), correlated(3, 1)
    moments = moments_of(graph, inputs)["layer"]
    node = graph["layer"]
    outputs = evaluate(graph, inputs) - node.bias
    outputs = outputs.reshape(-1, outputs.shape[-1]).astype(np.float64)
    kernel = node.weights["kernel"].astype(np.float64)
    if case == "depthwise":
        flat = kernel.transpose(2, 0, 1, 3).reshape(CHANNELS, 9)
        mean = np.einsum("ci,ci->c", moments.mean, flat)
        variance = np.einsum("ci,cij,cj->c", flat, moments.covariance(), flat)
    else:
        # Collected windows are (kh, kw, in), as a kernel is stored.
        flat = kernel.reshape(-1, kernel.shape[3])
        mean = moments.mean @ flat
        variance = np.einsum("io,ij,jo->o", flat, moments.covariance(), flat)
    assert moments.count == len(outputs)
    assert mean == pytest.approx(outputs.mean(axis=0), rel=1e-4, abs=1e-4)
    assert variance == pytest.approx(outputs.var(axis=0), rel=1e-3)


def test_a_sample_of_positions_is_drawn_by_the_seed() -> None:
    graph, inputs = layer("conv 3x3"), correlated(2, 1)
    one, same = (moments_of(graph, inputs, positions=50)["layer"] for _ in range(2))
    assert one.count == 100
    assert np.array_equal(one.second, same.second)
    other = MomentCollector(graph, positions=50, seed=1)
    for x in inputs:
        other.add({"input": x.transpose(2, 0, 1)[np.newaxis]})
    assert not np.array_equal(one.second, other.moments()["layer"].second)


@pytest.mark.parametrize("case", CASES)
def test_rounding_is_deterministic(case: str) -> None:
    graph, inputs = layer(case), correlated(2, 1)
    first, second = (round_weights(graph, moments_of(graph, inputs))["layer"] for _ in range(2))
    assert np.array_equal(first.weights["kernel"], second.weights["kernel"])
    assert np.array_equal(first.weights["bias"], second.weights["bias"])


@pytest.mark.parametrize("case", CASES)
def test_inputs_that_never_vary_do_no_harm(case: str) -> None:
    """A dead layer before: the covariance is all zeros."""
    graph = layer(case)
    rounded = round_weights(graph, moments_of(graph, np.zeros((2, SIZE, SIZE, CHANNELS), np.float32)))
    difference = rounded["layer"].weights["kernel"] - graph["layer"].weights["kernel"]
    assert np.abs(difference).max() <= kernel_scales(graph["layer"]).max()
    assert np.array_equal(rounded["layer"].weights["bias"], graph["layer"].weights["bias"])


def test_a_channel_of_zeros_stays_zero() -> None:
    graph = layer("conv 3x3")
    kernel = graph["layer"].weights["kernel"].copy()
    kernel[..., 2] = 0
    changed = graph["layer"].but(weights={**graph["layer"].weights, "kernel": kernel})
    graph = Graph((graph.input, changed), "layer")
    rounded = round_weights(graph, moments_of(graph, correlated(2, 1)))["layer"]
    assert not rounded.weights["kernel"][..., 2].any()
    assert rounded.weights["bias"][2] == graph["layer"].weights["bias"][2]


def test_every_convolution_of_a_network_is_rounded_and_nothing_else() -> None:
    before, after = rewritten().graph, calibrated().graph
    assert [node.name for node in before] == [node.name for node in after]
    for old, new in zip(before, after, strict=True):
        assert ("kernel_scales" in new.attributes) == ("kernel" in old.weights)
        assert new.inputs == old.inputs
        assert new.activation == old.activation
