"""Scaling of channels: which tensors allow it, and that the function stays the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.graph import Graph, GraphError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.passes import rewrite
from nanonet_edge.passes.channels import ScaleChannels, channel_groups
from tests.nanonet_edge.graphs import ALL, Sketch, image, nanonet


def bottleneck(activation: str = "relu6") -> Graph:
    """Two linear bottlenecks joined by a sum, with a depthwise unit between them."""
    sketch = Sketch(channels=3, seed=4)
    first = sketch.conv("image", 5, 1, name="first")
    wide = sketch.conv(first, 6, 1, activation=activation, name="wide")
    deep = sketch.depthwise(wide, activation=activation, name="deep")
    second = sketch.conv(deep, 5, 1, bias=False, name="second")
    sketch.add("add", first, second, name="sum")
    sketch.conv("sum", 2, 3, name="last")
    return sketch.graph()


def gated() -> Graph:
    """A block's output, its gate, and what reads the product at twice the size."""
    sketch = Sketch(channels=4, seed=2)
    block = sketch.conv("image", 4, 3, activation="relu", name="block")
    mean = sketch.add("global_mean", block, name="mean", keepdims=True)
    squeezed = sketch.conv(mean, 2, 1, bias=False, activation="relu", name="squeezed")
    excited = sketch.conv(squeezed, 4, 1, bias=False, name="excited")
    gate = sketch.add("sigmoid", excited, name="gate")
    product = sketch.add("multiply", block, gate, name="product")
    wide = sketch.add("upsample_bilinear", product, name="wide")
    sketch.conv(wide, 1, 1, name="last")
    return sketch.graph()


def random_factors(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    random, shapes = np.random.default_rng(seed), graph.shapes()
    return {
        name: factors
        for group in channel_groups(graph)
        for factors in [np.exp(random.uniform(-3, 3, shapes[group[0]][-1]))]
        for name in group
    }


def test_groups_end_at_convolutions_and_at_relu6() -> None:
    assert channel_groups(bottleneck()) == (("first", "second", "sum"),)
    assert channel_groups(bottleneck("relu")) == (("first", "second", "sum"), ("wide",), ("deep",))


def test_a_gate_stays_as_it_is_and_what_it_gates_is_one_group() -> None:
    assert channel_groups(gated()) == (("block", "mean", "product", "wide"), ("squeezed",))


@pytest.mark.parametrize("op", ["sigmoid", "relu6", "softmax"])
def test_what_other_operations_read_cannot_be_scaled(op: str) -> None:
    sketch = Sketch()
    sketch.add(op, sketch.conv("image", 4, 1, name="before"), name="fixed")
    sketch.conv("fixed", 2, 1)
    assert channel_groups(sketch.graph()) == ()


@pytest.mark.parametrize("graph", [bottleneck(), bottleneck("relu"), gated()])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_function_stays_the_same(graph: Graph, seed: int) -> None:
    result = ScaleChannels(random_factors(graph, seed)).run(graph)
    x = image(graph.size, seed % 100, channels=graph.input.attributes["channels"])
    expected = evaluate(graph, x)
    np.testing.assert_allclose(evaluate(result.graph, x), expected, atol=1e-5 * np.abs(expected).max())
    assert result.changes


@pytest.mark.parametrize(("variant", "topology"), ALL)
def test_every_network_stays_the_same(variant: object, topology: object) -> None:
    graph = rewrite(nanonet(str(variant), topology)).graph  # type: ignore[arg-type]
    scaled = ScaleChannels(random_factors(graph, 1)).run(graph).graph
    assert len(channel_groups(graph)) > 10
    np.testing.assert_allclose(evaluate(scaled, image(64)), evaluate(graph, image(64)), atol=1e-5)


def test_tensors_are_the_old_ones_times_their_factors() -> None:
    graph = bottleneck()
    factors = {name: np.array([0.5, 1, 2, 4, 8]) for name in ("first", "second", "sum")}
    scaled = ScaleChannels(factors).run(graph).graph
    x = image(8)
    for name, each_factors in factors.items():
        before, after = (evaluate(Graph(each.nodes, name), x) for each in (graph, scaled))
        np.testing.assert_allclose(after, before * each_factors, rtol=1e-5, atol=1e-6)
    assert scaled["wide"].weights["bias"].tolist() == graph["wide"].weights["bias"].tolist()
    assert "bias" not in scaled["second"].weights


def test_no_factors_change_nothing() -> None:
    result = ScaleChannels({}).run(bottleneck())
    assert result.changes == 0
    assert result.graph is not None
    assert rewrite(bottleneck(), [ScaleChannels({})]).applied == ()


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"wide": np.ones(6)}, "the channels of 'wide' cannot be scaled"),
        ({"nowhere": np.ones(6)}, "the channels of 'nowhere' cannot be scaled"),
        (dict.fromkeys(("first", "second", "sum"), np.ones(4)), "expected 5 positive factors"),
        (dict.fromkeys(("first", "second", "sum"), np.zeros(5)), "expected 5 positive factors"),
        (dict.fromkeys(("first", "second", "sum"), np.full(5, np.nan)), "expected 5 positive factors"),
        ({"first": np.ones(5)}, "'first' and 'second' need the same factors"),
        ({"second": np.ones(5), "sum": np.ones(5)}, "'first' and 'second' need the same factors"),
    ],
)
def test_factors_that_would_change_the_function_are_refused(
    factors: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(GraphError, match=message):
        ScaleChannels(factors).run(bottleneck())
