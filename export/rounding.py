"""Rounding weights so that a layer's output, not its weights, is kept.

Rounding each weight to the nearest integer ignores that the inputs are correlated. Here each
rounding error is made up for by the weights not yet rounded, in the metric of the inputs' own
covariance (GPTQ: Frantar et al., 2023, after Optimal Brain Surgeon), several scales per channel
are tried and the one with the least output error kept, and the mean error goes into the bias
(bias correction: Nagel et al., 2019). No gradient, no labels, seconds on two cores.

What it is worth on the trained NanoNet-C stands in the README, with the command:
`nanonet-edge export --rounding nearest` leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from nanonet_edge.export.quantization import WEIGHT_LIMIT, kernel_scales
from nanonet_edge.graph import CONVOLUTIONS, Graph, Node, zero_padding

Array = npt.NDArray[np.float64]

#: Shrinking a channel's scale clips its largest weights and rounds the rest more finely.
_SHARED_SHRINKAGES = (1.0, 0.95, 0.9, 0.85, 0.8)
#: A depthwise channel has nine weights: trying more scales costs nothing.
_DEPTHWISE_SHRINKAGES = tuple(np.linspace(1.0, 0.6, 41))
_DAMPING = 0.01
#: A kernel with more inputs than this is rounded to nearest: its covariance has more than a million
#: entries, and its errors average out over many weights. No kernel of a NanoNet has half as many.
_INPUTS_LIMIT = 1024


@dataclass
class Moments:
    """First and second moments of what a convolution's kernel sees.

    For a convolution: `mean` (d,), `second` (d, d) with d = kh kw in. For a depthwise one, per
    channel: `mean` (C, kh kw), `second` (C, kh kw, kh kw).
    """

    count: int
    mean: Array
    second: Array

    def covariance(self) -> Array:
        """Centred second moments, shaped as `second`."""
        return np.asarray(self.second - np.einsum("...i,...j->...ij", self.mean, self.mean))


class MomentCollector:
    """Gathers `Moments` for every convolution of a graph, from a sample of positions per frame."""

    def __init__(self, graph: Graph, *, positions: int = 512, seed: int = 0) -> None:
        self._convolutions = [node for node in graph if _is_compensated(node)]
        self._positions = positions
        self._random = np.random.default_rng(seed)
        self._sums: dict[str, tuple[int, Array, Array]] = {}

    def add(self, values: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take in one frame's tensors, (1, C, H, W) by name."""
        for node in self._convolutions:
            windows = self._sample(node, values[node.inputs[0]])
            if node.op == "conv2d":
                flat = windows.transpose(1, 2, 3, 0).reshape(windows.shape[1], -1).astype(np.float64)
                part = (len(flat), flat.sum(axis=0), flat.T @ flat)
            else:
                flat = windows.reshape(*windows.shape[:2], -1).astype(np.float64)
                part = (flat.shape[1], flat.sum(axis=1), np.einsum("cpi,cpj->cij", flat, flat))
            if node.name in self._sums:
                before = self._sums[node.name]
                part = (before[0] + part[0], before[1] + part[1], before[2] + part[2])
            self._sums[node.name] = part

    def moments(self) -> dict[str, Moments]:
        """What was gathered, by node name."""
        return {
            n: Moments(count, total / count, second / count)
            for n, (count, total, second) in self._sums.items()
        }

    def _sample(self, node: Node, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Windows under the kernel at random positions: (C, positions, kh, kw)."""
        kernel, stride, step = node.weights["kernel"].shape[:2], node.strides, node.dilation
        pads = zero_padding(node, *x.shape[2:])
        padded = np.pad(x[0], ((0, 0), *pads)) if any(map(any, pads)) else x[0]
        windows = sliding_window_view(padded, node.extent, (1, 2))
        windows = windows[:, ::stride, ::stride, ::step, ::step]
        height, width = windows.shape[1:3]
        if height * width <= self._positions:
            return windows.reshape(windows.shape[0], height * width, *kernel)
        chosen = self._random.choice(height * width, self._positions, replace=False)
        return windows[:, chosen // width, chosen % width]


def _is_compensated(node: Node) -> bool:
    if node.op == "conv2d":
        return int(np.prod(node.weights["kernel"].shape[:3])) <= _INPUTS_LIMIT
    return node.op in CONVOLUTIONS


def round_weights(graph: Graph, moments: Mapping[str, Moments]) -> Graph:
    """A graph whose convolutions have kernels on an int8 grid, and corrected biases.

    Very large kernels stay as they are, to be rounded to nearest when they are written. Each
    rounded node carries the attribute `kernel_scales`; dividing its kernel by them gives
    integers in [-127, 127].
    """
    nodes = [_round_node(n, moments[n.name]) if _is_compensated(n) else n for n in graph]
    return Graph(tuple(nodes), graph.output)


def _round_node(node: Node, moments: Moments) -> Node:
    kernel: Array = node.weights["kernel"].astype(np.float64)
    rounded: Array
    weights: Array
    start, covariance = kernel_scales(node), moments.covariance()
    if node.op == "conv2d":
        weights = kernel.reshape(-1, kernel.shape[3])
        stored, scales = _best_rounding(weights, covariance, start, _SHARED_SHRINKAGES)
        rounded = stored * scales
        shift = moments.mean @ (weights - rounded)
    else:
        weights = kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1, kernel.shape[3])
        multiplier = kernel.shape[3]
        scales, rounded = start.copy(), np.empty_like(weights)
        for channel, (w, c) in enumerate(zip(weights, covariance, strict=True)):
            outputs = slice(channel * multiplier, (channel + 1) * multiplier)
            stored, scales[outputs] = _best_rounding(w, c, start[outputs], _DEPTHWISE_SHRINKAGES)
            rounded[channel] = stored * scales[outputs]
        shift = np.einsum("ci,cim->cm", moments.mean, weights - rounded).reshape(-1)
        rounded = rounded.reshape(-1, *kernel.shape[:2], multiplier).transpose(1, 2, 0, 3)
    changed = {
        # Plus zero: an integer has no negative zero, and what is recorded must come back the same.
        "kernel": (rounded.reshape(kernel.shape) + 0.0).astype(np.float32),
        "bias": (node.bias + shift).astype(np.float32),
    }
    return node.but(weights=changed, attributes={**node.attributes, "kernel_scales": scales})


def _best_rounding(
    weights: Array, covariance: Array, start: Array, shrinkages: tuple[float, ...]
) -> tuple[Array, Array]:
    """Per output channel, the rounding and scale with the least output error.

    Args:
        weights: (d, outputs).
        covariance: (d, d) of the inputs.
        start: (outputs,), the scales that clip nothing.

    Returns:
        Stored integers (d, outputs) and scales (outputs,).
    """
    stored = np.zeros_like(weights)
    scales = _as_stored(start)
    least = np.full(len(start), np.inf)
    order, upper = _elimination(covariance)
    for shrinkage in shrinkages:
        candidate = _as_stored(start * shrinkage)
        plain = np.clip(np.rint(weights / candidate), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        for rounding in (plain, _compensated(weights, order, upper, candidate)):
            difference = weights - rounding * candidate
            error = (difference * (covariance @ difference)).sum(axis=0)
            better = error < least
            stored[:, better] = rounding[:, better]
            scales[better], least[better] = candidate[better], error[better]
    return stored, scales


def _as_stored(scales: Array) -> Array:
    """The values that files and recordings keep, which is float32."""
    return scales.astype(np.float32).astype(np.float64)


def _elimination(covariance: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """The order in which inputs are rounded, and the Cholesky factor that spreads each one's error."""
    size = len(covariance)
    damping = _DAMPING * max(float(np.trace(covariance)) / size, 1e-12)
    order = np.argsort(-np.diag(covariance), kind="stable")
    damped = (covariance + damping * np.eye(size))[np.ix_(order, order)]
    return order, np.linalg.cholesky(np.linalg.inv(damped)).T


def _compensated(weights: Array, order: npt.NDArray[np.intp], upper: Array, scales: Array) -> Array:
    """Round one input at a time, the most energetic first; the others make up for the error."""
    left = weights[order]
    rounded = np.empty_like(left)
    for i in range(len(left)):
        rounded[i] = np.clip(np.rint(left[i] / scales), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        error = (left[i] - rounded[i] * scales) / upper[i, i]
        left[i + 1 :] -= np.outer(upper[i, i + 1 :], error)
    stored = np.empty_like(rounded)
    stored[order] = rounded
    return stored
