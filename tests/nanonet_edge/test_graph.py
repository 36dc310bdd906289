"""The rules of the intermediate form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanonet_edge.graph import Graph, GraphError, Node, rebuild
from tests.nanonet_edge.graphs import Sketch, nanonet

INPUT = Node("image", "input", attributes={"size": 8, "channels": 3})
KERNEL = {"kernel": np.ones((3, 3, 3, 4), np.float32)}
WRONG_KERNEL = {"kernel": np.ones((1, 1, 5, 4), np.float32)}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((INPUT, Node("x", "conv3d", ("image",))), "'x': unknown operation 'conv3d'"),
        ((INPUT, Node("x", "add", ("image",))), "'x': add cannot have 1 inputs"),
        ((INPUT, Node("x", "concat", ("image",))), "'x': concat cannot have 1 inputs"),
        ((INPUT, Node("x", "relu", ("image", "image"))), "'x': relu cannot have 2 inputs"),
        ((INPUT, Node("x", "conv2d", ("image",))), r"'x': conv2d lacks \['kernel'\]"),
        (
            (INPUT, Node("x", "batch_norm", ("image",), {"gamma": np.ones(3, np.float32)})),
            "beta.*mean.*variance",
        ),
        (
            (INPUT, Node("x", "relu", ("y",)), Node("y", "relu", ("image",))),
            "'x': input y is not computed before",
        ),
        ((INPUT, Node("image", "relu", ("image",))), "'image': the name is used twice"),
        ((INPUT,), "output 'x' is computed by no node"),
        ((), "the first node must be the input"),
        ((INPUT, Node("x", "input")), "'x': a second input"),
    ],
)
def test_a_graph_that_breaks_a_rule_cannot_be_made(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Graph(nodes, "x")


def test_shapes_of_every_operation() -> None:
    sketch = Sketch(size=9, channels=4)
    expected: dict[str, tuple[int, ...]] = {"image": (9, 9, 4)}

    def expect(name: str, *shape: int) -> str:
        expected[name] = shape
        return name

    expect(sketch.conv("image", 5, strides=2), 5, 5, 5)
    expect(sketch.conv("image", 5, strides=2, padding="valid"), 4, 4, 5)
    expect(sketch.conv("image", 5, padding="valid"), 7, 7, 5)
    expect(sketch.depthwise("image", 2), 9, 9, 8)
    expect(sketch.depthwise("image", strides=2), 5, 5, 4)
    expect(sketch.norm("image"), 9, 9, 4)
    for op in ("relu", "relu6", "sigmoid", "softmax"):
        expect(sketch.add(op, "image"), 9, 9, 4)
    expect(sketch.add("add", "image", "image"), 9, 9, 4)
    expect(sketch.add("concat", "image", "image", channels=8), 9, 9, 8)
    expect(sketch.add("upsample_bilinear", "image"), 18, 18, 4)
    expect(sketch.add("upsample_nearest", "image"), 18, 18, 4)
    expect(sketch.add("max_pool", "image"), 4, 4, 4)
    expect(sketch.transposed("image", 5), 18, 18, 5)
    expect(sketch.conv("image", 5, dilation=2), 9, 9, 5)
    expect(sketch.conv("image", 5, dilation=2, padding="valid"), 5, 5, 5)
    expect(sketch.add("concat", "image", "image", "image", channels=12), 9, 9, 12)
    expect(sketch.add("zero_pad", "image"), 10, 10, 4)
    expect(sketch.add("edge_pad", "image"), 11, 11, 4)
    expect(sketch.add("depth_to_space", "image", channels=1), 18, 18, 1)
    expect(sketch.add("crop", "image", top=1, left=2, height=3, width=4), 3, 4, 4)
    expect(sketch.add("join", "image", "image", axis=0), 18, 9, 4)
    expect(sketch.add("join", "image", "image", "image", axis=1), 9, 27, 4)
    expect(sketch.add("column_mean", "image"), 1, 9, 4)
    expect(sketch.add("mask", "image", channels=1), 9, 9, 1)
    vector = expect(sketch.add("global_mean", "image", keepdims=False), 4)
    expect(sketch.dense(vector, 2), 2)
    pixel = expect(sketch.add("reshape", vector), 1, 1, 4)
    expect(sketch.dense(pixel, 2), 1, 1, 2)
    kept = expect(sketch.add("global_mean", "image", keepdims=True), 1, 1, 4)
    expect(sketch.add("multiply", "image", kept), 9, 9, 4)
    expect(sketch.add("broadcast", kept, "image"), 9, 9, 4)
    assert sketch.graph().shapes() == expected


def test_a_kernel_for_other_channels_has_no_shape() -> None:
    graph = Graph((INPUT, Node("x", "conv2d", ("image",), WRONG_KERNEL)), "x")
    with pytest.raises(GraphError, match="'x': expected 5 input channels, found 3"):
        graph.shapes()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("x", "concat", ("image", "small")), "expected inputs of one size"),
        (Node("x", "conv2d_transpose", ("image",), KERNEL), r"expected a 2x2 kernel, found \(3, 3\)"),
        (
            Node("x", "conv2d_transpose", ("image",), {"kernel": np.ones((2, 2, 4, 5), np.float32)}),
            "expected 5 input channels, found 3",
        ),
        (Node("x", "join", ("image", "small"), attributes={"axis": 0}), ".* cannot be joined along axis 0"),
        (Node("x", "join", ("image", "image"), attributes={"axis": 2}), ".* cannot be joined along axis 2"),
        (
            Node("x", "crop", ("small",), attributes={"top": 0, "left": 1, "height": 1, "width": 99}),
            r"1x99 at \(0, 1\) is not inside",
        ),
    ],
)
def test_what_does_not_fit_together_has_no_shape(node: Node, message: str) -> None:
    graph = Graph((INPUT, Node("small", "max_pool", ("image",)), node), "x")
    with pytest.raises(GraphError, match=f"'x': {message}"):
        graph.shapes()


def test_a_missing_bias_counts_as_zeros() -> None:
    conv = Node("x", "conv2d", ("image",), KERNEL)
    depthwise = conv.but(op="depthwise_conv2d")
    assert conv.bias.shape == (4,)
    assert conv.but(op="conv2d_transpose").bias.shape == (3,)
    assert depthwise.bias.shape == (12,)
    assert not conv.bias.any()
    stored = np.arange(4, dtype=np.float32)
    assert conv.but(weights={**KERNEL, "bias": stored}).bias is stored


@pytest.mark.parametrize(
    ("kernel", "attributes", "expected"),
    [
        (1, {}, True),
        (3, {}, False),
        (1, {"strides": 2}, False),
        (1, {"activation": "relu"}, False),
        (1, {"activation": "none"}, True),
    ],
)
def test_pointwise_means_1x1_stride_1_and_no_activation(
    kernel: int, attributes: dict[str, Any], expected: bool
) -> None:
    sketch = Sketch()
    name = sketch.conv("image", kernel=kernel, **attributes)
    assert sketch.graph()[name].is_pointwise is expected


def test_consumers_count_a_reader_twice_that_reads_twice() -> None:
    sketch = Sketch()
    sketch.add("add", "image", "image", name="double")
    sketch.add("relu", "image", name="once")
    assert sketch.graph().consumers() == {"image": ["double", "double", "once"], "double": [], "once": []}


def test_classes_are_those_before_a_mask() -> None:
    sketch = Sketch()
    logits = sketch.conv("image", 5)
    assert sketch.graph().classes == 5
    sketch.add("mask", logits)
    assert sketch.graph().classes == 5


def test_with_size_changes_the_size_alone() -> None:
    graph = nanonet(size=64)
    larger = graph.with_size(128)
    assert (graph.size, larger.size) == (64, 128)
    assert larger.nodes[1:] == graph.nodes[1:]
    assert larger.shapes()[larger.output] == (128, 128, 1)


def test_rebuild_sorts_and_drops_what_is_not_needed() -> None:
    graph = nanonet()
    extra = Node("unread", "relu", (graph.output,))
    rebuilt = rebuild([extra, *reversed(graph.nodes)], graph.output)
    assert {node.name for node in rebuilt} == {node.name for node in graph}
    assert rebuilt.input is graph.input


def test_rebuild_refuses_a_cycle() -> None:
    nodes = [INPUT, Node("x", "relu", ("y",)), Node("y", "relu", ("x",))]
    with pytest.raises(GraphError, match="depends on itself"):
        rebuild(nodes, "y")


def test_rebuild_refuses_a_gap() -> None:
    with pytest.raises(GraphError, match="input 'gone' is computed by no node"):
        rebuild([INPUT, Node("x", "relu", ("gone",))], "x")


def test_rebuild_goes_deep() -> None:
    chain = [Node(f"n{i}", "relu", (f"n{i - 1}" if i else "image",)) for i in range(5000)]
    assert len(rebuild([*reversed(chain), INPUT], "n4999").nodes) == 5001
