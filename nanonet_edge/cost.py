"""What a graph costs to compute, counted from its shapes."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from math import prod
from typing import TypeVar

from nanonet_edge.graph import CONVOLUTIONS, Graph

Key = TypeVar("Key", bound=Hashable)


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


def peak_alive(
    steps: Sequence[tuple[Collection[Key], Collection[Key]]], sizes: Mapping[Key, int]
) -> tuple[int, int | None]:
    """Most bytes alive at once while operators run in their order.

    A tensor is alive from the operator that writes it, or the first that reads it, to the last
    that touches it. Padding and tiling that an engine adds are unknown here.

    Args:
        steps: what each operator reads and what it writes.
        sizes: bytes of each tensor; those that are not in it, constants, take none.

    Returns:
        That many bytes, and the position of the operator during which they are alive (None for no
        operators).
    """
    touched = [{*reads, *writes} & sizes.keys() for reads, writes in steps]
    last_use = {key: position for position, keys in enumerate(touched) for key in keys}
    alive: set[Key] = set()
    total, peak, at = 0, 0, None
    for position, keys in enumerate(touched):
        total += sum(sizes[key] for key in keys - alive)
        alive |= keys
        if at is None or total > peak:
            peak, at = total, position
        ending = {key for key in keys if last_use[key] == position}
        total -= sum(sizes[key] for key in ending)
        alive -= ending
    return peak, at
