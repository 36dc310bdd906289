"""NanoNet as a graph of the intermediate form, exactly as the released code builds it.

Jha et al., "NanoNet: Real-Time Polyp Segmentation in Video Capsule Endoscopy and
Colonoscopy", CBMS 2021. The encoder is MobileNetV2 (Sandler et al., 2018) cut at
`block_6_expand_relu`; the rest follows section III of the paper, but for the shortcut of
the modified residual block: see `Topology`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from nanonet_edge.graph import Graph, Node
from nanonet_edge.variants import Topology, Variant, check_size

EPSILON = 1e-3
ENCODER_MOMENTUM = 0.999
DECODER_MOMENTUM = 0.99
SQUEEZE_RATIO = 16

#: (output channels at alpha 1, stride) of MobileNetV2's blocks 1 to 5; block 6 is cut after its expansion.
_ENCODER_BLOCKS = ((24, 2), (24, 1), (32, 2), (32, 1), (32, 1))
_EXPANSION = 6

Fill = Callable[[str, str, tuple[int, ...]], npt.NDArray[np.float32]]


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count as MobileNetV2 does: to a multiple of 8, never more than 10 % down."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def build_network(
    variant: Variant,
    topology: Topology = Topology.RELEASED,
    *,
    size: int = 256,
    classes: int = 1,
    fill: Fill | None = None,
) -> Graph:
    """The unrewritten network.

    Args:
        variant: A, B or C.
        topology: which shortcut.
        size: height and width of the input, a multiple of 32.
        classes: output channels; one ends in a sigmoid, more end in a softmax.
        fill: gives the array for (layer name, weight name, shape); zeros when None, and ones
            for a batch norm's gamma and variance.

    Raises:
        UsageError: the size is not a multiple of 32.
    """
    builder = _Builder(fill or _identity_fill)
    image = builder.add("input_image", "input", size=check_size(size), channels=3)
    skips = builder.encoder(image, variant.alpha)
    x = builder.residual_block("bridge", skips.pop(), variant.bridge, topology)
    for stage, width in enumerate(variant.decoder, start=1):
        name = f"decoder_{stage}"
        skip = builder.conv(f"{name}_skip", skips.pop(), width, 1, DECODER_MOMENTUM, activation="relu")
        up = builder.add(f"{name}_up", "upsample_bilinear", x)
        joined = builder.add(f"{name}_concat", "concat", up, skip)
        x = builder.residual_block(name, joined, width, topology)
    logit = builder.conv("head", x, classes, 1, None)
    head = builder.add("probability", "sigmoid" if classes == 1 else "softmax", logit)
    return Graph(tuple(builder.nodes), head)


def _identity_fill(layer: str, weight: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    del layer
    return np.full(shape, 1.0 if weight in ("gamma", "variance") else 0.0, np.float32)


def random_fill(seed: int) -> Fill:
    """Weights like a trained network's: He-scaled kernels, batch norms with random statistics.

    Squeeze kernels are positive, so that no unit is dead: stock int8 converters make files
    of dead ones that engines refuse.
    """
    generator = np.random.default_rng(seed)

    def fill(layer: str, weight: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if weight == "kernel":
            fan_in = int(np.prod(shape[:-1])) if shape[-1] != 1 or len(shape) != 4 else shape[0] * shape[1]
            kernel = generator.normal(0.0, np.sqrt(2.0 / fan_in), shape).astype(np.float32)
            return np.abs(kernel) if layer.endswith("_excite1") else kernel
        if weight in ("gamma", "variance"):
            # Gains below one keep the logits of ten stacked blocks within a few units.
            return generator.uniform(0.3, 0.9, shape).astype(np.float32)
        return generator.normal(0.0, 0.1, shape).astype(np.float32)

    return fill


def initial_fill(seed: int) -> Fill:
    """Weights to start a training from, as Keras' layers start by default.

    Kernels are Glorot-uniform (Glorot and Bengio, 2010), biases and shifts zero, scales and
    variances one. Fans are counted as Keras counts them, for a depthwise kernel too.
    """
    generator = np.random.default_rng(seed)

    def fill(layer: str, weight: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if weight != "kernel":
            return _identity_fill(layer, weight, shape)
        field = int(np.prod(shape[:-2]))
        limit = np.sqrt(6.0 / (field * (shape[-2] + shape[-1])))
        return generator.uniform(-limit, limit, shape).astype(np.float32)

    return fill


class _Builder:
    def __init__(self, fill: Fill) -> None:
        self.nodes: list[Node] = []
        self._fill = fill
        self._channels: dict[str, int] = {}

    def add(self, name: str, op: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(Node(name, op, inputs, attributes=attributes))
        channels = [self._channels[i] for i in inputs]
        self._channels[name] = sum(channels) if op == "concat" else channels[0] if channels else 3
        return name

    def _weighted(
        self,
        name: str,
        op: str,
        source: str,
        shapes: Mapping[str, tuple[int, ...]],
        out: int,
        **attributes: object,
    ) -> str:
        weights = {weight: self._fill(name, weight, shape) for weight, shape in shapes.items()}
        self.nodes.append(Node(name, op, (source,), weights, attributes))
        self._channels[name] = out
        return name

    def batch_norm(self, name: str, source: str, momentum: float) -> str:
        channels = self._channels[source]
        shapes = dict.fromkeys(("gamma", "beta", "mean", "variance"), (channels,))
        return self._weighted(
            name, "batch_norm", source, shapes, channels, epsilon=EPSILON, momentum=momentum
        )

    def conv(
        self, name: str, source: str, filters: int, kernel: int, momentum: float | None,
        *, bias: bool = True, strides: int = 1, activation: str | None = None,
    ) -> str:  # fmt: skip
        """Convolution, then batch norm unless `momentum` is None, then an activation if any."""
        shapes: dict[str, tuple[int, ...]] = {"kernel": (kernel, kernel, self._channels[source], filters)}
        if bias:
            shapes["bias"] = (filters,)
        x = self._weighted(name, "conv2d", source, shapes, filters, strides=strides, padding="same")
        return self._finish(name, x, momentum, activation)

    def depthwise(self, name: str, source: str, strides: int) -> str:
        channels = self._channels[source]
        padding = "same"
        if strides == 2:
            source, padding = self.add(f"{name}_pad", "zero_pad", source), "valid"
        shapes = {"kernel": (3, 3, channels, 1)}
        x = self._weighted(
            name, "depthwise_conv2d", source, shapes, channels, strides=strides, padding=padding
        )
        return self._finish(name, x, ENCODER_MOMENTUM, "relu6")

    def _finish(self, name: str, x: str, momentum: float | None, activation: str | None) -> str:
        if momentum is not None:
            x = self.batch_norm(f"{name}_bn", x, momentum)
        return self.add(f"{name}_{activation}", activation, x) if activation else x

    def encoder(self, image: str, alpha: float) -> list[str]:
        """MobileNetV2 up to `block_6_expand_relu`; returns the skips, shallow to deep, and the cut."""
        x = self.conv(
            "Conv1", image, make_divisible(32 * alpha), 3, ENCODER_MOMENTUM,
            bias=False, strides=2, activation="relu6",
        )  # fmt: skip
        x = self.depthwise("expanded_conv_depthwise", x, 1)
        x = self.conv("expanded_conv_project", x, make_divisible(16 * alpha), 1, ENCODER_MOMENTUM, bias=False)
        skips = [image]
        for index, (channels, strides) in enumerate(_ENCODER_BLOCKS, start=1):
            name, entry = f"block_{index}", x
            x = self._expand(name, x)
            if strides == 2:
                skips.append(x)
            x = self.depthwise(f"{name}_depthwise", x, strides)
            x = self.conv(
                f"{name}_project", x, make_divisible(channels * alpha), 1, ENCODER_MOMENTUM, bias=False
            )
            if strides == 1:
                x = self.add(f"{name}_add", "add", entry, x)
        skips.append(self._expand("block_6", x))
        return skips

    def _expand(self, name: str, source: str) -> str:
        filters = _EXPANSION * self._channels[source]
        return self.conv(
            f"{name}_expand", source, filters, 1, ENCODER_MOMENTUM, bias=False, activation="relu6"
        )

    def residual_block(self, name: str, source: str, width: int, topology: Topology) -> str:
        """The modified residual block of the paper's figure 3, with squeeze-and-excitation."""
        x = self.conv(f"{name}_conv1", source, width // 4, 1, DECODER_MOMENTUM, activation="relu")
        x = self.conv(f"{name}_conv2", x, width // 4, 3, DECODER_MOMENTUM, activation="relu")
        x = self.conv(f"{name}_conv3", x, width, 3, DECODER_MOMENTUM)
        if topology is Topology.RELEASED:
            shortcut = self.batch_norm(f"{name}_shortcut_bn", x, DECODER_MOMENTUM)
        else:
            shortcut = self.conv(f"{name}_shortcut", source, width, 1, DECODER_MOMENTUM)
        x = self.add(f"{name}_add", "add", x, shortcut)
        x = self.add(f"{name}_relu", "relu", x)
        return self._squeeze_and_excite(name, x, width)

    def _squeeze_and_excite(self, name: str, source: str, width: int) -> str:
        hidden = max(width // SQUEEZE_RATIO, 1)
        x = self.add(f"{name}_squeeze", "global_mean", source, keepdims=False)
        x = self.add(f"{name}_reshape", "reshape", x)
        x = self._weighted(f"{name}_excite1", "dense", x, {"kernel": (width, hidden)}, hidden)
        x = self.add(f"{name}_excite1_relu", "relu", x)
        x = self._weighted(f"{name}_excite2", "dense", x, {"kernel": (hidden, width)}, width)
        x = self.add(f"{name}_gate", "sigmoid", x)
        return self.add(f"{name}_scale", "multiply", source, x)
