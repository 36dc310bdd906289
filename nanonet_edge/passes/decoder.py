"""Rewrites of the decoder: squeeze-and-excitation, concatenation and upsampling."""

from __future__ import annotations

import numpy as np

from nanonet_edge.graph import Graph, Node
from nanonet_edge.passes.base import Pass


class SqueezeAsConvolution(Pass):
    """Mean, reshape, dense, dense  =>  mean that keeps its dimensions, and two 1x1 convolutions.

    Keras's Dense on a 4-D tensor converts to shape arithmetic that no accelerator maps.
    """

    name = "squeeze-as-convolution"
    removes = frozenset({"dense", "reshape"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        shapes, changes = graph.shapes(), 0
        for node in graph:
            if node.op == "reshape" and graph[node.inputs[0]].op == "global_mean":
                mean = graph[node.inputs[0]]
                nodes[node.name] = mean.but(name=node.name, attributes={"keepdims": True})
                changes += 1
            elif node.op == "dense" and len(shapes[node.inputs[0]]) == 3:
                kernel = node.weights["kernel"][np.newaxis, np.newaxis]
                attributes = {"strides": 1, "padding": "same", "activation": node.activation}
                nodes[node.name] = node.but(op="conv2d", weights={"kernel": kernel}, attributes=attributes)
                changes += 1
        return changes


class CommuteUpsample(Pass):
    """conv1x1(concat(up(x), skip))  =>  up(conv_x(x)) + conv_skip(skip).

    A 1x1 convolution mixes channels and bilinear interpolation mixes pixels with weights that
    sum to one, so they commute. The concatenation goes, the upsampled tensor has the
    convolution's few channels, and that convolution runs at a quarter of the pixels.
    """

    name = "commute-upsample"
    removes = frozenset({"concat"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        shapes, changes = graph.shapes(), 0
        for node in graph:
            joined = graph[node.inputs[0]] if node.is_pointwise else None
            if joined is None or joined.op != "concat" or graph[joined.inputs[0]].op != "upsample_bilinear":
                continue
            up, skip = graph[joined.inputs[0]], joined.inputs[1]
            channels = shapes[up.name][-1]
            kernel = node.weights["kernel"]
            parts = {
                f"{node.name}_low": node.but(
                    name=f"{node.name}_low", inputs=up.inputs, weights={"kernel": kernel[:, :, :channels]}
                ),
                f"{node.name}_skip": node.but(
                    name=f"{node.name}_skip",
                    inputs=(skip,),
                    weights={"kernel": kernel[:, :, channels:], "bias": node.bias},
                ),
                f"{node.name}_up": Node(f"{node.name}_up", "upsample_bilinear", (f"{node.name}_low",)),
            }
            nodes.update(parts)
            nodes[node.name] = Node(node.name, "add", (f"{node.name}_up", f"{node.name}_skip"))
            changes += 1
        return changes
