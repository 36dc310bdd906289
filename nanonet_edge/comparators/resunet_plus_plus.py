"""ResUNet++.

Jha et al., "ResUNet++: An Advanced Architecture for Medical Image Segmentation", ISM 2019: a
ResUNet with squeeze-and-excitation after every unit, attention in the decoder, and atrous
spatial pyramid pooling as bridge and before the head. The paper leaves these to the released
code (github.com/DebeshJha/ResUNetPlusPlus, m_resunet.py): widths 16, 32, 64, 128, 256; ratio 8; 1x1
shortcuts with batch norm; dilations 1, 6, 12 and 18, summed, then a 1x1 convolution; attention
that multiplies with a 3x3 convolution's output, no sigmoid; each pixel four times as upsampling.
Together they give the 4,070,385 parameters of the CBMS paper's Tables II to VI.
"""

from __future__ import annotations

from nanonet_edge.comparators.base import MOMENTUM, ComparatorBuilder

WIDTHS = (16, 32, 64, 128, 256)
SQUEEZE_RATIO = 8
#: In the order in which the branches are summed.
DILATIONS = (6, 12, 18, 1)


def resunet_plus_plus(builder: ComparatorBuilder, image: str, classes: int) -> str:
    """Add the network up to its logits, (H, W, classes)."""
    widths = builder.widths(*WIDTHS)
    x = builder.conv("stem_conv1", image, widths[0], 3, MOMENTUM, activation="relu")
    x = builder.conv("stem_conv2", x, widths[0], 3, None)
    x = _with_shortcut(builder, "stem", x, image)
    skips = [x]
    for level, width in enumerate(widths[1:4], start=2):
        x = _unit(builder, f"encoder_{level}", x, width, strides=2)
        skips.append(x)
    x = _pyramid(builder, "bridge", skips.pop(), widths[4])
    for level, width in enumerate(reversed(widths[1:4]), start=1):
        name, skip = f"decoder_{level}", skips.pop()
        x = _attention(builder, f"{name}_attention", skip, x)
        up = builder.add(f"{name}_up", "upsample_nearest", x)
        joined = builder.add(f"{name}_concat", "concat", up, skip)
        x = _unit(builder, name, joined, width)
    x = _pyramid(builder, "pyramid", x, widths[0])
    return builder.conv("head", x, classes, 1, None)


def _unit(builder: ComparatorBuilder, name: str, source: str, width: int, strides: int = 1) -> str:
    x = builder.norm_relu_conv(f"{name}_conv1", source, width, strides)
    x = builder.norm_relu_conv(f"{name}_conv2", x, width)
    return _with_shortcut(builder, name, x, source, strides)


def _with_shortcut(builder: ComparatorBuilder, name: str, x: str, source: str, strides: int = 1) -> str:
    width = builder.channels[x]
    shortcut = builder.conv(f"{name}_shortcut", source, width, 1, MOMENTUM, strides=strides)
    total = builder.add(f"{name}_add", "add", x, shortcut)
    return builder.squeeze_and_excite(name, total, SQUEEZE_RATIO)


def _pyramid(builder: ComparatorBuilder, name: str, source: str, width: int) -> str:
    """Atrous spatial pyramid pooling: the sum of four dilated convolutions, mixed by a 1x1 one."""
    first, *others = (
        builder.conv(f"{name}_rate{rate}", source, width, 3, MOMENTUM, dilation=rate) for rate in DILATIONS
    )
    total = first
    for number, branch in enumerate(others, start=1):
        total = builder.add(f"{name}_sum{number}", "add", total, branch)
    return builder.conv(f"{name}_mix", total, width, 1, None)


def _attention(builder: ComparatorBuilder, name: str, skip: str, x: str) -> str:
    """x times a convolution of what the encoder (pooled to its size) and x say together."""
    width = builder.channels[x]
    gate = builder.norm_relu_conv(f"{name}_skip", skip, width)
    gate = builder.add(f"{name}_pool", "max_pool", gate)
    query = builder.norm_relu_conv(f"{name}_query", x, width)
    total = builder.add(f"{name}_add", "add", gate, query)
    weight = builder.norm_relu_conv(f"{name}_weight", total, width)
    return builder.add(f"{name}_scale", "multiply", weight, x)
