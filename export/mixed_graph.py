"""A graph of which each layer can be in float or in integers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np

from nanonet_edge.export.calibration import Calibration
from nanonet_edge.export.mixed_writers import MixedTfliteWriter
from nanonet_edge.export.quantization import plan_activations
from nanonet_edge.graph import CONVOLUTIONS, Graph

Floats = frozenset[str]

#: Not layers: the input's pixels are exact in 8 bits, and a mask is made of what came before.
_NO_LAYERS = frozenset({"input", "mask"})


@dataclass(frozen=True)
class MixedGraph:
    """A graph with layers of both kinds.

    Attributes:
        calibration: the graph before its weights were rounded and after, and its ranges.
    """

    calibration: Calibration

    @property
    def exact(self) -> Graph:
        """The graph with all layers in float."""
        return self.calibration.prepared

    def assigned(self, floats: Floats) -> Graph:
        """The graph whose float layers have exact weights and the others rounded ones."""
        nodes = (node if node.name in floats else self.calibration.graph[node.name] for node in self.exact)
        return Graph(tuple(nodes), self.exact.output)

    @property
    def layers(self) -> tuple[str, ...]:
        """What can be in float or in integers, in order."""
        return tuple(node.name for node in self.exact if node.op not in _NO_LAYERS)

    def work(self) -> dict[str, int]:
        """Multiply-accumulates of each layer; its elements where it has no kernel."""
        shapes = self.exact.shapes()
        return {
            node.name: prod(shapes[node.name][:2]) * node.weights["kernel"].size
            if node.op in CONVOLUTIONS
            else prod(shapes[node.name])
            for node in self.exact
        }

    def tflite(self, floats: Floats) -> bytes:
        """The TFLite file with these layers in float."""
        graph = self.assigned(floats)
        return MixedTfliteWriter(graph, plan_activations(graph, self.calibration.ranges), floats).build()

    def key(self, frames_digest: str, frames: int) -> str:
        """A digest of weights, ranges and frames: what trials depend on."""
        digest = hashlib.sha256(f"{frames_digest}:{frames}".encode())
        for node in self.calibration.graph:
            digest.update(f"{node.name}:{self.calibration.ranges[node.name]}".encode())
            for source in (node, self.exact[node.name]):
                for name in sorted(source.weights):
                    digest.update(np.ascontiguousarray(source.weights[name]).tobytes())
        return digest.hexdigest()

    def freed(self, tensors: Iterable[str]) -> Floats:
        """The layers that must be in float so that these tensors are never rounded."""
        readers, layers = self.exact.consumers(), set(self.layers)
        return frozenset(name for tensor in tensors for name in (tensor, *readers[tensor]) if name in layers)
