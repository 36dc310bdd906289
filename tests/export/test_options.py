"""Choices that exclude each other are refused before any work; the rest become pairs to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanonet_edge.errors import UsageError
from nanonet_edge.export import Boundary, ExportOptions
from nanonet_edge.variants import Format, Precision

INT8 = (Precision.STATIC_WI8_AI8,)
FP32 = (Precision.FP32,)


def test_default_is_three_precisions_in_three_formats() -> None:
    said: list[str] = []
    pairs = ExportOptions().pairs(said.append)
    assert len(pairs) == len(set(pairs)) == 9
    assert said == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 100}, "multiple of 32"),
        ({"untrained": True, "weights": Path("x.h5")}, "--untrained"),
        ({"precisions": FP32, "calibration": Path("images")}, "--calibration changes nothing"),
        ({"precisions": INT8, "verification": Path("images")}, "--verification needs --calibration"),
        ({"straight": True, "boundary": Boundary(layout="nchw")}, "--no-rewrite"),
        ({"straight": True, "rounding": "nearest"}, "drop --ranges, --rounding and --no-prepare"),
        ({"straight": True, "method": "percentile"}, "drop --ranges, --rounding and --no-prepare"),
        ({"straight": True, "prepares": False}, "drop --ranges, --rounding and --no-prepare"),
        ({"precisions": FP32, "boundary": Boundary(input_dtype="int8")}, "fp32 cannot take int8"),
        ({"formats": (Format.ONNX,), "precisions": (Precision.DYNAMIC_WI8,)}, "onnx cannot be exported"),
    ],
)
def test_what_excludes_each_other_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ExportOptions(**options).pairs(lambda line: None)


def test_an_input_that_only_integers_can_take_leaves_the_default_floats_out() -> None:
    said: list[str] = []
    pairs = ExportOptions(boundary=Boundary(input_dtype="int8")).pairs(said.append)
    assert {precision for _, precision in pairs} == set(INT8)
    assert said == ["no fp32, fp16: cannot take int8 input"]
