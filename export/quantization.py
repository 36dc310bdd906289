"""From ranges to integers: one affine rule for every format.

``real = (stored - zero_point) * scale``. Activations per tensor, weights symmetric per output
channel, biases int32 in units of input scale x weight scale, as in the TFLite 8-bit
quantization specification and in ONNX QDQ. The plan is computed once and every writer obeys it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.graph import CONVOLUTIONS, Graph, Node

Ranges = Mapping[str, tuple[float, float]]

#: A tensor narrower than this gets this span: below it, engines refuse the scale (a squeeze-and-
#: excitation unit that never fires would have scale 0) and nothing is lost by widening.
MINIMUM_SPAN = 1e-3
WEIGHT_LIMIT = 127
#: Ranges may be clipped for the sake of 8-bit rounding; 16 bits have room for what lies outside.
_INT16_HEADROOM = 4
#: Weights that are smaller than this are zeros that training forgot; their scale would underflow.
_NEGLIGIBLE = 1e-30
#: Keeps a bias within int32 even where a channel's weights are all but zero.
_BIAS_LIMIT = float(2**30)
#: Operations whose output must be stored exactly as their input is.
_TRANSPARENT = frozenset(
    "upsample_bilinear upsample_nearest max_pool zero_pad edge_pad depth_to_space crop join".split()
)
#: Operations that only move values: what they alone read is stored as their output is.
_MOVES = _TRANSPARENT | {"concat"}
UNIT_OUTPUTS = frozenset({"sigmoid", "softmax"})


@dataclass(frozen=True)
class Quantization:
    """How one tensor is stored: scale, zero point, dtype ("int8", "uint8" or "int16")."""

    scale: float
    zero_point: int
    dtype: str

    def quantize(self, real: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        """Stored integers of real values, rounded to even and clipped."""
        info = np.iinfo(self.dtype)
        stored = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero_point
        return np.asarray(np.clip(stored, info.min, info.max), self.dtype)


@dataclass(frozen=True)
class QuantizedWeights:
    """Integer weights of a convolution.

    Attributes:
        kernel: int8, shaped as the node's kernel, values in [-127, 127].
        scales: (output channels,) float32, of the kernel.
        bias: (output channels,) int64 in units of input scale x kernel scale, within int32; zeros
            where the node has none or no input scale is given.
    """

    kernel: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int64]


def plan_activations(graph: Graph, ranges: Ranges, dtype: str = "int8") -> dict[str, Quantization]:
    """Decide how every tensor of a rewritten graph is stored.

    Args:
        graph: rewritten and with fused activations.
        ranges: (minimum, maximum) of real values for every tensor of the graph.
        dtype: "int8" (asymmetric) or "int16" (symmetric) activations.
    """
    plan: dict[str, Quantization] = {}
    moved = _destinations(graph)
    for node in graph:
        if node.op == "mask":
            continue
        if node.op in _TRANSPARENT or node.op == "column_mean" or node.attributes.get("stored_as_input"):
            plan[node.name] = plan[node.inputs[0]]
        elif node.op == "input":
            plan[node.name] = _unit(dtype, closed=True)
        elif node.op in UNIT_OUTPUTS:
            plan[node.name] = _unit(dtype, closed=False)
        else:
            # What is rewritten for one target after calibration has tensors without a range.
            low, high = ranges.get(moved[node.name], ranges[node.name])
            floor = _accumulator_unit(node, plan)
            plan[node.name] = _from_range(low, high, dtype, floor)
    return plan


def _destinations(graph: Graph) -> dict[str, str]:
    """For each tensor the one whose range it takes: where it goes if it is only moved, else itself.

    The range of what a resize gives is taken for what it reads: they are stored alike. Where
    a tensor goes into a concatenation and nowhere else, it is stored as the concatenation is, which
    spares an operation that stores it anew.
    """
    readers = graph.consumers()
    found: dict[str, str] = {}
    for node in reversed(graph.nodes):
        onward = [graph[reader] for reader in readers[node.name]]
        moves = [reader.name for reader in onward if reader.op in _MOVES]
        alone = len(onward) == 1 or all(reader.op in _TRANSPARENT - {"max_pool"} for reader in onward)
        found[node.name] = found[moves[0]] if moves and alone else node.name
    return found


def _unit(dtype: str, *, closed: bool) -> Quantization:
    """[0, 1] for pixels (both ends exact); [0, 1) for sigmoid, which engines fix at 1/256 or 1/32768."""
    if dtype == "int16":
        return Quantization(1.0 / (32767 if closed else 32768), 0, dtype)
    return Quantization(1.0 / (255 if closed else 256), -128, dtype)


def _accumulator_unit(node: Node, plan: Mapping[str, Quantization]) -> float:
    """The real value of one unit of a convolution's accumulator: a finer output unit holds nothing."""
    if node.op not in CONVOLUTIONS:
        return 0.0
    return plan[node.inputs[0]].scale * float(kernel_scales(node).max())


