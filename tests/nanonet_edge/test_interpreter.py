"""The NumPy interpreter, operation by operation, against Keras, OpenCV and plain loops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.graph import Graph, GraphError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.keras_network import build_keras
from nanonet_edge.variants import Topology
from tests.nanonet_edge.graphs import ALL, Draw, Sketch, Tensor, image, nanonet

ACTIVATIONS = ("none", "relu", "relu6")


def keras_says(graph: Graph, x: Tensor) -> Tensor:
    return np.asarray(build_keras(graph)(x, training=False))


def wide(size: int, channels: int) -> Tensor:
    """Two tensors with negative values and some beyond 6, where ReLU6 saturates."""
    return image(size, channels=channels, count=2) * 20 - 8


def mean(sketch: Sketch, *, keepdims: bool) -> str:
    return sketch.add("global_mean", "image", keepdims=keepdims)


ONE_OP: dict[str, Draw] = {
    "batch_norm": lambda s: s.norm("image"),
    "relu": lambda s: s.add("relu", "image"),
    "relu6": lambda s: s.add("relu6", "image"),
    "sigmoid": lambda s: s.add("sigmoid", "image"),
    "softmax": lambda s: s.add("softmax", "image"),
    "concat": lambda s: s.add("concat", s.norm("image"), "image", channels=6),
    "multiply": lambda s: s.add("multiply", "image", s.norm("image")),
    "multiply broadcasts": lambda s: s.add("multiply", "image", mean(s, keepdims=True)),
    "concat of three": lambda s: s.add("concat", "image", s.norm("image"), "image", channels=9),
    "multiply by one channel": lambda s: s.add("multiply", "image", s.conv("image", 1)),
    "add broadcasts": lambda s: s.add("add", "image", mean(s, keepdims=True)),
    "broadcast": lambda s: s.add("broadcast", mean(s, keepdims=True), "image"),
    "max_pool": lambda s: s.add("max_pool", "image"),
    "conv2d_transpose": lambda s: s.transposed("image", 5),
    "conv2d_transpose without bias": lambda s: s.transposed("image", 5, bias=False),
    "upsample_nearest": lambda s: s.add("upsample_nearest", "image"),
    "upsample_bilinear": lambda s: s.add("upsample_bilinear", "image"),
    "zero_pad": lambda s: s.add("zero_pad", "image"),
    "global_mean": lambda s: mean(s, keepdims=False),
    "global_mean keeps dimensions": lambda s: mean(s, keepdims=True),
    "reshape": lambda s: s.add("reshape", mean(s, keepdims=False)),
    "dense on a vector": lambda s: s.dense(mean(s, keepdims=False), 5),
    "dense on a pixel": lambda s: s.dense(s.add("reshape", mean(s, keepdims=False)), 5),
    "conv2d without bias": lambda s: s.conv("image", bias=False),
    "1x1 conv2d": lambda s: s.conv("image", kernel=1),
    "1x1 conv2d, stride 2": lambda s: s.conv("image", kernel=1, strides=2),
    "dilated conv2d": lambda s: s.conv("image", dilation=2),
    "conv2d dilated beyond the image": lambda s: s.conv("image", dilation=18),
    "dilated valid conv2d": lambda s: s.conv("image", dilation=3, padding="valid"),
    "5x5 conv2d": lambda s: s.conv("image", kernel=5, strides=2),
}


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("op", ONE_OP)
def test_each_operation_is_that_of_keras(op: str, size: int) -> None:
    sketch = Sketch(size)
    ONE_OP[op](sketch)
    x = wide(size, 3)
    assert evaluate(sketch.graph(), x).dtype == np.float32
    np.testing.assert_allclose(
        evaluate(sketch.graph(), x), keras_says(sketch.graph(), x), atol=2e-5, rtol=1e-5
    )


@pytest.mark.parametrize(("size", "strides", "padding"), list(product([7, 8], [1, 2], ["same", "valid"])))
@pytest.mark.parametrize("multiplier", [0, 1, 2])
def test_convolutions_are_those_of_keras(size: int, strides: int, padding: str, multiplier: int) -> None:
    sketch = Sketch(size)
    if multiplier:
        sketch.depthwise("image", multiplier, strides=strides, padding=padding)
    else:
        sketch.conv("image", strides=strides, padding=padding)
    x = wide(size, 3)
    np.testing.assert_allclose(
        evaluate(sketch.graph(), x), keras_says(sketch.graph(), x), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fused_activations_are_those_of_keras(activation: str) -> None:
    sketch = Sketch()
    first = sketch.conv("image", 3, activation=activation)
    second = sketch.depthwise("image", activation=activation)
    sketch.add("add", first, second, activation=activation)
    x = wide(8, 3)
    np.testing.assert_allclose(
        evaluate(sketch.graph(), x), keras_says(sketch.graph(), x), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize(("variant", "topology"), ALL)
def test_the_whole_network_is_that_of_keras(variant: str, topology: Topology) -> None:
    graph = nanonet(variant, topology, seed=2)
    np.testing.assert_allclose(evaluate(graph, image(64)), keras_says(graph, image(64)), atol=1e-5)


def test_several_classes_are_those_of_keras() -> None:
    graph = nanonet(classes=4)
    found = evaluate(graph, image(64))
    np.testing.assert_allclose(found, keras_says(graph, image(64)), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("op", ["mask", "edge_pad", "depth_to_space"])
def test_keras_refuses_what_it_has_no_layer_for(op: str) -> None:
    sketch = Sketch(channels=4)
    sketch.add(op, "image")
    with pytest.raises(GraphError, match=f"Keras has no layer for {op}"):
        build_keras(sketch.graph())


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_upsampling_is_the_resize_of_opencv(size: int) -> None:
    import cv2

    sketch = Sketch(size)
    sketch.add("upsample_bilinear", "image")
    x = image(size)
    resized = cv2.resize(x[0], (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(evaluate(sketch.graph(), x)[0], resized, atol=1e-6)


@given(seed=st.integers(0, 2**16), size=st.integers(1, 5), blocks=st.integers(1, 3))
@settings(max_examples=20)
def test_depth_to_space_moves_blocks_of_2(seed: int, size: int, blocks: int) -> None:
    sketch = Sketch(size, 4 * blocks)
    sketch.add("depth_to_space", "image", channels=blocks)
    x = image(size, seed, channels=4 * blocks)
    found = evaluate(sketch.graph(), x)
    for row, column, channel in product(range(2 * size), range(2 * size), range(blocks)):
        position = (row % 2) * 2 + column % 2
        assert found[0, row, column, channel] == x[0, row // 2, column // 2, position * blocks + channel]


@given(seed=st.integers(0, 2**16), size=st.integers(1, 5))
@settings(max_examples=20)
def test_edge_pad_repeats_the_border(seed: int, size: int) -> None:
    sketch = Sketch(size)
    sketch.add("edge_pad", "image")
    x = image(size, seed)
    found = evaluate(sketch.graph(), x)
    assert found.shape == (1, size + 2, size + 2, 3)
    for row, column in product(range(size + 2), range(size + 2)):
        nearest = x[0, min(max(row - 1, 0), size - 1), min(max(column - 1, 0), size - 1)]
        assert (found[0, row, column] == nearest).all()


def test_a_mask_is_a_sign_or_an_arg_max() -> None:
    x = np.array([[[[-1.0, 2.0], [0.0, 0.0]], [[3.0, -4.0], [1e-30, 0.0]]]], np.float32)
    two = Sketch(2, 2)
    two.add("mask", "image", channels=1)
    one = Sketch(2, 1)
    one.add("mask", "image")
    assert evaluate(two.graph(), x)[..., 0].tolist() == [[[1, 0], [0, 0]]]
    assert evaluate(one.graph(), x[..., :1])[..., 0].tolist() == [[[0, 0], [1, 1]]]


def test_sigmoid_and_softmax_do_not_overflow() -> None:
    x = np.array([[[[-1e4, 1e4]]]], np.float32)
    for op, expected in (("sigmoid", [0, 1]), ("softmax", [0, 1])):
        sketch = Sketch(1, 2)
        sketch.add(op, "image")
        with np.errstate(over="raise"):
            assert evaluate(sketch.graph(), x).ravel().tolist() == expected


def test_an_inner_node_and_the_input_may_be_the_output() -> None:
    sketch = Sketch()
    inner = sketch.add("relu", "image")
    sketch.add("sigmoid", inner)
    x = wide(8, 3)
    assert np.array_equal(evaluate(sketch.graph(inner), x), np.maximum(x, 0))
    assert evaluate(sketch.graph("image"), x) is x
