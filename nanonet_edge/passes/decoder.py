"""Rewrites of the decoder: squeeze-and-excitation, concatenation, upsampling, transposed convolution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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

    A 1x1 convolution mixes channels and upsampling mixes or repeats pixels with weights that
    sum to one, so they commute; so does spreading one pixel over a map, which an addition does by
    itself. The concatenation goes, the upsampled tensor has the convolution's few channels, and
    that convolution runs at a quarter of the pixels. Of several such inputs the first is moved;
    where others read the concatenation, it stays for them.
    """

    name = "commute-upsample"

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        shapes, changes = graph.shapes(), 0
        for node in graph:
            joined = graph[node.inputs[0]] if node.is_pointwise else None
            if joined is None or joined.op != "concat":
                continue
            up = next((graph[name] for name in joined.inputs if graph[name].op in _WIDENING), None)
            if up is None:
                continue
            position = joined.inputs.index(up.name)
            first = sum(shapes[name][-1] for name in joined.inputs[:position])
            moved = np.zeros(shapes[joined.name][-1], bool)
            moved[first : first + shapes[up.name][-1]] = True
            others = joined.inputs[:position] + joined.inputs[position + 1 :]
            if len(others) > 1:
                rest = joined.but(name=f"{node.name}_joined", inputs=others)
                nodes[rest.name], others = rest, (rest.name,)
            nodes.update(_split(node, up, others[0], moved))
            changes += 1
        return changes


_WIDENING = frozenset({"upsample_bilinear", "upsample_nearest", "broadcast"})


def _split(node: Node, up: Node, rest: str, moved: npt.NDArray[np.bool_]) -> dict[str, Node]:
    """The nodes that take the place of a 1x1 convolution of up(x) and the rest; `moved` are up's channels."""
    kernel, name = node.weights["kernel"], node.name
    low = node.but(name=f"{name}_low", inputs=up.inputs[:1], weights={"kernel": kernel[:, :, moved]})
    skip = node.but(
        name=f"{name}_skip", inputs=(rest,), weights={"kernel": kernel[:, :, ~moved], "bias": node.bias}
    )
    if up.op == "broadcast":
        return {low.name: low, skip.name: skip, name: Node(name, "add", (skip.name, low.name))}
    wide = Node(f"{name}_up", up.op, (low.name,))
    return {
        low.name: low, skip.name: skip, wide.name: wide, name: Node(name, "add", (wide.name, skip.name))
    }  # fmt: skip


class TransposeAsConvolution(Pass):
    """2x2 transposed convolution at stride 2  =>  1x1 convolution, then every 4 channels to a 2x2 block.

    No two blocks overlap, so each pixel's block depends on that pixel alone. Engines have fast
    and quantized kernels for both parts; for transposed convolutions few do.
    """

    name = "transpose-as-convolution"
    removes = frozenset({"conv2d_transpose"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        transposed = [node for node in graph if node.op == "conv2d_transpose"]
        for node in transposed:
            kernel = node.weights["kernel"]
            rows, columns, filters, channels = kernel.shape
            flat = kernel.transpose(3, 0, 1, 2).reshape(1, 1, channels, rows * columns * filters)
            weights = {"kernel": np.ascontiguousarray(flat), "bias": np.tile(node.bias, rows * columns)}
            blocks = f"{node.name}_blocks"
            attributes = {"strides": 1, "padding": "same"}
            nodes[blocks] = Node(blocks, "conv2d", node.inputs, weights, attributes)
            nodes[node.name] = Node(node.name, "depth_to_space", (blocks,))
        return len(transposed)
