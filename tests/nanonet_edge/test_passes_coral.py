"""Rewrites for the Edge TPU: the same function, in parts of sizes that map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.graph import Graph, Node
from nanonet_edge.interpreter import evaluate
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.passes import Rewritten, rewrite
from nanonet_edge.passes.coral import CORAL_PASSES, MeanOfTiles, TileUpsample
from nanonet_edge.variants import VARIANTS
from tests.nanonet_edge.graphs import image

#: What the reports that the limits rest on have seen mapped.
RESIZE_SIDE, MEAN_PIXELS = 128, 64 * 128


def alone(op: str, size: int, channels: int, **attributes: bool) -> Graph:
    source = Node("image", "input", attributes={"size": size, "channels": channels})
    return Graph((source, Node("it", op, ("image",), attributes=attributes)), "it")


def check_sizes(graph: Graph) -> None:
    """No resize and no mean is larger than what is known to map."""
    shapes = graph.shapes()
    for node in graph:
        if node.op == "upsample_bilinear":
            assert max(shapes[node.name][:2]) <= RESIZE_SIDE, node.name
        if node.op in ("column_mean", "global_mean"):
            height, width, _ = shapes[node.inputs[0]]
            assert height * width <= MEAN_PIXELS, node.name


@settings(max_examples=12)
@given(size=st.integers(65, 200), channels=st.integers(1, 2), seed=st.integers(0, 9))
def test_tiles_are_the_interpolation_to_the_last_bit(size: int, channels: int, seed: int) -> None:
    graph, x = alone("upsample_bilinear", size, channels), image(size, seed, 1, channels)
    result = TileUpsample().run(graph)
    assert result.changes == 1
    check_sizes(result.graph)
    np.testing.assert_array_equal(evaluate(result.graph, x), evaluate(graph, x))


@pytest.mark.parametrize("size", [92, 128, 160, 256, 288])
def test_a_mean_of_tiles_is_the_mean(size: int) -> None:
    graph, x = alone("global_mean", size, 2, keepdims=True), image(size, size, 1, 2)
    result = MeanOfTiles().run(graph)
    assert result.changes == 1
    check_sizes(result.graph)
    np.testing.assert_allclose(
        evaluate(result.graph, x), x.mean((1, 2), np.float64, keepdims=True), rtol=2e-6
    )


def test_what_a_stored_mean_leaves_over_is_made_up_for() -> None:
    """A column's mean that was rounded to whole numbers, as int8 rounds it: the sum stays exact."""
    graph = MeanOfTiles().run(alone("global_mean", 128, 1, keepdims=True)).graph
    x = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 1)).astype(np.float32)
    values = {"image": x}
    for node in graph.nodes[1:]:
        first = Node("a", "input", attributes={"size": 1, "channels": 1})
        inputs = [values[name] for name in node.inputs]
        if node.op == "join":
            values[node.name] = np.concatenate(inputs, 1 + node.attributes["axis"])
            continue
        values[node.name] = evaluate(Graph((first, node.but(inputs=("a",))), node.name), inputs[0])
        if node.op == "column_mean":
            values[node.name] = np.rint(values[node.name])
        elif node.name != "it":
            # Stored as the input is: whole numbers, none below zero and none above 255.
            assert np.array_equal(values[node.name], np.clip(np.rint(values[node.name]), 0, 255))
    assert values["it"].item() == pytest.approx(x.mean(dtype=np.float64), rel=1e-6)


def rewritten_for_coral(variant: str, size: int) -> tuple[Graph, Rewritten]:
    graph = rewrite(build_network(VARIANTS[variant], fill=random_fill(0))).graph.with_size(size)
    return graph, rewrite(graph, CORAL_PASSES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_network_stays_the_same_function(variant: str) -> None:
    graph, result = rewritten_for_coral(variant, 192)
    assert result.applied == ("tile-upsample", "mean-of-tiles")
    check_sizes(result.graph)
    x = image(192)
    np.testing.assert_allclose(evaluate(result.graph, x), evaluate(graph, x), atol=2e-6)


def test_weights_are_whole_numbers_that_int8_holds() -> None:
    _, result = rewritten_for_coral("c", 256)
    added = [node for node in result.graph if "stored_as_input" in node.attributes]
    assert added
    for node in added:
        stored = node.weights["kernel"].astype(np.float64) / node.attributes["kernel_scales"][0]
        np.testing.assert_allclose(stored, np.rint(stored), atol=1e-5)
        assert np.abs(stored).max() <= 127


@pytest.mark.parametrize(
    ("op", "size"), [("upsample_nearest", 128), ("max_pool", 256), ("upsample_bilinear", 64), ("relu", 256)]
)
def test_what_maps_already_or_never_stays(op: str, size: int) -> None:
    assert rewrite(alone(op, size, 1), CORAL_PASSES).applied == ()


@pytest.mark.parametrize("size", [64, 90])
def test_small_means_stay(size: int) -> None:
    assert MeanOfTiles().run(alone("global_mean", size, 1, keepdims=True)).changes == 0


def test_a_mean_that_cannot_be_cut_into_equal_tiles_stays() -> None:
    assert MeanOfTiles().run(alone("global_mean", 127, 1, keepdims=True)).changes == 0
