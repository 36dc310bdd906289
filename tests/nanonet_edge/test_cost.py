"""Multiply-accumulates, against counts made by hand."""

from __future__ import annotations

import pytest

from nanonet_edge.cost import multiply_accumulates
from nanonet_edge.network import build_network
from nanonet_edge.passes import rewrite
from nanonet_edge.variants import COMPARATORS, NETWORKS, get_network
from tests.nanonet_edge.graphs import Draw, Sketch


def squeezed(sketch: Sketch) -> str:
    return sketch.add("reshape", sketch.add("global_mean", "image", keepdims=False))


BY_HAND: dict[str, tuple[Draw, int]] = {
    "conv2d": (lambda s: s.conv("image", 4, 3), 8 * 8 * 3 * 3 * 3 * 4),
    "stride 2": (lambda s: s.conv("image", 4, 3, strides=2), 4 * 4 * 3 * 3 * 3 * 4),
    "valid": (lambda s: s.conv("image", 4, 3, padding="valid"), 6 * 6 * 3 * 3 * 3 * 4),
    "dilated": (lambda s: s.conv("image", 4, 3, dilation=6), 8 * 8 * 3 * 3 * 3 * 4),
    "depthwise": (lambda s: s.depthwise("image", 2), 8 * 8 * 3 * 3 * 3 * 2),
    "transposed": (lambda s: s.transposed("image", 5), 8 * 8 * 2 * 2 * 3 * 5),
    "dense": (lambda s: s.dense(squeezed(s), 7), 3 * 7),
    "no weights": (lambda s: s.add("add", "image", "image"), 0),
    "batch norm": (lambda s: s.norm("image"), 0),
}


@pytest.mark.parametrize("op", BY_HAND)
def test_each_operation(op: str) -> None:
    draw, count = BY_HAND[op]
    sketch = Sketch(8, channels=3)
    draw(sketch)
    assert multiply_accumulates(sketch.graph()) == count


def test_the_whole_u_net() -> None:
    """Level by level: two 3x3 convolutions each, 2x2 transposed ones on the way up, a 1x1 head."""
    widths, side, total, channels = (32, 64, 128, 256, 512), 256, 0, 3
    for width in widths:
        total += side * side * 9 * (channels * width + width * width)
        channels, side = width, side // 2
    side = 16
    for width in (256, 128, 64, 32):
        total += side * side * 4 * (2 * width) * width
        side *= 2
        total += side * side * 9 * (2 * width * width + width * width)
    total += 256 * 256 * 32
    assert multiply_accumulates(build_network(COMPARATORS["unet"])) == total


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cost_grows_with_the_area(name: str) -> None:
    small, large = (build_network(get_network(name), size=size) for size in (64, 128))
    ratio = multiply_accumulates(large) / multiply_accumulates(small)
    assert ratio == pytest.approx(4, rel=1e-3), "but for squeeze-and-excitation, which has no area"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rewrite_costs_less_or_the_same_but_for_lone_batch_norms(name: str) -> None:
    graph = build_network(get_network(name), size=64)
    assert multiply_accumulates(rewrite(graph).graph) <= 1.02 * multiply_accumulates(graph)
