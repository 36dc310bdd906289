"""Strided padding: a MobileNetV2 habit that `same` padding already covers."""

from __future__ import annotations

from nanonet_edge.graph import CONVOLUTIONS, Graph, Node
from nanonet_edge.passes.base import Pass


class MergeStridedPadding(Pass):
    """Zero-pad below and right + `valid` 3x3 stride 2  =>  one `same` convolution, for even sizes.

    With an even size, `same` at stride 2 pads exactly one row below and one column right.
    """

    name = "merge-strided-padding"
    removes = frozenset({"zero_pad"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        shapes, changes = graph.shapes(), 0
        for node in graph:
            if node.op not in CONVOLUTIONS or graph[node.inputs[0]].op != "zero_pad":
                continue
            padded = graph[node.inputs[0]]
            height, width, _ = shapes[padded.inputs[0]]
            kernel = node.weights["kernel"].shape[:2]
            matches = node.strides == 2 and kernel == (3, 3) and node.attributes.get("padding") == "valid"
            if matches and height % 2 == 0 and width % 2 == 0:
                attributes = {**node.attributes, "padding": "same"}
                nodes[node.name] = node.but(inputs=padded.inputs, attributes=attributes)
                changes += 1
        return changes
