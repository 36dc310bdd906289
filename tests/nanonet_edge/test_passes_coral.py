"""Rewrites for the Edge TPU: the same function to the last bit, in float."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nanonet_edge.graph import Graph, Node
from nanonet_edge.interpreter import Tensor, evaluate
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.passes import rewrite
from nanonet_edge.passes.coral import UpsampleAsDepthwise
from nanonet_edge.variants import VARIANTS
from tests.nanonet_edge.graphs import image


def resize(size: int, channels: int) -> Graph:
    source = Node("image", "input", attributes={"size": size, "channels": channels})
    return Graph((source, Node("up", "upsample_bilinear", ("image",))), "up")


#: Sixteenths of such integers, and their sums, are exact in float32.
PIXELS = st.integers(-(2**16), 2**16).map(float)
PICTURES = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6).flatmap(
    lambda shape: arrays(np.float32, (shape[2] % 2 + 1, shape[0], shape[0], shape[1]), elements=PIXELS)
)


@given(PICTURES)
def test_it_is_the_interpolation_to_the_last_bit(x: Tensor) -> None:
    graph = resize(x.shape[1], x.shape[3])
    result = UpsampleAsDepthwise().run(graph)
    assert result.graph.ops() == ["input", "upsample_nearest", "edge_pad", "depthwise_conv2d"]
    np.testing.assert_array_equal(evaluate(result.graph, x), evaluate(graph, x))


def test_every_resize_of_the_network_goes() -> None:
    graph = rewrite(build_network(VARIANTS["c"], fill=random_fill(0))).graph.with_size(64)
    result = UpsampleAsDepthwise().run(graph)
    assert result.changes == graph.ops().count("upsample_bilinear") == 3
    x = image(64, count=1)
    np.testing.assert_allclose(evaluate(result.graph, x), evaluate(graph, x), atol=2e-6)


@pytest.mark.parametrize("op", ["upsample_nearest", "max_pool"])
def test_other_resizes_stay(op: str) -> None:
    source = Node("image", "input", attributes={"size": 4, "channels": 2})
    graph = Graph((source, Node("up", op, ("image",))), "up")
    assert UpsampleAsDepthwise().run(graph).changes == 0
