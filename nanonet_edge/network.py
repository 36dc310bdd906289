"""NanoNet as a graph of the intermediate form, exactly as the released code builds it.

Jha et al., "NanoNet: Real-Time Polyp Segmentation in Video Capsule Endoscopy and
Colonoscopy", CBMS 2021. The encoder is MobileNetV2 (Sandler et al., 2018) cut at
`block_6_expand_relu`; the rest follows section III of the paper, but for the shortcut of
the modified residual block: see `Topology`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nanonet_edge.builder import Fill, GraphBuilder
from nanonet_edge.comparators import build_comparator
from nanonet_edge.graph import Graph
from nanonet_edge.variants import Network, Topology, Variant, check_size, topology_of

ENCODER_MOMENTUM = 0.999
DECODER_MOMENTUM = 0.99
SQUEEZE_RATIO = 16

#: (output channels at alpha 1, stride) of MobileNetV2's blocks 1 to 5; block 6 is cut after its expansion.
_ENCODER_BLOCKS = ((24, 2), (24, 1), (32, 2), (32, 1), (32, 1))
_EXPANSION = 6
_SUMMAND_GAIN = 0.35


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round a channel count as MobileNetV2 does: to a multiple of 8, never more than 10 % down."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def build_network(
    variant: Network,
    topology: Topology | None = None,
    *,
    size: int = 256,
    classes: int = 1,
    fill: Fill | None = None,
) -> Graph:
    """The unrewritten network.

    Args:
        variant: NanoNet-A, B or C, or one of the networks that it is compared with.
        topology: which shortcut a NanoNet has; None is `released`.
        size: height and width of the input, a multiple of 32.
        classes: output channels; one ends in a sigmoid, more end in a softmax.
        fill: gives the array for (layer name, weight name, shape); zeros when None, and ones
            for a batch norm's gamma and variance.

    Raises:
        UsageError: the size is not a multiple of 32, or a topology is asked of another network.
    """
    place = topology_of(variant, topology)
    check_size(size)
    if isinstance(variant, Variant) and place is not None:
        return _build_nanonet(variant, place, size, classes, fill or _identity_fill)
    return build_comparator(variant.name, size, classes, fill or _identity_fill)


def _build_nanonet(variant: Variant, topology: Topology, size: int, classes: int, fill: Fill) -> Graph:
    builder = _Builder(fill)
    image = builder.add("input_image", "input", size=size, channels=3)
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
    return builder.graph(head)


def _identity_fill(layer: str, weight: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    del layer
    return np.full(shape, 1.0 if weight in ("gamma", "variance") else 0.0, np.float32)


def random_fill(seed: int) -> Fill:
    """Weights like a trained network's: He-scaled kernels, batch norms with random statistics.

    Squeeze kernels are positive, so that no unit is dead: stock int8 converters make files
    of dead ones that engines refuse. Terms of sums that no batch norm follows are small, so that
    the sums do not grow from block to block.
    """
    generator = np.random.default_rng(seed)

    def fill(layer: str, weight: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if weight == "kernel":
            fan_in = int(np.prod(shape[:-1])) if shape[-1] != 1 or len(shape) != 4 else shape[0] * shape[1]
            kernel = generator.normal(0.0, np.sqrt(2.0 / fan_in), shape).astype(np.float32)
            if layer.endswith(("_residual", "_identity")):
                kernel *= np.float32(_SUMMAND_GAIN)
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


class _Builder(GraphBuilder):
    def depthwise(self, name: str, source: str, strides: int) -> str:
        channels = self.channels[source]
        padding = "same"
        if strides == 2:
            source, padding = self.add(f"{name}_pad", "zero_pad", source), "valid"
        shapes = {"kernel": (3, 3, channels, 1)}
        x = self.weighted(
            name, "depthwise_conv2d", source, shapes, channels, strides=strides, padding=padding
        )
        return self.finish(name, x, ENCODER_MOMENTUM, "relu6")

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
        filters = _EXPANSION * self.channels[source]
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
        return self.squeeze_and_excite(name, x, SQUEEZE_RATIO)
