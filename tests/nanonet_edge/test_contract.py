"""Frames to tensors and tensors to masks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

from nanonet_edge.contract import (
    Array,
    InputContract,
    OutputContract,
    dequantize,
    preprocess,
    quantize_pixels,
    to_mask,
    to_probability,
)
from nanonet_edge.errors import TensorError, UsageError
from nanonet_edge.variants import Head

INTEGERS = ("int8", "uint8", "int16")
LEVELS = np.arange(256, dtype=np.uint8)

frames = hnp.arrays(np.uint8, st.tuples(st.integers(1, 50), st.integers(1, 50), st.just(3)))


def takes(size: int = 32, **changes: Any) -> InputContract:
    shape = (1, 3, size, size) if changes.get("layout") == "nchw" else (1, size, size, 3)
    return InputContract(name="in", shape=shape, **changes)


def gives(output: Array, **changes: Any) -> OutputContract:
    return OutputContract.model_validate(
        {"name": "out", "shape": output.shape, "dtype": str(output.dtype), **changes}
    )


# Frames to tensors ----------------------------------------------------------------------------


@given(frames)
def test_a_frame_of_any_size_becomes_the_tensor_that_is_asked_for(frame: Array) -> None:
    tensor = preprocess(frame, takes())
    assert tensor.shape == (1, 32, 32, 3)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    resized = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(tensor[0], resized / 255, atol=1e-7)


@given(frames)
def test_layout_and_channel_order_only_move_values(frame: Array) -> None:
    plain = preprocess(frame, takes())
    rgb = preprocess(frame, takes(channel_order="rgb"))
    planes = preprocess(frame, takes(layout="nchw"))
    both = preprocess(frame, takes(layout="nchw", channel_order="rgb"))
    assert np.array_equal(rgb, plain[..., ::-1])
    assert np.array_equal(planes, plain.transpose(0, 3, 1, 2))
    assert np.array_equal(both, plain.transpose(0, 3, 1, 2)[:, ::-1])
    assert all(tensor.flags.c_contiguous for tensor in (rgb, planes, both))


def test_a_frame_of_the_right_size_is_not_resampled() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(preprocess(frame, takes(dtype="uint8", scale=1 / 255))[0], frame)


def test_height_and_width_are_not_confused() -> None:
    frame = np.zeros((10, 40, 3), np.uint8)
    frame[:, :20] = 255
    contract = InputContract(name="in", shape=(1, 16, 32, 3))
    assert contract.size == (16, 32)
    assert InputContract(name="in", shape=(1, 3, 16, 32), layout="nchw").size == (16, 32)
    tensor = preprocess(frame, contract)
    assert tensor[0, :, :14].min() == 1
    assert tensor[0, :, 18:].max() == 0


@pytest.mark.parametrize("view", [np.flipud, np.fliplr, lambda f: f[::2, ::2], lambda f: f[..., ::-1]])
def test_a_view_that_is_not_contiguous_is_taken(view: Any) -> None:
    frame = view(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert np.array_equal(preprocess(frame, takes()), preprocess(frame.copy(), takes()))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.int8),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0, 3), np.uint8),
    ],
    ids=lambda frame: f"{frame.shape} {frame.dtype}",
)
def test_what_is_no_colour_frame_is_refused(frame: Array) -> None:
    with pytest.raises(TensorError) as caught:
        preprocess(frame, takes())
    assert str(caught.value).endswith(f"found shape {frame.shape} and dtype {frame.dtype}")


# Quantization ---------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from(INTEGERS),
    scale=st.floats(1 / 255, 1 / 64),
    zero_point=st.integers(-64, 64),
)
def test_what_fits_comes_back_within_half_a_step(dtype: str, scale: float, zero_point: int) -> None:
    contract = takes(dtype=dtype, scale=scale, zero_point=zero_point)
    stored = quantize_pixels(LEVELS, contract)
    assert stored.dtype == dtype
    info = np.iinfo(dtype)
    wanted = np.rint(LEVELS / (255 * scale)) + zero_point
    fits = (wanted >= info.min) & (wanted <= info.max)
    back = (stored.astype(float) - zero_point) * scale
    assert np.abs(back - LEVELS / 255)[fits].max(initial=0) <= scale / 2 + 1e-9
    assert set(stored[~fits]) <= {info.min, info.max}, "what does not fit saturates"


def test_the_usual_int8_input_is_the_pixel_less_128() -> None:
    stored = quantize_pixels(LEVELS, takes(dtype="int8", scale=1 / 255, zero_point=-128))
    assert np.array_equal(stored, LEVELS.astype(int) - 128)


def test_floats_are_pixels_over_255() -> None:
    for dtype, tolerance in (("float32", 1e-7), ("float16", 1e-3)):
        stored = quantize_pixels(LEVELS, takes(dtype=dtype))
        assert stored.dtype == dtype
        np.testing.assert_allclose(stored, LEVELS / 255, atol=tolerance)
    raw = quantize_pixels(LEVELS, takes(dtype="float32", scale=1 / 255))
    np.testing.assert_allclose(raw, LEVELS, atol=1e-4)


@given(hnp.arrays(np.int8, (1, 4, 4, 1)), st.floats(1e-4, 1), st.integers(-128, 127))
def test_dequantized_is_the_affine_rule(output: Array, scale: float, zero_point: int) -> None:
    contract = gives(output, scale=scale, zero_point=zero_point)
    expected = (output.astype(float) - zero_point) * scale
    np.testing.assert_allclose(dequantize(output, contract), expected, rtol=1e-6, atol=1e-9)
    assert dequantize(output, contract).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.bool_])
def test_floats_and_booleans_need_no_scale(dtype: type) -> None:
    output: Array = np.ones((1, 2, 2, 1), dtype)
    assert np.array_equal(dequantize(output, gives(output, scale=0.1, zero_point=7)), np.ones((1, 2, 2, 1)))


# Tensors to masks -----------------------------------------------------------------------------


def test_a_half_is_background() -> None:
    half = np.float32(0.5)
    values = [0, np.nextafter(half, 0), half, np.nextafter(half, np.float32(1)), 1]
    output = np.array(values, np.float32).reshape(1, 1, 5, 1)
    assert to_mask(output, gives(output)).tolist() == [[0, 0, 0, 1, 1]]


def test_a_logit_of_zero_is_background() -> None:
    output = np.array([-1, -1e-30, 0, 1e-30, 1], np.float32).reshape(1, 1, 5, 1)
    contract = gives(output, kind=Head.LOGIT, threshold=0)
    assert to_mask(output, contract).tolist() == [[0, 0, 0, 1, 1]]


@given(hnp.arrays(np.int8, (1, 4, 4, 1)), st.floats(0.001, 0.01), st.integers(-128, 127))
def test_a_threshold_in_stored_units_agrees_with_the_probability(
    output: Array, scale: float, zero_point: int
) -> None:
    contract = gives(output, scale=scale, zero_point=zero_point, threshold=0.5 / scale + zero_point)
    probability = (output[0, ..., 0].astype(float) - zero_point) * scale
    clear = np.abs(probability - 0.5) > 1e-9
    mask = to_mask(output, contract)
    assert np.array_equal(mask[clear], (probability > 0.5)[clear])


@given(hnp.arrays(np.float32, (1, 3, 4, 2), elements=st.floats(0, 1, width=32)))
def test_layouts_give_the_same_mask_and_probability(output: Array) -> None:
    planes = np.ascontiguousarray(output.transpose(0, 3, 1, 2))
    last = gives(output, classes=2, threshold=None)
    first = gives(planes, classes=2, threshold=None, layout="nchw")
    assert np.array_equal(to_mask(output, last), to_mask(planes, first))
    assert np.array_equal(to_mask(output, last), output[0].argmax(-1))
    assert np.array_equal(to_probability(output, last), to_probability(planes, first))
    assert to_mask(output, last).dtype == np.uint8


@given(hnp.arrays(np.float32, (1, 3, 4, 1), elements=st.floats(-100, 100, width=32)))
def test_the_probability_of_a_logit_is_its_sigmoid(output: Array) -> None:
    found = to_probability(output, gives(output, kind=Head.LOGIT, threshold=0))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-output[0].astype(float))), atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1


@given(hnp.arrays(np.float32, (1, 3, 4, 3), elements=st.floats(-1e4, 1e4, width=32)))
def test_the_probabilities_of_logits_sum_to_one(output: Array) -> None:
    found = to_probability(output, gives(output, kind=Head.LOGIT, classes=3, threshold=None))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    largest = np.take_along_axis(found, output[0].argmax(-1)[..., np.newaxis], -1)
    assert np.array_equal(largest[..., 0], found.max(-1)), "the label has the highest probability"


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.bool_, np.float32])
@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 2, 3, 1)])
def test_a_mask_head_is_its_own_mask(shape: tuple[int, ...], dtype: type) -> None:
    labels = np.array([[0, 1, 1], [1, 0, 0]])
    output: Array = labels.reshape(shape).astype(dtype)
    contract = gives(output, kind=Head.MASK, threshold=None)
    assert np.array_equal(to_mask(output, contract), labels)
    with pytest.raises(UsageError, match="a mask head has no probabilities"):
        to_probability(output, contract)


@pytest.mark.parametrize("function", [to_mask, to_probability])
def test_an_output_of_another_shape_is_refused(function: Any) -> None:
    contract = gives(np.zeros((1, 4, 4, 1), np.float32))
    with pytest.raises(TensorError, match=r"'out': expected shape \(1, 4, 4, 1\), found \(1, 4, 5, 1\)"):
        function(np.zeros((1, 4, 5, 1), np.float32), contract)


# The contracts themselves ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": 0},
        {"scale": -0.1},
        {"scale": float("nan")},
        {"scale": float("inf")},
        {"shape": (1, 0, 32, 3)},
        {"shape": (1, 32, 32)},
        {"dtype": "float64"},
        {"layout": "chwn"},
        {"channel_order": "grb"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_contract_that_nothing_can_meet_cannot_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InputContract(**{"name": "in", "shape": (1, 32, 32, 3), **changes})


def test_a_contract_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        takes().scale = 2.0
