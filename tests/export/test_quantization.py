"""Integers stand for the reals they should, and every format's engine can take them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.export.quantization import (
    MINIMUM_SPAN,
    Quantization,
    as_uint8,
    boundary,
    kernel_scales,
    plan_activations,
    quantize_weights,
)
from nanonet_edge.graph import CONVOLUTIONS, Graph, Node
from tests.export.networks import calibrated, network, rewritten

INT32_MAX = 2**31 - 1
#: A scale is kept as float32, as files keep it.
ROUNDING = 1 + 1e-4

magnitudes = st.floats(1e-6, 1e6)
ranges = st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)).map(sorted)


def dequantize(stored: np.ndarray, quantization: Quantization) -> np.ndarray:
    return (stored.astype(np.float64) - quantization.zero_point) * quantization.scale


def graph_with(kernel: np.ndarray, bias: np.ndarray | None = None) -> Graph:
    """Input, one 1x1 convolution, one multiplication of the result with itself."""
    weights = {"kernel": np.asarray(kernel, np.float32)}
    if bias is not None:
        weights["bias"] = np.asarray(bias, np.float32)
    nodes = (
        Node("input", "input", attributes={"size": 32, "channels": 3}),
        Node("conv", "conv2d", ("input",), weights, {"strides": 1, "padding": "same"}),
        Node("square", "multiply", ("conv", "conv")),
    )
    return Graph(nodes, "square")


def plan_for(low: float, high: float, dtype: str = "int8") -> Quantization:
    """How a tensor with that range is stored where no accumulator sets a floor."""
    graph = graph_with(np.ones((1, 1, 3, 1)))
    spans = {"input": (0.0, 1.0), "conv": (0.0, 1.0), "square": (low, high)}
    return plan_activations(graph, spans, dtype)["square"]


@given(ranges, st.sampled_from(["int8", "int16"]), st.floats(0, 1))
def test_values_inside_the_range_come_back_within_half_a_step(
    span: tuple[float, float], dtype: str, where: float
) -> None:
    low, high = span
    quantization = plan_for(low, high, dtype)
    real = np.array([low, high, low + where * (high - low)])
    error = np.abs(dequantize(quantization.quantize(real), quantization) - real)
    assert (error <= quantization.scale / 2 * ROUNDING).all()


@given(ranges, st.sampled_from(["int8", "int16"]))
def test_zero_is_exact_and_the_scale_is_one_that_engines_take(span: tuple[float, float], dtype: str) -> None:
    quantization = plan_for(*span, dtype)
    info = np.iinfo(dtype)
    assert info.min <= quantization.zero_point <= info.max
    assert dequantize(quantization.quantize(np.zeros(1)), quantization)[0] == 0.0
    assert quantization.scale * (255 if dtype == "int8" else 2 * 32767) >= MINIMUM_SPAN / ROUNDING
    if dtype == "int16":
        assert quantization.zero_point == 0


@given(ranges, st.lists(st.floats(-2e4, 2e4), min_size=1, max_size=20))
def test_signed_and_unsigned_storage_mean_the_same(span: tuple[float, float], values: list[float]) -> None:
    signed = plan_for(*span)
    unsigned = boundary(signed, "uint8")
    real = np.array(values)
    assert unsigned.dtype == "uint8"
    assert np.array_equal(
        dequantize(signed.quantize(real), signed), dequantize(unsigned.quantize(real), unsigned)
    )
    assert boundary(unsigned, "int8") == signed
    assert boundary(signed, "int8") is signed


def test_16_bits_have_no_8_bit_edge() -> None:
    with pytest.raises(ValueError, match="int16 cannot be stored as int8"):
        boundary(plan_for(0.0, 3.0, "int16"), "int8")


def test_pixels_and_probabilities_have_their_fixed_units() -> None:
    plan = plan_activations(rewritten().graph, calibrated().ranges)
    pixels = dequantize(plan["input_image"].quantize(np.arange(256) / 255), plan["input_image"])
    assert np.abs(pixels - np.arange(256) / 255).max() < 1e-6
    assert plan["probability"] == Quantization(1 / 256, -128, "int8")
    assert plan["decoder_1_gate"] == Quantization(1 / 256, -128, "int8")
    wide = plan_activations(rewritten().graph, calibrated().ranges, "int16")
    assert wide["probability"] == Quantization(1 / 32768, 0, "int16")


def test_every_tensor_of_a_network_has_a_plan_and_resized_ones_share_it() -> None:
    graph = rewritten().graph
    plan = plan_activations(graph, calibrated().ranges)
    assert plan.keys() == {node.name for node in graph}
    resized = [node for node in graph if node.op == "upsample_bilinear"]
    assert len(resized) == 3
    for node in resized:
        assert plan[node.name] is plan[node.inputs[0]]
    unsigned = as_uint8(plan)
    assert {q.dtype for q in unsigned.values()} == {"uint8"}
    assert all(unsigned[name].scale == q.scale for name, q in plan.items())


def test_no_output_unit_is_finer_than_the_accumulator() -> None:
    graph = graph_with(np.full((1, 1, 3, 2), 12.7), bias=np.zeros(2))
    spans = {"input": (0.0, 1.0), "conv": (0.0, 1e-6), "square": (0.0, 1.0)}
    plan = plan_activations(graph, spans)
    accumulator = plan["input"].scale * 12.7 / 127
    assert plan["conv"].scale == pytest.approx(accumulator)


def test_a_whole_network_keeps_to_that_floor() -> None:
    graph = calibrated().graph
    plan = plan_activations(graph, dict.fromkeys(calibrated().ranges, (0.0, 1e-9)))
    for node in graph:
        if node.op in CONVOLUTIONS:
            unit = plan[node.inputs[0]].scale * kernel_scales(node).max()
            assert plan[node.name].scale >= unit / ROUNDING, node.name


@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_weights_are_symmetric_and_within_half_a_step(rows: list[list[float]]) -> None:
    kernel = np.array(rows, np.float32).T.reshape(1, 1, 3, -1)
    weights = quantize_weights(graph_with(kernel)["conv"])
    assert weights.kernel.dtype == np.int8
    assert weights.kernel.min() >= -127
    assert (weights.scales > 0).all()
    error = np.abs(weights.kernel * weights.scales.astype(np.float64) - kernel)
    assert (error <= weights.scales / 2 * ROUNDING + 1e-37).all()


@given(magnitudes, magnitudes, st.floats(1e-6, 1.0))
def test_a_bias_fits_its_32_bits_whatever_the_weights(weight: float, bias: float, input_scale: float) -> None:
    kernel = np.array([weight * 1e-6, weight * 1e-6, weight * 1e-6, 1.0, 1.0, 1.0]).reshape(1, 1, 2, 3)
    node = graph_with(np.concatenate([kernel, kernel[:, :, :1]], axis=2), [bias, -bias, bias])["conv"]
    weights = quantize_weights(node, input_scale)
    assert np.abs(weights.bias).max() <= INT32_MAX
    unit = input_scale * weights.scales.astype(np.float64)
    assert (np.abs(weights.bias * unit - node.bias) <= unit / 2 * ROUNDING + 1e-6 * np.abs(node.bias)).all()


def test_an_all_zero_channel_takes_an_ordinary_scale() -> None:
    kernel = np.zeros((1, 1, 3, 2))
    kernel[..., 1] = 2.54
    weights = quantize_weights(graph_with(kernel)["conv"])
    assert not weights.kernel[..., 0].any()
    assert weights.scales == pytest.approx([0.02, 0.02])
    assert quantize_weights(graph_with(np.zeros((1, 1, 3, 2)))["conv"]).scales == pytest.approx([1 / 127] * 2)


def test_weights_that_were_rounded_before_keep_their_integers() -> None:
    for node in calibrated().graph:
        if "kernel_scales" in node.attributes:
            scales = np.asarray(node.attributes["kernel_scales"])
            channels = scales.reshape(node.weights["kernel"].shape[2:]) if "depth" in node.op else scales
            again = quantize_weights(node)
            assert np.abs(node.weights["kernel"] / channels - again.kernel).max() < 1e-3
            assert np.array_equal(again.scales, scales.astype(np.float32))


def test_depthwise_kernels_have_a_scale_per_channel() -> None:
    node = next(n for n in network("a") if n.op == "depthwise_conv2d")
    weights = quantize_weights(node)
    kernel = node.weights["kernel"]
    assert weights.scales == pytest.approx(np.abs(kernel).max(axis=(0, 1)).ravel() / 127)
    assert weights.kernel.shape == kernel.shape


def test_sixteen_bits_have_room_beyond_ranges_that_were_clipped_for_eight() -> None:
    graph = rewritten().graph
    ranges = {node.name: (-1.0, 1.0) for node in graph}
    plan = plan_activations(graph, ranges, "int16")
    for node in graph:
        if node.op == "add":
            assert plan[node.name].scale * 32767 >= 4.0
