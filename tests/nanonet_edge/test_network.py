"""The unrewritten network: counts, sizes, classes, and its likeness to the released code."""

from __future__ import annotations

import numpy as np
import pytest

from nanonet_edge.errors import UsageError
from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from nanonet_edge.network import build_network, initial_fill, make_divisible, random_fill
from nanonet_edge.variants import VARIANTS, Topology
from tests.nanonet_edge.graphs import ALL, image, nanonet


@pytest.mark.parametrize(("variant", "topology"), ALL)
def test_parameters_are_the_published_count(variant: str, topology: Topology) -> None:
    graph = build_network(VARIANTS[variant], topology)
    assert graph.parameters == VARIANTS[variant].expected_parameters(topology)
    assert graph.shapes()[graph.output] == (256, 256, 1)


@pytest.mark.parametrize("size", [32, 96, 224, 256, 512])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_any_size_and_any_number_of_classes(size: int, classes: int) -> None:
    graph = build_network(VARIANTS["c"], size=size, classes=classes)
    assert graph.shapes()[graph.output] == (size, size, classes)
    assert (graph.size, graph.classes) == (size, classes)
    assert graph[graph.output].op == ("sigmoid" if classes == 1 else "softmax")


@pytest.mark.parametrize("size", [0, -32, 31, 100, 257])
def test_a_size_that_is_no_multiple_of_32_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        build_network(VARIANTS["a"], size=size)


def test_skips_and_cut_lie_where_the_paper_has_them() -> None:
    graph = build_network(VARIANTS["a"])
    shapes = graph.shapes()
    skips = [graph[f"decoder_{stage}_skip"].inputs[0] for stage in (1, 2, 3)]
    assert skips == ["block_3_expand_relu6", "block_1_expand_relu6", "input_image"]
    assert [shapes[name][:2] for name in skips] == [(64, 64), (128, 128), (256, 256)]
    assert graph["bridge_conv1"].inputs == ("block_6_expand_relu6",)
    assert shapes["block_6_expand_relu6"][:2] == (32, 32)


def shortcut(graph: Graph, block: str) -> tuple[str, str]:
    """The operation before the shortcut's batch norm, and what that reads."""
    (norm,) = (graph[name] for name in graph[f"{block}_add"].inputs if "shortcut" in name)
    source = graph[norm.inputs[0]]
    return source.op, source.name


def test_the_released_shortcut_reads_the_main_path_and_the_described_one_the_input() -> None:
    assert shortcut(nanonet("c", Topology.RELEASED), "decoder_2") == ("batch_norm", "decoder_2_conv3_bn")
    described = nanonet("c", Topology.DESCRIBED)
    op, name = shortcut(described, "decoder_2")
    assert op == "conv2d"
    assert described[name].inputs == described["decoder_2_conv1"].inputs


@pytest.mark.parametrize(
    ("value", "expected"),
    [(16, 16), (11.2, 16), (8.4, 8), (5.6, 8), (1, 8), (19, 24), (33.6, 32), (107, 104)],
)
def test_channels_round_as_mobilenet_v2_does(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


@pytest.mark.parametrize(("variant", "topology"), ALL)
def test_random_weights_give_logits_of_a_trained_scale(variant: str, topology: Topology) -> None:
    graph = nanonet(variant, topology, seed=1)
    probability = evaluate(graph, image(64))
    assert probability.std() > 1e-4, "a constant output would make every comparison pass"
    assert 1e-4 < probability.min() < probability.max() < 1 - 1e-4


def test_random_weights_depend_on_the_seed_alone() -> None:
    shape = (3, 3, 4, 5)
    assert np.array_equal(random_fill(1)("x", "kernel", shape), random_fill(1)("y", "kernel", shape))
    assert not np.array_equal(random_fill(1)("x", "kernel", shape), random_fill(2)("x", "kernel", shape))


@pytest.mark.parametrize("shape", [(3, 3, 64, 48), (1, 1, 96, 128), (3, 3, 512, 1), (512, 64)])
def test_a_training_starts_from_kernels_spread_as_keras_spreads_them(shape: tuple[int, ...]) -> None:
    keras = pytest.importorskip("keras")
    ours = initial_fill(3)("x", "kernel", shape)
    theirs = np.asarray(keras.initializers.GlorotUniform(seed=3)(shape))
    assert ours.dtype == np.float32
    assert ours.std() == pytest.approx(theirs.std(), rel=0.05)
    assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.02)
    assert np.array_equal(ours, initial_fill(3)("y", "kernel", shape))


def test_a_training_starts_from_batch_norms_that_change_nothing() -> None:
    graph = build_network(VARIANTS["c"], size=32, fill=initial_fill(0))
    for node in graph:
        if node.op == "batch_norm":
            assert all(np.all(node.weights[name] == 1) for name in ("gamma", "variance"))
            assert not any(node.weights[name].any() for name in ("beta", "mean"))
        elif "bias" in node.weights:
            assert not node.weights["bias"].any()
