"""The network as it is trained, and back to the form in which checkpoints hold it.

The 1x1 convolution behind a concatenation with an upsampled tensor commutes with the
upsampling (pass `commute-upsample`), batch norm or not: training runs on the cheaper graph, and
the two halves of each such kernel are joined again when weights are saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.extras import require
from nanonet_edge.graph import Graph
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
        trained = {
            node.name: dict(
                zip(node.weights, map(np.array, self.model.get_layer(node.name).get_weights()), strict=True)
            )
            for node in self._weighted
        }
        return Graph(
            tuple(
                node.but(weights=_joined(trained, node.name)) if node.weights else node
                for node in self._straight
            ),
            self._straight.output,
        )

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


def _joined(trained: dict[str, dict[str, npt.NDArray[np.float32]]], name: str) -> dict[str, Any]:
    if name in trained:
        return trained[name]
    low, skip = trained[f"{name}_low"], trained[f"{name}_skip"]
    return {"kernel": np.concatenate([low["kernel"], skip["kernel"]], axis=2), "bias": skip["bias"]}
