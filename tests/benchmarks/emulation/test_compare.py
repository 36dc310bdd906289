"""Raw outputs of guest and host: what counts as a difference, and which ones are allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nanonet_edge.benchmarks.emulation.compare import (
    FLOAT_LIMIT,
    FLOAT_STEP,
    OTHER_FLOAT_LIMIT,
    Engine,
    compare_raw,
    expectation,
    shortfall,
)
from nanonet_edge.variants import Precision

LITERT = Engine("litert", "2.3.0")


@given(arrays(np.int8, (2, 3)), arrays(np.int8, (2, 3)))
def test_integers_are_counted_in_steps(host: np.ndarray, guest: np.ndarray) -> None:
    raw = compare_raw(host, guest)
    gaps = [abs(int(one) - int(other)) for one, other in zip(host.flat, guest.flat, strict=True)]
    assert raw.differing == sum(gap > 0 for gap in gaps)
    assert raw.max_difference == max(gaps)
    assert raw.mean_difference == pytest.approx(sum(gaps) / 6)
    assert (raw.step, raw.beyond) == (1.0, sum(gap > 1 for gap in gaps))
    assert raw.is_identical == (host.tobytes() == guest.tobytes())


def test_floats_are_counted_beyond_their_step() -> None:
    host = np.array([0.5, 0.5, 0.5], np.float32)
    raw = compare_raw(host, host + np.array([0, 5e-7, 3e-6], np.float32))
    assert (raw.differing, raw.beyond, raw.step) == (2, 1, FLOAT_STEP)


@pytest.mark.parametrize(
    ("host", "guest", "odd"),
    [
        ([0.5, np.nan], [0.5, np.nan], 0),
        ([0.5, np.inf], [0.5, np.inf], 0),
        ([0.5, np.inf], [0.5, -np.inf], 1),
        ([0.5, 0.5], [0.5, np.nan], 1),
        ([np.nan, np.nan], [0.5, 0.5], 2),
    ],
)
def test_what_is_not_finite_is_kept_out_of_the_figures(
    host: list[float], guest: list[float], odd: int
) -> None:
    raw = compare_raw(np.array(host, np.float32), np.array(guest, np.float32))
    assert (raw.not_finite, raw.differing) == (odd, 0)
    missed = shortfall(raw, expectation(Precision.FP32, LITERT, LITERT))
    assert (missed is None) == (odd == 0)


@pytest.mark.parametrize(
    ("precision", "guest", "host", "limit"),
    [
        (Precision.STATIC_WI8_AI8, LITERT, LITERT, 0.0),
        (Precision.STATIC_WI8_AI8, LITERT, Engine("litert", "2.2.0"), None),
        (Precision.STATIC_WI8_AI8, Engine("tflite-runtime", "2.14.0"), LITERT, None),
        (Precision.STATIC_WI8_AI8, Engine("onnxruntime", "1"), Engine("onnxruntime", "1"), None),
        (Precision.DYNAMIC_WI8, LITERT, LITERT, None),
        (Precision.FP32, LITERT, LITERT, FLOAT_LIMIT),
        (Precision.FP16, Engine("tflite-runtime", "2.14.0"), LITERT, OTHER_FLOAT_LIMIT),
        (Precision.FP32, Engine("onnxruntime", "1"), Engine("onnxruntime", "1"), OTHER_FLOAT_LIMIT),
    ],
)
def test_expectations(precision: Precision, guest: Engine, host: Engine, limit: float | None) -> None:
    assert expectation(precision, guest, host).limit == limit


@given(st.integers(0, 3))
def test_one_bit_off_is_a_fault_where_identity_is_expected(place: int) -> None:
    host = np.zeros(4, np.int8)
    guest = host.copy()
    guest[place] = 1
    expected = expectation(Precision.STATIC_WI8_AI8, LITERT, LITERT)
    assert shortfall(compare_raw(host, host), expected) is None
    missed = shortfall(compare_raw(host, guest), expected)
    assert missed == (
        "expected bit-identical outputs of guest and host, found 1 of 4 values to differ, by up to 1"
    )


@pytest.mark.parametrize(("off", "passes"), [(8e-6, True), (2e-5, False)])
def test_floats_pass_up_to_their_limit(off: float, passes: bool) -> None:
    host = np.full(4, 0.5, np.float32)
    missed = shortfall(compare_raw(host, host + np.float32(off)), expectation(Precision.FP32, LITERT, LITERT))
    assert (missed is None) == passes
