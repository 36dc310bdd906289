"""Preparation for eight bits: which channels are scaled, by which factors, and that it is recorded."""

from __future__ import annotations

import numpy as np
import pytest

from nanonet_edge.errors import CalibrationError
from nanonet_edge.export.calibration import calibrate
from nanonet_edge.export.preparation import (
    channel_sizes,
    choose_factors,
    linear_groups,
)
from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from nanonet_edge.passes.channels import ScaleChannels, channel_groups
from nanonet_edge.variants import Format, Precision
from tests.export.networks import Shelf, calibrated, calibration_frames, frame, rewritten, tensor
from tests.nanonet_edge.graphs import Sketch

INT8 = Precision.STATIC_WI8_AI8


def unequal() -> Graph:
    """A linear tensor whose channels differ a thousandfold, behind a convolution of any input."""
    sketch = Sketch(seed=3)
    before = sketch.conv("image", 4, 1, name="before")
    sketch.conv(before, 4, 1, activation="relu", name="after")
    sketch.conv("after", 1, 1, name="last")
    return ScaleChannels({"before": np.array([1.0, 10.0, 100.0, 1000.0])}).run(sketch.graph()).graph


def inputs(count: int = 3) -> list[np.ndarray]:
    return [np.random.default_rng(i).random((1, 8, 8, 3)).astype(np.float32) for i in range(count)]


# --- factors --------------------------------------------------------------------------------


def test_only_what_no_activation_follows_is_scaled() -> None:
    graph = rewritten().graph
    groups = linear_groups(graph)
    assert ("expanded_conv_project_bn",) in groups
    assert ("block_1_project_bn", "block_2_project_bn", "block_2_add") in groups
    assert len(groups) < len(channel_groups(graph))
    assert all(graph[name].activation == "none" for group in groups for name in group)


def test_sizes_are_high_quantiles_of_the_values() -> None:
    graph = unequal()
    (size,) = channel_sizes(graph, inputs(), ["before"]).values()
    exact = np.concatenate([evaluate(Graph(graph.nodes, "before"), x)[0].reshape(-1, 4) for x in inputs()])
    assert (size <= np.abs(exact).max(axis=0) + 1e-3).all()
    np.testing.assert_allclose(size, np.abs(exact).max(axis=0), rtol=0.1)


def test_factors_bring_channels_closer_and_leave_the_largest() -> None:
    graph = unequal()
    sizes = channel_sizes(graph, inputs(), ["before"])
    factors = choose_factors(graph, sizes)
    assert factors.keys() == {"before"}
    before, after = sizes["before"], sizes["before"] * factors["before"]
    assert after.max() == pytest.approx(before.max())
    assert after.max() / after.min() < 0.2 * before.max() / before.min()


def test_factors_follow_the_formula() -> None:
    graph = unequal()
    size = np.array([1.0, 16.0, 81.0, 256.0])
    weight = np.abs(graph["after"].weights["kernel"]).max(axis=(0, 1, 3))
    weight = np.maximum(weight, 1e-3 * weight.max())
    found = choose_factors(graph, {"before": size})["before"]
    expected = weight**0.25 / np.array([1.0, 8.0, 27.0, 64.0])
    np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-5)


def test_a_dead_channel_gets_a_bounded_factor() -> None:
    factors = choose_factors(unequal(), {"before": np.array([0.0, 1.0, 1.0, 1.0])})["before"]
    assert (factors > 0).all()
    assert factors.max() < 1e4
    assert np.isfinite(choose_factors(unequal(), {"before": np.zeros(4)})["before"]).all()


def test_values_that_are_not_finite_are_refused() -> None:
    broken = np.full((1, 8, 8, 3), np.nan, np.float32)
    with pytest.raises(CalibrationError, match="tensor 'before': expected finite values"):
        channel_sizes(unequal(), [broken], ["before"])


# --- in a calibration -----------------------------------------------------------------------


def test_the_prepared_graph_computes_the_same() -> None:
    graph, made = rewritten().graph, calibrated()
    np.testing.assert_allclose(
        evaluate(made.prepared, tensor(frame(0))), evaluate(graph, tensor(frame(0))), atol=1e-5
    )
    assert made.factors.keys() == {name for group in linear_groups(graph) for name in group}


def test_the_manifest_lists_it(shelf: Shelf) -> None:
    for precision in (INT8, Precision.STATIC_WI8_AI16, Precision.DYNAMIC_WI8):
        assert shelf.artifact(Format.TFLITE, precision).record.passes[-1] == "scale-channels"
    assert "scale-channels" not in shelf.artifact(Format.TFLITE, Precision.FP32).record.passes


def test_it_can_be_left_out() -> None:
    graph = rewritten().graph
    made = calibrate(graph, calibration_frames(2), "min-max", "nearest", prepares=False)
    assert made.prepared is made.graph is graph
    assert made.passes == ()
