"""Batch norms, into the convolutions before them."""

from __future__ import annotations

import numpy as np

from nanonet_edge.graph import CONVOLUTIONS, Graph, Node
from nanonet_edge.passes.base import Pass


class FoldReleasedShortcut(Pass):
    """y + BN(y)  =>  BN'(y): the released shortcut is a batch norm in disguise.

    With s = sqrt(variance + epsilon), BN(y) = gamma (y - mean) / s + beta, so
    y + BN(y) = (gamma + s) (y - mean) / s + (beta + mean).
    """

    name = "fold-released-shortcut"

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        changes = 0
        for node in graph:
            if node.op != "add":
                continue
            for main, shortcut in (node.inputs, node.inputs[::-1]):
                norm = graph[shortcut]
                if norm.op == "batch_norm" and norm.inputs == (main,):
                    nodes[node.name] = Node(
                        node.name, "batch_norm", (main,), _plus_identity(norm), norm.attributes
                    )
                    changes += 1
                    break
        return changes


def _plus_identity(norm: Node) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    w = {name: array.astype(np.float64) for name, array in norm.weights.items()}
    deviation = np.sqrt(w["variance"] + norm.attributes["epsilon"])
    changed = {**w, "gamma": w["gamma"] + deviation, "beta": w["beta"] + w["mean"]}
    return {name: array.astype(np.float32) for name, array in changed.items()}


class FoldBatchNorm(Pass):
    """Convolution, batch norm  =>  convolution with scaled kernel and bias (Jacob et al., 2018).

    A batch norm after anything else stays, for `NormAsConvolution`.
    """

    name = "fold-batch-norm"

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        consumers, changes = graph.consumers(), 0
        for norm in graph:
            if norm.op != "batch_norm":
                continue
            # The convolution may itself have taken up a batch norm a moment ago.
            conv = nodes[norm.inputs[0]]
            if conv.op not in CONVOLUTIONS or conv.activation != "none":
                continue
            if consumers[norm.inputs[0]] != [norm.name]:
                continue
            nodes[norm.name] = _folded(conv, norm)
            changes += 1
        return changes


def _folded(conv: Node, norm: Node) -> Node:
    w = {name: array.astype(np.float64) for name, array in norm.weights.items()}
    scale = w["gamma"] / np.sqrt(w["variance"] + norm.attributes["epsilon"])
    kernel = conv.weights["kernel"].astype(np.float64)
    per_channel = scale.reshape(kernel.shape[2:]) if conv.op == "depthwise_conv2d" else scale
    folded = {
        "kernel": (kernel * per_channel).astype(np.float32),
        "bias": ((conv.bias - w["mean"]) * scale + w["beta"]).astype(np.float32),
    }
    return conv.but(name=norm.name, weights=folded)


class NormAsConvolution(Pass):
    """A batch norm that no convolution precedes  =>  a depthwise 1x1 convolution.

    Pre-activation residual units normalise sums, which others read as well. As a convolution
    the batch norm takes up the activation behind it, and can be quantized.
    """

    name = "norm-as-convolution"
    removes = frozenset({"batch_norm"})

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        norms = [node for node in graph if node.op == "batch_norm"]
        for norm in norms:
            identity = np.ones((1, 1, len(norm.weights["gamma"]), 1), np.float32)
            attributes = {"strides": 1, "padding": "same"}
            plain = Node(norm.name, "depthwise_conv2d", norm.inputs, {"kernel": identity}, attributes)
            nodes[norm.name] = _folded(plain, norm)
        return len(norms)
