"""Activations, into the operation before them."""

from __future__ import annotations

from nanonet_edge.graph import CONVOLUTIONS, Graph, Node
from nanonet_edge.passes.base import Pass


class FuseActivation(Pass):
    """ReLU or ReLU6 after a convolution or an addition  =>  an attribute of that operation."""

    name = "fuse-activation"
    without = frozenset({"batch_norm"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        consumers, changes = graph.consumers(), 0
        for node in graph:
            if node.op not in ("relu", "relu6"):
                continue
            source = graph[node.inputs[0]]
            fusible = source.op in CONVOLUTIONS or source.op in ("add", "dense")
            if fusible and source.activation == "none" and consumers[source.name] == [node.name]:
                attributes = {**source.attributes, "activation": node.op}
                nodes[node.name] = source.but(name=node.name, attributes=attributes)
                changes += 1
        return changes
