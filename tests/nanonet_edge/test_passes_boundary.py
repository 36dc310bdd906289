"""The two ends of the network: raw pixels in, either channel order, logits or masks out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.graph import Graph, GraphError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.passes import FoldInputScale, Pass, SetHead, SwapInputChannels, rewrite
from nanonet_edge.variants import Head
from tests.nanonet_edge.graphs import Sketch, Tensor, image, nanonet

seeds = st.integers(0, 2**32 - 1)


def rewritten(classes: int = 1, seed: int = 0) -> Graph:
    return rewrite(nanonet(seed=seed, classes=classes)).graph


def pixels(seed: int) -> Tensor:
    return np.random.default_rng(seed).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_a_folded_scale_takes_raw_pixels(seed: int) -> None:
    graph, x = rewritten(seed=seed), pixels(seed)
    raw = FoldInputScale().run(graph)
    assert raw.changes == 2, "the first convolution and the first skip"
    np.testing.assert_allclose(evaluate(raw.graph, x), evaluate(graph, x / np.float32(255)), atol=1e-5)


def test_a_folded_scale_keeps_the_recorded_grid() -> None:
    graph = rewritten()
    first = graph["Conv1_relu6"]
    scales = np.abs(first.weights["kernel"]).max((0, 1, 2)) / 127
    marked = first.but(attributes={**first.attributes, "kernel_scales": scales})
    nodes = tuple(marked if node.name == first.name else node for node in graph)
    folded = FoldInputScale().run(Graph(nodes, graph.output)).graph["Conv1_relu6"]
    before = first.weights["kernel"] / scales
    after = folded.weights["kernel"] / folded.attributes["kernel_scales"]
    np.testing.assert_allclose(after, before, rtol=1e-6)


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_swapped_channels_take_rgb(seed: int) -> None:
    graph, x = rewritten(seed=seed), image(64, seed)
    swapped = SwapInputChannels().run(graph).graph
    np.testing.assert_allclose(evaluate(swapped, x[..., ::-1]), evaluate(graph, x), atol=1e-5)
    assert np.abs(evaluate(swapped, x) - evaluate(graph, x)).max() > 1e-5, "the order must matter"


def test_swapping_twice_is_swapping_not_at_all() -> None:
    graph = rewritten()
    twice = rewrite(graph, (SwapInputChannels(), SwapInputChannels())).graph
    for before, after in zip(graph, twice, strict=True):
        assert all(np.array_equal(before.weights[name], after.weights[name]) for name in before.weights)


@pytest.mark.parametrize("each", [FoldInputScale(), SwapInputChannels()], ids=lambda p: str(p.name))
def test_an_input_that_something_else_reads_is_refused(each: Pass) -> None:
    sketch = Sketch()
    sketch.add("add", sketch.conv("image", 3), "image", name="sum")
    with pytest.raises(GraphError, match=f"pass {each.name}: the input is read by 'sum', a add"):
        each.run(sketch.graph())


def test_a_probability_head_stays() -> None:
    graph = nanonet()
    result = SetHead(Head.PROBABILITY).run(graph)
    assert (result.changes, result.graph) == (0, graph)


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_a_logit_is_positive_where_the_probability_exceeds_a_half(seed: int) -> None:
    graph = nanonet(seed=seed)
    logit = evaluate(SetHead(Head.LOGIT).run(graph).graph, image(64, seed))
    probability = evaluate(graph, image(64, seed))
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), probability, atol=1e-6)
    # Nearer than rounding to the threshold, neither answer is wrong.
    clear = np.abs(logit) > 1e-6
    assert np.array_equal((logit > 0)[clear], (probability > 0.5)[clear])
    mask = evaluate(SetHead(Head.MASK).run(graph).graph, image(64, seed))
    assert np.array_equal(mask, logit > 0)


@given(seed=seeds, classes=st.integers(2, 5))
@settings(max_examples=5, deadline=None)
def test_an_arg_max_needs_no_softmax(seed: int, classes: int) -> None:
    graph = nanonet(seed=seed, classes=classes)
    logit = SetHead(Head.LOGIT).run(graph).graph
    mask = SetHead(Head.MASK).run(graph).graph
    assert (logit.classes, mask.classes) == (classes, classes)
    assert logit.shapes()[logit.output] == (64, 64, classes)
    assert mask.shapes()[mask.output] == (64, 64, 1)
    labels = evaluate(graph, image(64, seed)).argmax(axis=-1)
    assert np.array_equal(evaluate(mask, image(64, seed))[..., 0], labels)
    assert np.array_equal(evaluate(logit, image(64, seed)).argmax(axis=-1), labels)


@pytest.mark.parametrize("head", [Head.LOGIT, Head.MASK])
def test_a_head_is_set_once(head: Head) -> None:
    graph = SetHead(head).run(nanonet()).graph
    with pytest.raises(GraphError, match=r"the output is a \w+, not a sigmoid or softmax"):
        SetHead(head).run(graph)


def test_heads_leave_no_sigmoid_behind() -> None:
    for head in (Head.LOGIT, Head.MASK):
        graph = SetHead(head).run(rewritten()).graph
        gates = [node for node in graph if node.op == "sigmoid"]
        assert all("gate" in node.name for node in gates)
