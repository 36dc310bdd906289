"""The network as it is trained, and back to the form in which checkpoints hold it.

The 1x1 convolution behind a concatenation with an upsampled tensor commutes with the
upsampling (pass `commute-upsample`), batch norm or not: training runs on the cheaper graph, and
the two halves of each such kernel are joined again when weights are saved. A network whose halves
could not be joined to the very weights that it started from is trained as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.extras import require
from nanonet_edge.graph import Graph, Node, Weights
from nanonet_edge.keras_network import build_keras
from nanonet_edge.passes import CommuteUpsample

if TYPE_CHECKING:
    import keras

Arrays = list[npt.NDArray[np.float32]]


class TrainableNetwork:
    """A Keras model at one image size that trains the weights of an unrewritten graph.

    Args:
        graph: the unrewritten network with the weights to start from.
        size: height and width of the images, a multiple of 32.
        momentum: of every batch norm; None keeps the graph's.
    """

    def __init__(self, graph: Graph, size: int, momentum: float | None = None) -> None:
        self._straight = graph
        cheaper = CommuteUpsample().run(graph.with_size(size)).graph
        if not _same_weights(_restored(graph, cheaper), graph):
            cheaper = graph.with_size(size)
        if momentum is not None:
            nodes = tuple(
                node.but(attributes={**node.attributes, "momentum": momentum})
                if node.op == "batch_norm"
                else node
                for node in cheaper
            )
            cheaper = Graph(nodes, cheaper.output)
        self._weighted = [node for node in cheaper if node.weights]
        self.model: keras.Model = build_keras(cheaper)

    def weights(self) -> Arrays:
        """Copies of every array of the model, in its order."""
        return [np.array(array) for array in self.model.get_weights()]

    def set_weights(self, arrays: Arrays) -> None:
        """Put such a list back."""
        self.model.set_weights(arrays)

    def graph(self) -> Graph:
        """The unrewritten network with the model's present weights."""
        trained = []
        for node in self._weighted:
            arrays = map(np.array, self.model.get_layer(node.name).get_weights())
            trained.append(node.but(weights=dict(zip(node.weights, arrays, strict=True))))
        return _restored(self._straight, trained)

    def reestimate(self, batches: Any) -> None:
        """Replace the batch norms' statistics by their mean over batches.

        Args:
            batches: iterable of (n, size, size, 3) float32 in [0, 1].

        A moving average forgets early batches and lags behind the weights; MobileNetV2's, with
        a momentum of 0.999, by thousands of steps.
        """
        keras = require("keras")
        norms = [layer for layer in self.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        kept = [layer.momentum for layer in norms]
        try:
            for index, batch in enumerate(batches):
                for layer in norms:
                    # The running mean of `index` batches, and one more.
                    layer.momentum = index / (index + 1)
                self.model(batch, training=True)
        finally:
            for layer, momentum in zip(norms, kept, strict=True):
                layer.momentum = momentum


def _restored(straight: Graph, cheaper: Iterable[Node]) -> Graph:
    """The unrewritten network with the weights of the nodes of the cheaper one."""
    weights = {node.name: node.weights for node in cheaper if node.weights}
    nodes = (node.but(weights=_joined(weights, node.name)) if node.weights else node for node in straight)
    return Graph(tuple(nodes), straight.output)


def _joined(weights: Mapping[str, Weights], name: str) -> Weights:
    if name in weights:
        return weights[name]
    low, skip = weights[f"{name}_low"], weights[f"{name}_skip"]
    return {"kernel": np.concatenate([low["kernel"], skip["kernel"]], axis=2), "bias": skip["bias"]}


def _same_weights(first: Graph, second: Graph) -> bool:
    return all(
        one.weights.keys() == other.weights.keys()
        and all(np.array_equal(one.weights[key], other.weights[key]) for key in other.weights)
        for one, other in zip(first, second, strict=True)
    )
