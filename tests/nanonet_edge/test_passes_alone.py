"""Each pass on a graph of a few nodes: what it rewrites, and what only looks like it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nanonet_edge.graph import Graph, GraphError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.passes import (
    CommuteUpsample,
    FoldBatchNorm,
    FoldReleasedShortcut,
    FuseActivation,
    MergeStridedPadding,
    NormAsConvolution,
    Pass,
    SqueezeAsConvolution,
    TransposeAsConvolution,
)
from tests.nanonet_edge.graphs import Sketch, image


def ops_after(each: Pass, graph: Graph, changes: int = 1) -> list[str]:
    """Run a pass, hold its result to the graph before, and return the operations left."""
    result = each.run(graph)
    x = image(graph.size, channels=graph.shapes()[graph.input.name][-1], count=2) * 4 - 2
    np.testing.assert_allclose(evaluate(result.graph, x), evaluate(graph, x), atol=2e-5, rtol=1e-5)
    assert result.changes == changes
    assert result.graph.output == graph.output, "readers of the output must not notice"
    return result.graph.ops()


# merge-strided-padding ------------------------------------------------------------------------


def padded(size: int, kernel: int = 3, **attributes: Any) -> Graph:
    sketch = Sketch(size)
    pad = sketch.add("zero_pad", "image")
    sketch.conv(pad, kernel=kernel, **{"strides": 2, "padding": "valid", **attributes})
    return sketch.graph()


def test_strided_padding_merges() -> None:
    assert ops_after(MergeStridedPadding(), padded(8)) == ["input", "conv2d"]


def test_strided_padding_of_a_depthwise_convolution_merges() -> None:
    sketch = Sketch(8)
    sketch.depthwise(sketch.add("zero_pad", "image"), strides=2, padding="valid")
    assert ops_after(MergeStridedPadding(), sketch.graph()) == ["input", "depthwise_conv2d"]


@pytest.mark.parametrize(
    "graph",
    [padded(9), padded(8, strides=1), padded(8, kernel=5), padded(8, padding="same")],
    ids=["odd size", "stride 1", "5x5", "same"],
)
def test_padding_that_same_does_not_do_stays_and_is_reported(graph: Graph) -> None:
    with pytest.raises(GraphError, match="pass merge-strided-padding: left zero_pad"):
        MergeStridedPadding().run(graph)


def test_padding_that_another_node_reads_as_well_stays() -> None:
    sketch = Sketch(8)
    pad = sketch.add("zero_pad", "image")
    conv = sketch.conv(pad, 3, strides=2, padding="valid")
    sketch.add("multiply", conv, sketch.add("global_mean", pad, keepdims=True))
    with pytest.raises(GraphError, match="left zero_pad"):
        MergeStridedPadding().run(sketch.graph())


# fold-released-shortcut -----------------------------------------------------------------------


@pytest.mark.parametrize("swapped", [False, True])
def test_a_shortcut_that_normalises_its_own_main_path_folds(swapped: bool) -> None:
    sketch = Sketch()
    main = sketch.conv("image")
    norm = sketch.norm(main)
    sketch.add("add", *((norm, main) if swapped else (main, norm)))
    assert ops_after(FoldReleasedShortcut(), sketch.graph()) == ["input", "conv2d", "batch_norm"]


def test_a_shortcut_from_elsewhere_stays() -> None:
    sketch = Sketch()
    main = sketch.conv("image")
    other = sketch.conv("image")
    sketch.add("add", main, sketch.norm(other))
    assert "add" in ops_after(FoldReleasedShortcut(), sketch.graph(), changes=0)


def test_a_shortcut_whose_batch_norm_is_read_elsewhere_keeps_it() -> None:
    sketch = Sketch()
    main = sketch.conv("image")
    norm = sketch.norm(main)
    total = sketch.add("add", main, norm)
    sketch.add("multiply", total, norm)
    assert ops_after(FoldReleasedShortcut(), sketch.graph()).count("batch_norm") == 2


def test_the_whole_released_shortcut_becomes_one_convolution() -> None:
    sketch = Sketch()
    main = sketch.norm(sketch.conv("image"))
    sketch.add("add", main, sketch.norm(main))
    graph = FoldReleasedShortcut().run(sketch.graph()).graph
    assert ops_after(FoldBatchNorm(), graph, changes=2) == ["input", "conv2d"]


# fold-batch-norm ------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_a_batch_norm_folds_into_its_convolution(bias: bool) -> None:
    sketch = Sketch()
    sketch.norm(sketch.conv("image", bias=bias))
    assert ops_after(FoldBatchNorm(), sketch.graph()) == ["input", "conv2d"]


@pytest.mark.parametrize("multiplier", [1, 3])
def test_a_batch_norm_folds_into_a_depthwise_convolution(multiplier: int) -> None:
    sketch = Sketch()
    sketch.norm(sketch.depthwise("image", multiplier))
    assert ops_after(FoldBatchNorm(), sketch.graph()) == ["input", "depthwise_conv2d"]


def with_two_readers() -> Graph:
    sketch = Sketch()
    conv = sketch.conv("image")
    sketch.add("add", conv, sketch.norm(conv))
    return sketch.graph()


def with_fused_activation() -> Graph:
    sketch = Sketch()
    sketch.norm(sketch.conv("image", activation="relu"))
    return sketch.graph()


def on_the_input() -> Graph:
    sketch = Sketch()
    sketch.norm("image")
    return sketch.graph()


@pytest.mark.parametrize("graph", [with_two_readers(), with_fused_activation(), on_the_input()])
def test_a_batch_norm_that_cannot_fold_becomes_a_convolution_of_its_own(graph: Graph) -> None:
    assert "batch_norm" in ops_after(FoldBatchNorm(), graph, changes=0)
    ops = ops_after(NormAsConvolution(), graph)
    assert ops == ["depthwise_conv2d" if op == "batch_norm" else op for op in graph.ops()]


def test_a_batch_norm_that_became_a_convolution_takes_up_its_activation() -> None:
    sketch = Sketch()
    sketch.add("relu", sketch.norm(sketch.add("add", "image", "image")))
    graph = NormAsConvolution().run(sketch.graph()).graph
    assert ops_after(FuseActivation(), graph) == ["input", "add", "depthwise_conv2d"]


# squeeze-as-convolution -----------------------------------------------------------------------


def test_squeeze_and_excitation_becomes_two_convolutions() -> None:
    sketch = Sketch()
    mean = sketch.add("reshape", sketch.add("global_mean", "image", keepdims=False))
    hidden = sketch.add("relu", sketch.dense(mean, 2))
    sketch.add("multiply", "image", sketch.add("sigmoid", sketch.dense(hidden, 3)))
    graph = sketch.graph()
    assert ops_after(SqueezeAsConvolution(), graph, changes=3) == [
        "input", "global_mean", "conv2d", "relu", "conv2d", "sigmoid", "multiply",
    ]  # fmt: skip


def test_a_dense_layer_on_a_vector_is_no_convolution() -> None:
    sketch = Sketch()
    sketch.dense(sketch.add("global_mean", "image", keepdims=False), 2)
    with pytest.raises(GraphError, match="pass squeeze-as-convolution: left dense"):
        SqueezeAsConvolution().run(sketch.graph())


def test_a_reshape_of_something_else_is_reported() -> None:
    sketch = Sketch()
    mean = sketch.add("global_mean", "image", keepdims=False)
    sketch.add("reshape", sketch.add("relu", mean))
    with pytest.raises(GraphError, match="left reshape"):
        SqueezeAsConvolution().run(sketch.graph())


# commute-upsample -----------------------------------------------------------------------------


UPSAMPLINGS = ["upsample_bilinear", "upsample_nearest"]


def joined(
    kernel: int = 1, *, up: str = UPSAMPLINGS[0], up_first: bool = True, bias: bool = True, **attributes: Any
) -> Graph:
    """up(image) and a skip of its size, concatenated and convolved."""
    sketch = Sketch(8)
    low = sketch.conv("image", 5, strides=2)
    parts = [sketch.add(up, low), sketch.conv("image", 2)]
    both = sketch.add("concat", *(parts if up_first else parts[::-1]), channels=7)
    sketch.conv(both, 4, kernel, bias=bias, **attributes)
    return sketch.graph()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("up", UPSAMPLINGS)
@pytest.mark.parametrize("up_first", [False, True])
def test_a_pointwise_convolution_moves_before_the_upsampling(up: str, up_first: bool, bias: bool) -> None:
    graph = joined(up=up, up_first=up_first, bias=bias)
    assert sorted(ops_after(CommuteUpsample(), graph)) == sorted(
        ["input", "conv2d", "conv2d", "conv2d", up, "conv2d", "add"]
    )
    shapes = CommuteUpsample().run(graph).graph.shapes()
    assert shapes[f"{graph.output}_up"][-1] == 4, "upsampled are the few channels, not the many"


def test_two_convolutions_of_one_concatenation_both_move() -> None:
    sketch = Sketch(8)
    up = sketch.add("upsample_bilinear", sketch.conv("image", 5, strides=2))
    both = sketch.add("concat", up, "image", channels=8)
    sketch.add("add", sketch.conv(both, 4, 1), sketch.conv(both, 4, 1))
    assert "concat" not in ops_after(CommuteUpsample(), sketch.graph(), changes=2)


@pytest.mark.parametrize(
    "graph",
    [joined(3), joined(strides=2), joined(activation="relu")],
    ids=["3x3", "stride 2", "activation"],
)
def test_what_does_not_commute_stays(graph: Graph) -> None:
    assert "concat" in ops_after(CommuteUpsample(), graph, changes=0)


def test_a_concatenation_without_upsampling_stays() -> None:
    sketch = Sketch()
    sketch.conv(sketch.add("concat", sketch.conv("image"), "image", channels=7), 4, 1)
    assert "concat" in ops_after(CommuteUpsample(), sketch.graph(), changes=0)


def test_a_concatenation_that_something_else_reads_stays_for_it() -> None:
    sketch = Sketch(8)
    up = sketch.add("upsample_bilinear", sketch.conv("image", 5, strides=2))
    both = sketch.add("concat", up, "image", channels=8)
    sketch.add("multiply", sketch.conv(both, 8, 1), both)
    ops = ops_after(CommuteUpsample(), sketch.graph())
    assert (ops.count("concat"), ops.count("upsample_bilinear")) == (1, 2)


def test_one_pixel_spread_over_a_map_becomes_an_addition() -> None:
    sketch = Sketch(8)
    pixel = sketch.conv(sketch.add("global_mean", "image", keepdims=True), 5, 1)
    parts = [sketch.add("broadcast", pixel, "image"), sketch.conv("image", 2), sketch.conv("image", 4)]
    sketch.conv(sketch.add("concat", *parts, channels=11), 4, 1)
    ops = ops_after(CommuteUpsample(), sketch.graph())
    assert ops[-1] == "add"
    assert "broadcast" not in ops
    assert ops.count("concat") == 1, "the two other inputs stay together"


# transpose-as-convolution ---------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
def test_a_transposed_convolution_becomes_a_pointwise_one_and_blocks(bias: bool) -> None:
    sketch = Sketch(4)
    sketch.transposed("image", 5, bias=bias)
    assert ops_after(TransposeAsConvolution(), sketch.graph()) == ["input", "conv2d", "depth_to_space"]


# fuse-activation ------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "add"])
def test_an_activation_fuses(op: str, activation: str) -> None:
    sketch = Sketch()
    name = {
        "conv2d": lambda: sketch.conv("image"),
        "depthwise_conv2d": lambda: sketch.depthwise("image"),
        "add": lambda: sketch.add("add", "image", "image"),
    }[op]()
    sketch.add(activation, name)
    graph = sketch.graph()
    assert ops_after(FuseActivation(), graph) == ["input", op]
    assert FuseActivation().run(graph).graph[graph.output].activation == activation


def test_an_activation_whose_source_is_read_twice_stays() -> None:
    sketch = Sketch()
    conv = sketch.conv("image")
    sketch.add("add", conv, sketch.add("relu", conv))
    assert "relu" in ops_after(FuseActivation(), sketch.graph(), changes=0)


def test_an_activation_of_an_activated_convolution_stays() -> None:
    sketch = Sketch()
    sketch.add("relu6", sketch.conv("image", activation="relu"))
    assert "relu6" in ops_after(FuseActivation(), sketch.graph(), changes=0)


def test_an_activation_of_something_else_stays() -> None:
    sketch = Sketch()
    sketch.add("relu", sketch.add("upsample_bilinear", "image"))
    assert "relu" in ops_after(FuseActivation(), sketch.graph(), changes=0)


def test_of_two_activations_in_a_row_the_first_fuses() -> None:
    sketch = Sketch()
    sketch.add("relu6", sketch.add("relu", sketch.conv("image")))
    assert ops_after(FuseActivation(), sketch.graph()) == ["input", "conv2d", "relu6"]
