"""Ranges of every tensor of a graph over a set of frames.

The fp32 graph runs in onnxruntime with all its tensors as outputs; statistics are kept, values
are not, so memory does not grow with the number of frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import CalibrationError
from nanonet_edge.export.onnx_graph import INPUT_NAME, build_onnx
from nanonet_edge.export.quantization import Ranges
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph

Method = Literal["min-max", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("min-max", "percentile", "mse")
PERCENTILE = 99.99
_BINS = 2048
_LEVELS = 255

Tensor = npt.NDArray[np.float32]


def calibrate(
    graph: Graph,
    tensors: Callable[[], Iterable[Tensor]],
    method: Method = "min-max",
    *,
    on_frame: Callable[[], None] | None = None,
) -> Ranges:
    """Ranges of all tensors of `graph`.

    Args:
        graph: rewritten.
        tensors: gives a fresh iterator over input tensors, (1, H, W, 3) float32 in [0, 1]; called
            twice unless the method is "min-max".
        method: "min-max"; "percentile" (99.99 of the values, both ends); "mse" (the clipping
            that minimises the squared error of 8-bit rounding).
        on_frame: called after each frame.

    Returns:
        (minimum, maximum) for every tensor name.

    Raises:
        CalibrationError: there is no frame, or a tensor is not finite.
    """
    observe = _Observer(graph)
    limits: dict[str, tuple[float, float]] = {}
    for values in observe(tensors(), on_frame):
        for name, value in values.items():
            low, high = float(value.min()), float(value.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise CalibrationError(f"tensor '{name}': expected finite values, found NaN or infinity")
            if name in limits:
                low, high = min(low, limits[name][0]), max(high, limits[name][1])
            limits[name] = (low, high)
    if not limits:
        raise CalibrationError("calibration: expected at least one frame, found none")
    if method == "min-max":
        return limits
    histograms = {name: np.zeros(_BINS, np.int64) for name in limits}
    for values in observe(tensors(), on_frame):
        for name, value in values.items():
            histograms[name] += np.histogram(value, _BINS, limits[name])[0]
    choose = _percentile if method == "percentile" else _least_squares
    return {name: choose(histograms[name], *limits[name]) for name in limits}


class _Observer:
    """Runs the graph and hands out all its tensors, frame by frame."""

    def __init__(self, graph: Graph) -> None:
        ort: Any = require("onnxruntime")
        helper: Any = require("onnx.helper")
        model = build_onnx(graph)
        known = {output.name for output in model.graph.output}
        self._names = [node.name for node in graph]
        float_type = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
        for name in self._names:
            if name not in known:
                model.graph.output.append(helper.make_tensor_value_info(name, float_type, None))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, tensors: Iterable[Tensor], on_frame: Callable[[], None] | None
    ) -> Iterator[Mapping[str, Tensor]]:
        for tensor in tensors:
            yield dict(zip(self._names, self._session.run(self._names, {INPUT_NAME: tensor}), strict=True))
            if on_frame is not None:
                on_frame()


def _percentile(counts: npt.NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    tail = (100 - PERCENTILE) / 100
    cumulative = np.cumsum(counts) / counts.sum()
    edges = np.linspace(low, high, _BINS + 1)
    first = int(np.searchsorted(cumulative, tail))
    last = int(np.searchsorted(cumulative, 1 - tail))
    # Zero is where ReLU puts half of all values: it is never clipped away.
    return min(float(edges[first]), max(low, 0.0)), float(edges[min(last, _BINS - 1) + 1])


def _least_squares(counts: npt.NDArray[np.int64], low: float, high: float) -> tuple[float, float]:
    """Shrink both ends in steps and keep the pair with the least squared error."""
    edges = np.linspace(low, high, _BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    best = (np.inf, low, high)
    for top in np.linspace(0.3, 1.0, 29):
        for bottom in np.linspace(0.3, 1.0, 15) if low < 0 else (1.0,):
            a, b = low * bottom if low < 0 else low, high * top if high > 0 else high
            floor, ceiling = min(a, 0.0), max(b, 0.0)
            unit = max(ceiling - floor, 1e-12) / _LEVELS
            clipped = np.clip(centres, floor, ceiling)
            rounding = unit**2 / 12
            error = float((counts * ((centres - clipped) ** 2 + rounding)).sum())
            if error < best[0]:
                best = (error, a, b)
    return best[1], best[2]
