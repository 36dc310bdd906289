"""The network as it is trained, against the network as it is saved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from nanonet_edge.training.network import TrainableNetwork
from nanonet_edge.variants import Topology
from tests.nanonet_edge.checkpoints import same_weights
from tests.nanonet_edge.graphs import image, nanonet
from tests.nanonet_edge.training.material import small_network, with_batch_moments

GRAPHS: dict[str, Callable[[], Graph]] = {
    "nanonet-c": lambda: nanonet("c"),
    "nanonet-c described": lambda: nanonet("c", Topology.DESCRIBED),
    "small": lambda: small_network(trained=True),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_it_computes_what_the_unrewritten_network_computes(name: str) -> None:
    graph = GRAPHS[name]()
    network = TrainableNetwork(graph, 32, momentum=0.9)
    x = image(32, count=2)
    np.testing.assert_allclose(
        np.asarray(network.model.predict_on_batch(x)), evaluate(graph.with_size(32), x), atol=2e-5
    )
    assert len([layer for layer in network.model.layers if layer.name.endswith("_low")]) > 0
    assert same_weights(network.graph(), graph)
    assert network.graph().size == graph.size


def test_kernels_join_exactly_after_a_step_too() -> None:
    graph = small_network(32, trained=True)
    network = TrainableNetwork(graph, 32)
    network.model.compile("sgd", "binary_crossentropy")
    x = image(32, count=4)
    network.model.train_on_batch(x, (x[..., :1] > 0.5).astype(np.float32))
    trained = network.graph()
    assert not same_weights(trained, graph)
    np.testing.assert_allclose(np.asarray(network.model.predict_on_batch(x)), evaluate(trained, x), atol=2e-5)
    assert same_weights(TrainableNetwork(trained, 32).graph(), trained)


def test_a_kernel_that_could_not_be_joined_is_trained_whole() -> None:
    """Here the upsampled half comes second: halves put one after the other would be the wrong way round."""
    graph = small_network(32, trained=True)
    nodes = tuple(node.but(inputs=node.inputs[::-1]) if node.op == "concat" else node for node in graph)
    swapped = Graph(nodes, graph.output)
    kernel = swapped["decoder"].weights["kernel"]
    weights = {**swapped["decoder"].weights, "kernel": np.roll(kernel, 4, axis=2)}
    swapped = Graph(
        tuple(node.but(weights=weights) if node.name == "decoder" else node for node in nodes), graph.output
    )
    network = TrainableNetwork(swapped, 32)
    x = image(32)
    assert same_weights(network.graph(), swapped)
    np.testing.assert_allclose(np.asarray(network.model.predict_on_batch(x)), evaluate(swapped, x), atol=2e-5)


def test_momentum_is_that_of_every_batch_norm() -> None:
    def momenta(momentum: float | None) -> set[float]:
        layers = TrainableNetwork(small_network(), 32, momentum).model.layers
        return {layer.momentum for layer in layers if hasattr(layer, "momentum")}

    assert momenta(None) == {0.999, 0.99}
    assert momenta(0.9) == {0.9}


def test_weights_are_copies_that_go_back() -> None:
    network = TrainableNetwork(small_network(), 32)
    kept = network.weights()
    network.set_weights([array + 1 for array in kept])
    assert not np.array_equal(network.weights()[0], kept[0])
    network.set_weights(kept)
    assert all(np.array_equal(a, b) for a, b in zip(network.weights(), kept, strict=True))


@pytest.mark.parametrize("name", ["small", "nanonet-c"])
def test_statistics_are_the_mean_over_the_batches(name: str) -> None:
    graph = GRAPHS[name]().with_size(32)
    network = TrainableNetwork(graph, 32, momentum=0.9)
    given = [image(32, seed=seed, count=3) * (seed + 1) / 3 for seed in range(3)]
    network.reestimate(given)
    found = network.graph()
    alone = [with_batch_moments(graph, x) for x in given]
    norms = [node.name for node in graph if node.op == "batch_norm"]
    for name_of_norm in norms[:4] + norms[-2:]:
        for key in ("mean", "variance"):
            expected = np.mean([one[name_of_norm].weights[key] for one in alone], axis=0)
            np.testing.assert_allclose(found[name_of_norm].weights[key], expected, rtol=2e-3, atol=2e-4)
    # Nothing else has changed, and training goes on with the momentum that it had.
    assert all(
        np.array_equal(node.weights[key], graph[node.name].weights[key])
        for node in found
        for key in node.weights
        if key not in ("mean", "variance")
    )
    assert {layer.momentum for layer in network.model.layers if hasattr(layer, "momentum")} == {0.9}


def test_a_momentum_comes_back_after_an_error() -> None:
    network = TrainableNetwork(small_network(), 32, momentum=0.9)
    with pytest.raises(ValueError, match=r".+"):
        network.reestimate([image(32, channels=5)])
    assert {layer.momentum for layer in network.model.layers if hasattr(layer, "momentum")} == {0.9}
