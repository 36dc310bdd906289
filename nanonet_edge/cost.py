"""What a graph costs to compute, counted from its shapes."""

from __future__ import annotations

from math import prod

from nanonet_edge.graph import CONVOLUTIONS, Graph


def multiply_accumulates(graph: Graph) -> int:
    """Multiply-accumulate operations (MACs) of one inference: those of the weighted sums.

    A convolution costs its kernel's height x width x input channels for every value that it
    gives, a depthwise one height x width, a transposed one its kernel for every input pixel, a
    dense layer its inputs. Biases, batch norms, activations, additions, resizes and pooling are
    left out, as is the habit; windows that hang over the border count whole.
    """
    shapes = graph.shapes()
    total = 0
    for node in graph:
        if node.op in CONVOLUTIONS:
            height, width, _ = shapes[node.name]
            total += height * width * node.weights["kernel"].size
        elif node.op == "conv2d_transpose":
            height, width, _ = shapes[node.inputs[0]]
            total += height * width * node.weights["kernel"].size
        elif node.op == "dense":
            total += prod(shapes[node.inputs[0]][:-1]) * node.weights["kernel"].size
    return total
