"""Ranges of every tensor of a graph over a set of frames.

Statistics are kept and values are not, so memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import CalibrationError
from nanonet_edge.export.observe import Observer, Tensor
from nanonet_edge.export.quantization import Ranges
from nanonet_edge.graph import Graph

Method = Literal["min-max", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("min-max", "percentile", "mse")
PERCENTILE = 99.99
_BINS = 2048
_LEVELS = 255
#: Beyond this a sigmoid is within one step of 8 bits of 0 or 1, so little is lost by cutting it off.
SIGMOID_LIMIT = 6.0
_SHRINKAGES = np.linspace(0.3, 1.0, 29)


def find_ranges(graph: Graph, tensors: Callable[[], Iterable[Tensor]], method: Method) -> Ranges:
    """Ranges of all tensors of a rewritten graph.

    Args:
        graph: the network.
        tensors: gives a fresh iterator over inputs, (1, H, W, 3) float32 in [0, 1]; called twice
            unless the method is "min-max".
        method: "min-max"; "percentile" (0.01 % of the values cut at each end); "mse" (the clipping
            that minimises the squared error of 8-bit storage, and cuts off what a sigmoid does not
            tell apart, `SIGMOID_LIMIT`).

    Returns:
        (minimum, maximum) for every tensor name.

    Raises:
        CalibrationError: there is no frame, or a tensor is not finite.
    """
    observe = Observer(graph)
    limits: dict[str, tuple[float, float]] = {}
    for values in observe(tensors()):
        for name, value in values.items():
            low, high = float(value.min()), float(value.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise CalibrationError(f"tensor '{name}': expected finite values, found NaN or infinity")
            before = limits.get(name, (low, high))
            limits[name] = (min(low, before[0]), max(high, before[1]))
    if not limits:
        raise CalibrationError("calibration: expected at least one frame, found none")
    if method == "min-max":
        return limits
    histograms = {name: np.zeros(_BINS, np.int64) for name in limits}
    for values in observe(tensors()):
        for name, value in values.items():
            histograms[name] += np.histogram(value, _BINS, limits[name])[0]
    choose = percentile_range if method == "percentile" else least_squares_range
    chosen = {name: choose(histograms[name], *limits[name]) for name in limits}
    if method == "mse":
        _limit_logits(graph, chosen)
    return chosen


def _limit_logits(graph: Graph, chosen: dict[str, tuple[float, float]]) -> None:
    """Cut off, in what sigmoids alone read, what they do not tell apart."""
    for name, readers in graph.consumers().items():
        if readers and all(graph[reader].op == "sigmoid" for reader in readers):
            low, high = np.clip(chosen[name], -SIGMOID_LIMIT, SIGMOID_LIMIT)
            chosen[name] = (float(low), float(high))


def percentile_range(counts: npt.NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """The range between the outer percentiles of a histogram over [low, high]."""
    tail = (100 - PERCENTILE) / 100
    cumulative = np.cumsum(counts) / counts.sum()
    edges = np.linspace(low, high, len(counts) + 1)
    first = int(np.searchsorted(cumulative, tail))
    last = int(np.searchsorted(cumulative, 1 - tail))
    return float(edges[first]), float(edges[min(last, len(counts) - 1) + 1])


def least_squares_range(counts: npt.NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """The range with the least squared error of rounding and clipping, both ends searched."""
    edges = np.linspace(low, high, len(counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    best = (np.inf, low, high)
    for top in _SHRINKAGES if high > 0 else (1.0,):
        for bottom in _SHRINKAGES if low < 0 else (1.0,):
            floor, ceiling = low * bottom, high * top
            unit = (max(ceiling, 0.0) - min(floor, 0.0)) / _LEVELS
            clipped = centres - np.clip(centres, min(floor, 0.0), max(ceiling, 0.0))
            error = float(counts @ (clipped**2 + unit**2 / 12))
            if error < best[0]:
                best = (error, floor, ceiling)
    return float(best[1]), float(best[2])
