"""Rewrites for Google's Edge TPU, whose compiler maps resizes and means only up to a size.

Larger ones are cut into parts of a size that is known to map, by operations that map: slices and
concatenations. No weight changes, so they may come after calibration.
"""

from __future__ import annotations

from itertools import pairwise, product
from math import ceil, isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.edgetpu.rules import MEAN_POSITIONS, RESIZE_POSITIONS
from nanonet_edge.graph import Graph, Node
from nanonet_edge.passes.base import Pass

#: Height and width of the largest resize known to map.
_RESIZE_SIDE = isqrt(RESIZE_POSITIONS)
#: Tiles of a mean are so high at most. Their number of rows is a weight, which int8 must hold.
_MEAN_ROWS = 64


class TileUpsample(Pass):
    """bilinear x2 to a large size  =>  the same of overlapping tiles, trimmed and joined.

    Each pixel lies between two of the original in either direction, so a tile takes one pixel more
    on every side where another follows. Every value is the same to the last bit, also in int8.
    """

    name = "tile-upsample"

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        shapes, changes = graph.shapes(), 0
        for node in graph:
            height, width, _ = shapes[node.name]
            if node.op != "upsample_bilinear" or max(height, width) <= _RESIZE_SIDE:
                continue
            columns = _spans(width // 2)
            bands = []
            for rows in _spans(height // 2):
                tiles = [_tile(nodes, node, rows, span) for span in columns]
                bands.append(_join(nodes, f"{node.name}_band_{rows[1]}", 1, tiles))
            nodes[node.name] = nodes.pop(_join(nodes, f"{node.name}_joined", 0, bands)).but(name=node.name)
            changes += 1
        return changes


#: A tile's first pixel along one axis, the first and the end of those it is for, and its end.
_Span = tuple[int, int, int, int]


def _spans(length: int) -> list[_Span]:
    """Cut an axis into equal parts that, with a pixel more on either side, can be doubled."""
    count = 1 if 2 * length <= _RESIZE_SIDE else ceil(length / (_RESIZE_SIDE // 2 - 2))
    cuts = [length * index // count for index in range(count + 1)]
    return [(max(first - 1, 0), first, end, min(end + 1, length)) for first, end in pairwise(cuts)]


def _tile(nodes: dict[str, Node], up: Node, rows: _Span, columns: _Span) -> str:
    """Add one tile of the result: cut out, doubled, trimmed."""
    name = f"{up.name}_{rows[1]}_{columns[1]}"
    source = _crop(f"{name}_source", up.inputs[0], rows[0], columns[0], rows[3], columns[3])
    wide = up.but(name=f"{name}_wide", inputs=(source.name,))
    (top, bottom), (left, right) = ((2 * (s[1] - s[0]), 2 * (s[2] - s[0])) for s in (rows, columns))
    tile = _crop(name, wide.name, top, left, bottom, right)
    nodes.update({node.name: node for node in (source, wide, tile)})
    return name


class MeanOfTiles(Pass):
    """mean of many pixels  =>  means of columns of equal tiles, what those left over, and one sum.

    It is reported that a mean of 256x128 pixels is not mapped and those of its 64x128 tiles are
    (github.com/google-coral/edgetpu/issues/461). A mean stored in int8 is rounded, and the gate
    behind it amplifies that. So each column's remainder, its sum less what the stored mean stands
    for, is kept too, what is above zero and what is below it apart: a tensor behind a ReLU has no
    room for both. Means and remainders are the exact sum, which one depthwise convolution scales.
    In float the remainders are zero. That convolution has a kernel as large as what it sums (24x128
    for a mean of 256x256): no size is documented, and none so large has been seen compiled.
    """

    name = "mean-of-tiles"

    def _rewrite(self, graph: Graph, nodes: dict[str, Node]) -> int:
        shapes, changes = graph.shapes(), 0
        for node in graph:
            if node.op != "global_mean" or not node.attributes["keepdims"]:
                continue
            height, width, channels = shapes[node.inputs[0]]
            rows = _divisor(height, _MEAN_ROWS)
            columns = _divisor(width, MEAN_POSITIONS // rows)
            if height * width > MEAN_POSITIONS and rows > 1:
                _mean_of_tiles(nodes, node, (height, width, channels), (rows, columns))
                changes += 1
        return changes


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is at most `most`."""
    return max(n for n in range(1, min(number, most) + 1) if number % n == 0)


def _mean_of_tiles(
    nodes: dict[str, Node], mean: Node, shape: tuple[int, int, int], tile: tuple[int, int]
) -> None:
    (height, width, channels), (rows, columns) = shape, tile
    remainder = np.ones((rows + 1, 1, channels, 1), np.float32)
    remainder[-1] = -rows
    means, above, below = [], [], []
    for top, left in product(range(0, height, rows), range(0, width, columns)):
        name = f"{mean.name}_{top}_{left}"
        part = _crop(f"{name}_part", mean.inputs[0], top, left, top + rows, left + columns)
        column_mean = Node(f"{name}_mean", "column_mean", (part.name,))
        both = Node(f"{name}_both", "join", (part.name, column_mean.name), attributes={"axis": 0})
        over = _weighted(f"{name}_above", both.name, remainder, 1, "relu")
        under = _weighted(f"{name}_below", both.name, -remainder, 1, "relu")
        nodes.update({node.name: node for node in (part, column_mean, both, over, under)})
        means.append(column_mean.name)
        above.append(over.name)
        below.append(under.name)
    parts = _join(nodes, f"{mean.name}_parts", 0, means + above + below)
    weights = np.repeat(np.array([rows, 1, -1], np.float32), len(means)) / np.float32(height * width)
    kernel = np.broadcast_to(weights[:, None, None, None], (len(weights), columns, channels, 1))
    nodes[mean.name] = _weighted(mean.name, parts, kernel, 1 / (height * width), "none")


def _weighted(name: str, source: str, kernel: npt.NDArray[np.float32], unit: float, activation: str) -> Node:
    """A depthwise convolution whose weights are whole numbers of `unit`; with a ReLU, stored as its input."""
    attributes: dict[str, Any] = {"strides": 1, "padding": "valid", "activation": activation}
    attributes["kernel_scales"] = np.full(kernel.shape[2], unit)
    attributes["stored_as_input"] = activation == "relu"
    return Node(name, "depthwise_conv2d", (source,), {"kernel": np.ascontiguousarray(kernel)}, attributes)


def _crop(name: str, source: str, top: int, left: int, bottom: int, right: int) -> Node:
    attributes = {"top": top, "left": left, "height": bottom - top, "width": right - left}
    return Node(name, "crop", (source,), attributes=attributes)


def _join(nodes: dict[str, Node], name: str, axis: int, parts: list[str]) -> str:
    """Add what puts parts together along rows (0) or columns (1), if there are several."""
    if len(parts) == 1:
        return parts[0]
    nodes[name] = Node(name, "join", tuple(parts), attributes={"axis": axis})
    return name


#: In the order in which they are applied, to a rewritten graph.
CORAL_PASSES: tuple[Pass, ...] = (TileUpsample(), MeanOfTiles())
