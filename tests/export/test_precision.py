"""What a format cannot do is refused or left out, never silently replaced."""

from __future__ import annotations

import pytest

from nanonet_edge.errors import UnsupportedError
from nanonet_edge.export.precision import SUPPORTED, SUPPORTED_STRAIGHT, combinations
from nanonet_edge.variants import Format, Precision

ALL = tuple(Format)


def test_every_format_has_the_common_precisions() -> None:
    for precision in (Precision.FP32, Precision.FP16, Precision.STATIC_WI8_AI8):
        assert all(precision in SUPPORTED[file_format] for file_format in Format)
    assert SUPPORTED[Format.TFLITE] == tuple(Precision)


@pytest.mark.parametrize("straight", [False, True])
@pytest.mark.parametrize("file_format", Format)
@pytest.mark.parametrize("precision", Precision)
def test_a_named_format_does_it_or_says_what_it_can(
    file_format: Format, precision: Precision, straight: bool
) -> None:
    can = (SUPPORTED_STRAIGHT if straight else SUPPORTED)[file_format]
    if precision in can:
        pairs = combinations([file_format], [precision], explicit=True, straight=straight)
        assert pairs == [(file_format, precision)]
        return
    with pytest.raises(UnsupportedError) as caught:
        combinations([file_format], [precision], explicit=True, straight=straight)
    message = str(caught.value)
    assert message.startswith(f"{file_format} cannot be exported as {precision}")
    assert message.endswith(f"it can be {', '.join(can)}")
    assert ("from the unrewritten graph" in message) == straight


def test_formats_that_nobody_named_are_left_out() -> None:
    pairs = combinations(ALL, [Precision.FP32, Precision.DYNAMIC_WI8], explicit=False)
    assert pairs == [
        (Format.TFLITE, Precision.FP32),
        (Format.TFLITE, Precision.DYNAMIC_WI8),
        (Format.ONNX, Precision.FP32),
        (Format.OPENVINO, Precision.FP32),
    ]


def test_one_named_format_that_cannot_is_enough_to_refuse() -> None:
    with pytest.raises(UnsupportedError, match=r"^onnx cannot be exported as static_wi8_ai16"):
        combinations([Format.TFLITE, Format.ONNX], [Precision.STATIC_WI8_AI16], explicit=True)


def test_a_precision_that_no_format_has_is_refused_even_so() -> None:
    with pytest.raises(UnsupportedError, match="openvino cannot be exported as dynamic_wi8"):
        combinations([Format.OPENVINO], [Precision.DYNAMIC_WI8], explicit=False)


def test_repeats_count_once_and_the_order_is_the_formats() -> None:
    wanted = [Precision.STATIC_WI8_AI8, Precision.FP32, Precision.STATIC_WI8_AI8]
    assert combinations([Format.OPENVINO, Format.TFLITE], wanted, explicit=True) == [
        (Format.OPENVINO, Precision.STATIC_WI8_AI8),
        (Format.OPENVINO, Precision.FP32),
        (Format.TFLITE, Precision.STATIC_WI8_AI8),
        (Format.TFLITE, Precision.FP32),
    ]
