"""ResUNet, ResUNet++, U-Net and DoubleU-Net: published counts, Keras, the rewrite, checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint, untrained_checkpoint
from nanonet_edge.comparators import build_comparator
from nanonet_edge.errors import CheckpointError, UsageError
from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from nanonet_edge.keras_network import build_keras
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.passes import FoldInputScale, SwapInputChannels, rewrite
from nanonet_edge.variants import COMPARATORS, VARIANTS, Topology, get_network, topology_of
from tests.nanonet_edge.graphs import image

#: Eighths of the widths: the same operations, in a blink.
DIVISOR = 8


def small(name: str, *, size: int = 64, classes: int = 1, seed: int = 3) -> Graph:
    return build_comparator(name, size, classes, random_fill(seed), divisor=DIVISOR)


@pytest.mark.parametrize(
    ("name", "count"),
    [("resunet", 8_227_393), ("resunet++", 4_070_385), ("unet", 7_771_873), ("doubleunet", 29_297_570)],
)
def test_the_count_is_the_published_one(name: str, count: int) -> None:
    graph = build_network(get_network(name))
    assert graph.parameters == COMPARATORS[name].parameters == count
    assert graph.shapes()[graph.output] == (256, 256, 1)


@pytest.mark.parametrize("name", COMPARATORS)
def test_keras_counts_the_same_and_lists_the_layers_in_our_order(name: str) -> None:
    graph = build_network(get_network(name), size=32)
    model = build_keras(graph)
    assert model.count_params() == COMPARATORS[name].parameters
    theirs = [layer.name for layer in model.layers if layer.weights]
    assert theirs == [node.name for node in graph if node.weights]


@pytest.mark.parametrize("name", COMPARATORS)
@pytest.mark.parametrize("classes", [1, 3])
def test_interpreter_and_keras_agree(name: str, classes: int) -> None:
    graph, x = small(name, classes=classes), image(64)
    found = evaluate(graph, x)
    assert found.std() > 1e-3, "a constant output would make every comparison pass"
    np.testing.assert_allclose(found, build_keras(graph)(x, training=False), atol=1e-5)


@pytest.mark.parametrize("name", COMPARATORS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_rewrite_keeps_the_function(name: str, seed: int) -> None:
    graph, x = small(name, seed=seed), image(64, seed)
    rewritten = rewrite(graph).graph
    gone = {"batch_norm", "dense", "reshape", "relu", "conv2d_transpose", "broadcast"}
    assert not gone & set(rewritten.ops())
    np.testing.assert_allclose(evaluate(rewritten, x), evaluate(graph, x), atol=1e-5)


@pytest.mark.parametrize("name", COMPARATORS)
def test_raw_rgb_pixels_can_be_the_input(name: str) -> None:
    graph, x = rewrite(small(name)).graph, image(64)
    raw = rewrite(graph, [FoldInputScale(), SwapInputChannels()]).graph
    np.testing.assert_allclose(evaluate(raw, 255 * x[..., ::-1]), evaluate(graph, x), atol=1e-5)


@pytest.mark.parametrize("name", ["resunet", "resunet++"])
def test_the_shortcut_of_a_join_runs_before_the_upsampling(name: str) -> None:
    rewriting = rewrite(small(name))
    assert "commute-upsample" in rewriting.applied
    shapes = rewriting.graph.shapes()
    low = [node for node in rewriting.graph if node.name.endswith("_low")]
    assert [shapes[node.name][0] for node in low] == [8, 16, 32]


@pytest.mark.parametrize("name", COMPARATORS)
def test_every_layer_can_be_trained(name: str) -> None:
    import keras

    model = build_keras(small(name, size=32))
    model.compile(keras.optimizers.SGD(0.5), "binary_crossentropy")
    # Squeezed to one or two channels, a unit may be dead.
    kernels = [w for w in model.trainable_weights if w.path.endswith("kernel") and "_excite" not in w.path]
    before = [np.asarray(kernel) for kernel in kernels]
    x = image(32, count=2)
    model.train_on_batch(x, (x[..., :1] > 0.5).astype(np.float32))
    still = [k.path for k, old in zip(kernels, before, strict=True) if np.array_equal(np.asarray(k), old)]
    assert not still


# Checkpoints ----------------------------------------------------------------------------------


def assert_same_weights(first: Graph, second: Graph) -> None:
    for ours, theirs in zip(first, second, strict=True):
        assert ours.name == theirs.name
        for name, array in ours.weights.items():
            np.testing.assert_array_equal(theirs.weights[name], array)


@pytest.mark.parametrize("writer", ["ours", "keras weights", "keras archive"])
@pytest.mark.parametrize("name", ["resunet++", "unet"])
def test_a_checkpoint_is_recognised_and_read_back(tmp_path: Path, name: str, writer: str) -> None:
    graph = build_network(get_network(name), size=64, fill=random_fill(7))
    path = tmp_path / ("x.keras" if writer == "keras archive" else "x.weights.h5")
    if writer == "ours":
        save_checkpoint(graph, path)
    elif writer == "keras weights":
        build_keras(graph).save_weights(path)
    else:
        build_keras(graph).save(path)
    found = load_checkpoint(path, variant=name, size=64)
    assert (found.variant, found.topology, found.classes) == (COMPARATORS[name], None, 1)
    assert_same_weights(graph, found.graph)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resunet", "doubleunet"])
def test_the_large_ones_are_read_back_too(tmp_path: Path, name: str) -> None:
    graph = build_network(get_network(name), size=64, fill=random_fill(7))
    build_keras(graph).save_weights(tmp_path / "x.weights.h5")
    found = load_checkpoint(tmp_path / "x.weights.h5", size=64)
    assert found.variant is COMPARATORS[name]
    assert_same_weights(graph, found.graph)


def test_another_network_than_the_one_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.weights.h5"
    save_checkpoint(build_network(get_network("resunet++")), path)
    with pytest.raises(CheckpointError, match=r"expected NanoNet-A, found ResUNet\+\+"):
        load_checkpoint(path, variant="a")
    with pytest.raises(CheckpointError, match=r"expected topology 'released', found ResUNet\+\+"):
        load_checkpoint(path, topology=Topology.RELEASED)


def test_a_narrow_one_says_where_it_differs(tmp_path: Path) -> None:
    graph = build_network(get_network("unet"))
    head = graph["head"].but(weights={"kernel": np.zeros((1, 1, 31, 1), np.float32), "bias": np.zeros(1)})
    nodes = tuple(head if node.name == "head" else node for node in graph)
    save_checkpoint(Graph(nodes, graph.output), tmp_path / "x.weights.h5")
    with pytest.raises(CheckpointError, match=r"nearest is U-Net, where layer .* should be 'head' with"):
        load_checkpoint(tmp_path / "x.weights.h5")


def test_untrained_ones_say_so() -> None:
    found = untrained_checkpoint(get_network("resunet++"), size=64)
    assert found.path.name.startswith("untrained")
    assert (found.topology, found.classes) == (None, 1)


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resunet", "ResUNet++", "UNET", "a", "C"])
def test_a_network_is_found_in_any_case(name: str) -> None:
    assert get_network(name).name == name.lower()


def test_an_unknown_network_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r"expected one of a, b, c, resunet, resunet\+\+, unet, doubleunet"):
        get_network("segnet")


def test_only_nanonet_has_topologies() -> None:
    assert topology_of(VARIANTS["c"]) is Topology.RELEASED
    assert topology_of(VARIANTS["c"], Topology.DESCRIBED) is Topology.DESCRIBED
    assert topology_of(COMPARATORS["unet"]) is None
    with pytest.raises(UsageError, match="U-Net has no topologies, as NanoNet has: drop --topology"):
        topology_of(COMPARATORS["unet"], Topology.RELEASED)
    with pytest.raises(UsageError, match="drop --topology"):
        build_network(COMPARATORS["unet"], Topology.RELEASED)
