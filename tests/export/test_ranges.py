"""Ranges, against computations that share no code with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge.errors import CalibrationError
from nanonet_edge.export.ranges import (
    METHODS,
    PERCENTILE,
    SIGMOID_LIMIT,
    find_ranges,
    least_squares_range,
    percentile_range,
)
from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from tests.export.networks import SIZE, Tensor, frame, rewritten, tensor, with_weights
from tests.nanonet_edge.graphs import Sketch

BINS = 2048
#: Rounding errors of fewer values do not average out to a twelfth of a squared step.
MANY = 1000
SHAPES = ("normal", "half-normal", "heavy tail", "negative")


def sample(shape: str) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(7)
    values: npt.NDArray[np.float64] = generator.normal(0.3, 1.0, 40_000)
    if shape == "half-normal":
        return np.maximum(values, 0.0)
    if shape == "heavy tail":
        return np.concatenate([values, generator.normal(0, 40, 40)])
    return -np.abs(values) - 0.5 if shape == "negative" else values


def histogram(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], float, float]:
    low, high = float(values.min()), float(values.max())
    return np.histogram(values, BINS, (low, high))[0].astype(np.int64), low, high


def quantization_error(values: npt.NDArray[np.float64], low: float, high: float) -> float:
    """Mean squared error of 8-bit storage of real values, computed with the values themselves."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    stored = np.clip(np.rint((values - low) / scale), 0, 255)
    return float(np.square(stored * scale + low - values).mean())


@pytest.mark.parametrize("shape", SHAPES)
def test_percentiles_are_numpys(shape: str) -> None:
    values = sample(shape)
    counts, low, high = histogram(values)
    found = percentile_range(counts, low, high)
    wanted = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
    assert np.abs(np.array(found) - wanted).max() <= (high - low) / BINS * 2
    assert low <= found[0] < found[1] <= high


@pytest.mark.parametrize("shape", SHAPES)
def test_least_squares_is_as_good_as_brute_force(shape: str) -> None:
    values = sample(shape)
    found = least_squares_range(*histogram(values))
    low, high = values.min(), values.max()
    bottoms = np.linspace(0.2, 1, 30) * low if low < 0 else [low]
    tops = np.linspace(0.2, 1, 30) * high if high > 0 else [high]
    best = min(quantization_error(values, bottom, top) for bottom in bottoms for top in tops)
    assert quantization_error(values, *found) <= 1.05 * best
    assert quantization_error(values, *found) <= quantization_error(values, low, high) * (1 + 1e-9)


def test_a_tensor_of_one_value_has_a_range() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[BINS // 2] = 10
    for value in (0.0, 2.5, -2.5):
        for choose in (percentile_range, least_squares_range):
            low, high = choose(counts, value, value)
            assert np.isfinite([low, high]).all()
            assert min(low, 0.0) <= value <= max(high, 0.0)


@pytest.fixture(scope="module")
def inputs() -> list[Tensor]:
    return [tensor(frame(index)) for index in range(3)]


@pytest.fixture(scope="module")
def values(inputs: list[Tensor]) -> dict[str, Tensor]:
    """All values of every tensor, by the NumPy interpreter."""
    graph, batch = rewritten().graph, np.concatenate(inputs)
    return {node.name: evaluate(Graph(graph.nodes, node.name), batch) for node in graph}


def test_min_max_is_what_the_interpreter_sees(inputs: list[Tensor], values: dict[str, Tensor]) -> None:
    ranges = find_ranges(rewritten().graph, lambda: inputs, "min-max")
    assert ranges.keys() == values.keys()
    for name, array in values.items():
        assert ranges[name] == pytest.approx((array.min(), array.max()), abs=1e-4), name


def test_percentile_of_a_network(inputs: list[Tensor], values: dict[str, Tensor]) -> None:
    ranges = find_ranges(rewritten().graph, lambda: inputs, "percentile")
    for name, array in values.items():
        wanted = np.percentile(array, [100 - PERCENTILE, PERCENTILE], method="inverted_cdf")
        spread = (array.max() - array.min()) / BINS
        assert np.abs(np.array(ranges[name]) - wanted).max() <= 2 * spread + 1e-4, name


def test_mse_of_a_network_never_loses_to_min_max(inputs: list[Tensor], values: dict[str, Tensor]) -> None:
    ranges = find_ranges(rewritten().graph, lambda: inputs, "mse")
    errors = {
        name: [
            quantization_error(array.astype(np.float64), *span)
            for span in (ranges[name], (float(array.min()), float(array.max())))
        ]
        for name, array in values.items()
        if array.size >= MANY
    }
    ours, plain = np.array(list(errors.values())).T
    assert len(errors) > 40
    # The estimate of the rounding error is one of the mean: single tensors may differ.
    assert np.median(ours / (plain + 1e-12)) <= 1
    assert (ours <= plain * 1.5 + 1e-12).all()
    assert ours.sum() < plain.sum()


def test_what_a_sigmoid_does_not_tell_apart_is_cut_off(inputs: list[Tensor]) -> None:
    sketch = Sketch(size=SIZE)
    wide = sketch.conv("image", 1, 1, name="wide")
    sketch.add("sigmoid", wide, name="probability")
    graph = with_weights(sketch.graph(), {"wide": {"kernel": np.full((1, 1, 3, 1), 20), "bias": [-30]}})
    limited = find_ranges(graph, lambda: inputs, "mse")["wide"]
    assert limited[0] == -SIGMOID_LIMIT
    assert limited[1] <= SIGMOID_LIMIT
    assert find_ranges(graph, lambda: inputs, "min-max")["wide"][0] < -SIGMOID_LIMIT


@pytest.mark.parametrize("method", METHODS)
def test_frames_are_streamed_once_or_twice(inputs: list[Tensor], method: str) -> None:
    calls = 0

    def tensors() -> Iterator[Tensor]:
        nonlocal calls
        calls += 1
        yield from inputs

    find_ranges(rewritten().graph, tensors, method)  # type: ignore[arg-type]
    assert calls == (1 if method == "min-max" else 2)


@pytest.mark.parametrize("method", METHODS)
def test_no_frame_and_no_finite_value_are_refused(inputs: list[Tensor], method: str) -> None:
    graph = rewritten().graph
    with pytest.raises(CalibrationError, match="at least one frame"):
        find_ranges(graph, list, method)  # type: ignore[arg-type]
    broken = inputs[0].copy()
    broken[0, 3, 3, 0] = np.nan
    with pytest.raises(CalibrationError, match="'input_image': expected finite values"):
        find_ranges(graph, lambda: [broken], method)  # type: ignore[arg-type]
