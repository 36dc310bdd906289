"""Rewrites for Google's Edge TPU, whose compiler maps few ways to write a resize."""

from __future__ import annotations

import numpy as np

from nanonet_edge.graph import Graph, Node
from nanonet_edge.passes.base import Pass

#: Across one axis of an image whose pixels were doubled, this gives 3/4 of the nearer and 1/4 of
#: the farther original pixel: bilinear x2 with half-pixel centres. Sixteenths are exact in float.
_TENT = np.array([0.25, 0.5, 0.25], np.float32)


class UpsampleAsDepthwise(Pass):
    """bilinear x2  =>  nearest x2, edges repeated by one pixel, depthwise 3x3 with fixed weights.

    Doubled pixels a a b b under the weights 1/4 1/2 1/4 become a/4 + a/2 + b/4, the interpolation.
    Repeated edges give what interpolation gives there, the edge pixel itself. Not among the
    default passes: where an engine has a bilinear kernel, that is faster.
    """

    name = "upsample-as-depthwise"
    removes = frozenset({"upsample_bilinear"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        shapes = graph.shapes()
        resizes = [node for node in graph if node.op == "upsample_bilinear"]
        for node in resizes:
            doubled, padded = f"{node.name}_doubled", f"{node.name}_edges"
            kernel = np.repeat(np.outer(_TENT, _TENT)[:, :, np.newaxis, np.newaxis], shapes[node.name][-1], 2)
            nodes[doubled] = Node(doubled, "upsample_nearest", node.inputs)
            nodes[padded] = Node(padded, "edge_pad", (doubled,))
            nodes[node.name] = Node(
                node.name,
                "depthwise_conv2d",
                (padded,),
                {"kernel": kernel},
                {"strides": 1, "padding": "valid"},
            )
        return len(resizes)