def _from_range(low: float, high: float, dtype: str, floor: float) -> Quantization:
    low, high = min(low, 0.0), max(high, 0.0)
    high = max(high, low + MINIMUM_SPAN)
    if dtype == "int16":
        return Quantization(max(_INT16_HEADROOM * max(-low, high) / 32767, floor / 256), 0, dtype)
    scale = max((high - low) / 255, floor)
    zero_point = int(np.clip(round(-128 - low / scale), -128, 127))
    return Quantization(float(np.float32(scale)), zero_point, dtype)


def kernel_scales(node: Node) -> npt.NDArray[np.float64]:
    """Scale of each output channel's weights, (channels,) float64.

    A node that was rounded already says its own in the attribute `kernel_scales`.
    """
    if "kernel_scales" in node.attributes:
        return np.asarray(node.attributes["kernel_scales"], np.float64)
    flat = _per_channel(node)
    peak = np.abs(flat).max(axis=0).astype(np.float64)
    # An all-zero channel may have any scale; take an ordinary one.
    ordinary = float(peak.max()) if peak.max() > _NEGLIGIBLE else 1.0
    return np.where(peak > _NEGLIGIBLE, peak, ordinary) / WEIGHT_LIMIT


def _per_channel(node: Node) -> npt.NDArray[np.float32]:
    kernel = node.weights["kernel"]
    channels = kernel.shape[3] if node.op == "conv2d" else kernel.shape[2] * kernel.shape[3]
    return kernel.reshape(-1, channels)


def quantize_weights(node: Node, input_scale: float | None = None) -> QuantizedWeights:
    """Integer weights of a convolution; an input scale is needed to store its bias."""
    scales = kernel_scales(node)
    if input_scale is not None:
        scales = np.maximum(scales, np.abs(node.bias) / (input_scale * _BIAS_LIMIT))
    scales = scales.astype(np.float32).astype(np.float64)
    flat = np.rint(_per_channel(node) / scales)
    kernel = np.clip(flat, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8).reshape(node.weights["kernel"].shape)
    bias = np.zeros(len(scales)) if input_scale is None else np.rint(node.bias / (input_scale * scales))
    return QuantizedWeights(kernel, scales.astype(np.float32), bias.astype(np.int64))


def as_uint8(plan: Mapping[str, Quantization]) -> dict[str, Quantization]:
    """The same 8-bit plan with unsigned storage: every real value keeps its meaning."""
    return {name: boundary(quantization, "uint8") for name, quantization in plan.items()}


def boundary(inner: Quantization, dtype: str) -> Quantization:
    """How a tensor stored as `inner` inside a model is stored in `dtype` outside.

    Between int8 and uint8 only the zero point moves, so no value is rounded.

    Raises:
        ValueError: 16 bits cannot become 8.
    """
    if inner.dtype == dtype:
        return inner
    if {inner.dtype, dtype} != {"int8", "uint8"}:
        raise ValueError(f"{inner.dtype} cannot be stored as {dtype}")
    shift = 128 if dtype == "uint8" else -128
    return Quantization(inner.scale, inner.zero_point + shift, dtype)
