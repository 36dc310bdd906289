"""The rewrite as a whole: the same function, without the operations it promises to remove."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.graph import Graph, GraphError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.keras_network import build_keras
from nanonet_edge.network import Fill, build_network, random_fill
from nanonet_edge.passes import (
    DEFAULT_PASSES,
    FoldBatchNorm,
    FoldInputScale,
    FuseActivation,
    Pass,
    SetHead,
    SwapInputChannels,
    rewrite,
)
from nanonet_edge.variants import VARIANTS, Head, Topology
from tests.nanonet_edge.graphs import ALL, Sketch, image, nanonet

GONE = {"batch_norm", "dense", "reshape", "zero_pad", "concat", "relu", "relu6"}
TOLERANCE = 1e-5


def signed_fill(seed: int) -> Fill:
    """As `random_fill`, with gains of either sign and one dead channel in ten."""
    fill, random = random_fill(seed), np.random.default_rng(seed)

    def signed(layer: str, weight: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        array = fill(layer, weight, shape)
        if weight == "gamma":
            array *= random.choice([-1.0, 0.0, 1.0], shape, p=[0.2, 0.1, 0.7]).astype(np.float32)
        return array

    return signed


def furthest(first: Graph, second: Graph, seed: int) -> float:
    """The largest distance between the outputs of two networks."""
    x = image(first.size, seed)
    return float(np.abs(evaluate(first, x) - evaluate(second, x)).max())


def check(variant: str, topology: Topology, size: int, seed: int, classes: int = 1) -> None:
    straight = build_network(VARIANTS[variant], topology, size=size, classes=classes, fill=signed_fill(seed))
    rewritten = rewrite(straight).graph
    assert not GONE & set(rewritten.ops())
    assert furthest(straight, rewritten, seed) < TOLERANCE


@pytest.mark.parametrize(("variant", "topology"), ALL)
@given(size=st.sampled_from([64, 96, 128]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_rewritten_equals_straight(variant: str, topology: Topology, size: int, seed: int) -> None:
    check(variant, topology, size, seed)


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96, 128])
@pytest.mark.parametrize(("variant", "topology"), ALL)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_rewritten_equals_straight_at_every_size(
    variant: str, topology: Topology, size: int, seed: int
) -> None:
    check(variant, topology, size, seed)


@given(classes=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=3, deadline=None)
def test_rewritten_equals_straight_for_several_classes(classes: int, seed: int) -> None:
    check("c", Topology.DESCRIBED, 64, seed, classes)


@pytest.mark.parametrize(("variant", "topology"), ALL)
def test_every_pass_alone_keeps_the_function(variant: str, topology: Topology) -> None:
    graph = nanonet(variant, topology, seed=4)
    expected = evaluate(graph, image(64))
    for each in DEFAULT_PASSES:
        graph = each.run(graph).graph
        np.testing.assert_allclose(evaluate(graph, image(64)), expected, atol=TOLERANCE, err_msg=each.name)


def test_rewritten_in_keras_equals_straight_in_keras() -> None:
    graph, x = nanonet("c", seed=5), image(64)
    straight, rewritten = build_keras(graph), build_keras(rewrite(graph).graph)
    np.testing.assert_allclose(rewritten(x), straight(x, training=False), atol=TOLERANCE)


@pytest.mark.parametrize("topology", list(Topology))
def test_what_was_applied_is_listed_in_order(topology: Topology) -> None:
    expected = [each.name for each in DEFAULT_PASSES]
    for other in ("norm-as-convolution", "transpose-as-convolution"):
        expected.remove(other)  # no NanoNet has what they rewrite
    if topology is Topology.DESCRIBED:
        expected.remove("fold-released-shortcut")
    assert list(rewrite(nanonet("c", topology)).applied) == expected


def test_a_rewritten_network_is_left_as_it_is() -> None:
    once = rewrite(nanonet()).graph
    twice = rewrite(once)
    assert twice.graph is once
    assert twice.applied == ()


def test_no_passes_mean_no_rewrite() -> None:
    graph = nanonet()
    assert rewrite(graph, ()).graph is graph


def test_the_straight_graph_is_untouched() -> None:
    graph = nanonet()
    before = {node.name: (node.op, {k: v.copy() for k, v in node.weights.items()}) for node in graph}
    rewrite(graph, (*DEFAULT_PASSES, FoldInputScale(), SwapInputChannels(), SetHead(Head.MASK)))
    for node in graph:
        op, weights = before[node.name]
        assert node.op == op
        assert all(np.array_equal(array, weights[name]) for name, array in node.weights.items())


def test_rewriting_makes_the_network_smaller() -> None:
    straight = nanonet()
    rewritten = rewrite(straight).graph
    assert rewritten.parameters < straight.parameters
    assert len(rewritten.nodes) < len(straight.nodes)


@pytest.mark.parametrize(
    "each",
    [FuseActivation(), FoldInputScale(), SwapInputChannels()],
    ids=lambda p: str(p.name),
)
def test_passes_that_come_after_the_folding_refuse_to_come_before(each: Pass) -> None:
    with pytest.raises(GraphError, match=f"pass {each.name}: needs a graph without batch_norm"):
        each.run(nanonet())


@pytest.mark.parametrize("each", DEFAULT_PASSES, ids=lambda p: str(p.name))
def test_a_pass_without_its_pattern_returns_the_very_graph(each: Pass) -> None:
    sketch = Sketch()
    sketch.add("sigmoid", sketch.conv("image", 1, 1))
    graph = sketch.graph()
    result = each.run(graph)
    assert result.changes == 0
    assert result.graph is graph


def test_a_pass_that_changes_the_output_shape_is_caught() -> None:
    class Halve(FoldBatchNorm):
        name = "halve"
        removes = frozenset()

        def _rewrite(self, graph: Graph, nodes: dict[str, object]) -> int:  # type: ignore[override]
            last = graph[graph.output]
            nodes[last.name] = last.but(attributes={**last.attributes, "strides": 2})
            return 1

    sketch = Sketch()
    sketch.conv("image")
    with pytest.raises(GraphError, match=r"pass halve: the output's shape \(8, 8, 4\) became \(4, 4, 4\)"):
        Halve().run(sketch.graph())


def test_names_of_passes_are_unique() -> None:
    names = [
        each.name for each in (*DEFAULT_PASSES, FoldInputScale(), SwapInputChannels(), SetHead(Head.MASK))
    ]
    assert len(set(names)) == len(names)
