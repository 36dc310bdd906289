"""A graph computed with NumPy alone: slow, plain, and independent of every engine.

What the passes are checked against, and what answers where no framework is installed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from nanonet_edge.graph import Graph, Node, zero_padding

Tensor = npt.NDArray[np.float32]


def evaluate(graph: Graph, x: Tensor) -> Tensor:
    """Compute the output of `graph`.

    Args:
        graph: any graph of the intermediate form.
        x: (n, H, W, C) float32.

    Returns:
        (n, H, W, classes) float32 (uint8 values for a mask head).
    """
    readers = {name: len(names) for name, names in graph.consumers().items()}
    values: dict[str, Tensor] = {graph.input.name: x}
    for node in graph.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        values[node.name] = _KERNELS[node.op](node, inputs)
        for name in node.inputs:
            readers[name] -= 1
            if not readers[name] and name != graph.output:
                del values[name]
    return values[graph.output]


def _activate(x: Tensor, activation: str) -> Tensor:
    if activation == "relu":
        return np.maximum(x, 0)
    if activation == "relu6":
        return np.clip(x, 0, 6)
    return x


def _windows(node: Node, x: Tensor) -> Tensor:
    """Windows under the kernel: (n, H', W', C, kh, kw)."""
    stride, step = node.strides, node.dilation
    padded = np.pad(x, ((0, 0), *zero_padding(node, *x.shape[1:3]), (0, 0)))
    windows = sliding_window_view(padded, node.extent, (1, 2))
    return windows[:, ::stride, ::stride, :, ::step, ::step]


def _conv2d(node: Node, inputs: list[Tensor]) -> Tensor:
    kernel = node.weights["kernel"]
    y = np.tensordot(_windows(node, inputs[0]), kernel, ((3, 4, 5), (2, 0, 1))) + node.bias
    return _activate(y, node.activation)


def _depthwise(node: Node, inputs: list[Tensor]) -> Tensor:
    kernel = node.weights["kernel"]
    y = np.einsum("nhwcij,ijcm->nhwcm", _windows(node, inputs[0]), kernel)
    return _activate(y.reshape(*y.shape[:3], -1) + node.bias, node.activation)


def _conv2d_transpose(node: Node, inputs: list[Tensor]) -> Tensor:
    """A 2x2 kernel at stride 2: every input pixel becomes a block, and no two blocks overlap."""
    kernel = node.weights["kernel"]
    n, height, width, _ = inputs[0].shape
    blocks = np.einsum("nhwi,aboi->nhawbo", inputs[0], kernel, optimize=True)
    return np.asarray(blocks.reshape(n, 2 * height, 2 * width, kernel.shape[2]) + node.bias)


def _max_pool(node: Node, inputs: list[Tensor]) -> Tensor:
    del node
    n, height, width, channels = inputs[0].shape
    even = inputs[0][:, : height // 2 * 2, : width // 2 * 2]
    return np.asarray(even.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4)))


def _batch_norm(node: Node, inputs: list[Tensor]) -> Tensor:
    w = node.weights
    scale = w["gamma"] / np.sqrt(w["variance"] + np.float32(node.attributes["epsilon"]))
    return np.asarray((inputs[0] - w["mean"]) * scale + w["beta"])


def _upsample(node: Node, inputs: list[Tensor]) -> Tensor:
    """Bilinear x2, half-pixel centres: each output is 3/4 of the nearer and 1/4 of the farther pixel."""
    del node
    x = inputs[0]
    for axis in (1, 2):
        edges = ((0, 0), (1, 1), (0, 0), (0, 0)) if axis == 1 else ((0, 0), (0, 0), (1, 1), (0, 0))
        padded = np.pad(x, edges, mode="edge")
        before, here, after = (np.take(padded, np.arange(k, k + x.shape[axis]), axis) for k in range(3))
        pair = np.stack((0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after), axis + 1)
        x = pair.reshape(*pair.shape[:axis], -1, *pair.shape[axis + 2 :]).astype(np.float32)
    return x


def _depth_to_space(node: Node, inputs: list[Tensor]) -> Tensor:
    del node
    n, h, w, c = inputs[0].shape
    return (
        inputs[0].reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4)
    )


def _crop(node: Node, inputs: list[Tensor]) -> Tensor:
    top, left, height, width = (node.attributes[key] for key in ("top", "left", "height", "width"))
    return inputs[0][:, top : top + height, left : left + width]


def _softmax(x: Tensor) -> Tensor:
    exponent = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True), np.float32)


def _mask(x: Tensor) -> Tensor:
    labels = x > 0 if x.shape[-1] == 1 else x.argmax(axis=-1)[..., np.newaxis]
    return labels.astype(np.float32)


_KERNELS: dict[str, Callable[[Node, list[Tensor]], Tensor]] = {
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise,
    "conv2d_transpose": _conv2d_transpose,
    "batch_norm": _batch_norm,
    "upsample_bilinear": _upsample,
    "upsample_nearest": lambda node, x: x[0].repeat(2, axis=1).repeat(2, axis=2),
    "max_pool": _max_pool,
    "broadcast": lambda node, x: np.broadcast_to(x[0], (*x[1].shape[:3], x[0].shape[3])),
    "depth_to_space": _depth_to_space,
    "dense": lambda node, x: _activate(x[0] @ node.weights["kernel"], node.activation),
    "relu": lambda node, x: _activate(x[0], "relu"),
    "relu6": lambda node, x: _activate(x[0], "relu6"),
    "sigmoid": lambda node, x: 0.5 * (1 + np.tanh(0.5 * x[0])),
    "softmax": lambda node, x: _softmax(x[0]),
    "add": lambda node, x: _activate(x[0] + x[1], node.activation),
    "multiply": lambda node, x: x[0] * x[1],
    "concat": lambda node, x: np.concatenate(x, axis=-1),
    "crop": _crop,
    "join": lambda node, x: np.concatenate(x, axis=1 + node.attributes["axis"]),
    "column_mean": lambda node, x: x[0].mean(axis=1, keepdims=True),
    "zero_pad": lambda node, x: np.pad(x[0], ((0, 0), (0, 1), (0, 1), (0, 0))),
    "edge_pad": lambda node, x: np.pad(x[0], ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge"),
    "global_mean": lambda node, x: x[0].mean(axis=(1, 2), keepdims=bool(node.attributes["keepdims"])),
    "reshape": lambda node, x: x[0][:, np.newaxis, np.newaxis],
    "mask": lambda node, x: _mask(x[0]),
}
