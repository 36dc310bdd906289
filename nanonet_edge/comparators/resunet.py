"""ResUNet.

Zhang et al., "Road Extraction by Deep Residual U-Net", IEEE Geoscience and Remote Sensing
Letters 2018: seven pre-activation residual units of widths 64, 128, 256 and 512, strided
convolutions instead of pooling, upsampling and concatenation. The paper leaves the kind of
upsampling open; each pixel four times is Keras' default. 1x1 shortcuts without batch norm, on every
unit, give the 8,227,393 parameters of the CBMS paper's Tables II to V.
"""

from __future__ import annotations

from nanonet_edge.comparators.base import MOMENTUM, ComparatorBuilder

WIDTHS = (64, 128, 256, 512)


def resunet(builder: ComparatorBuilder, image: str, classes: int) -> str:
    """Add the network up to its logits, (H, W, classes)."""
    widths = builder.widths(*WIDTHS)
    # The first unit has no activation before its first convolution: there is nothing to activate.
    x = builder.conv("encoder_1_conv1", image, widths[0], 3, MOMENTUM, activation="relu")
    x = builder.conv("encoder_1_residual", x, widths[0], 3, None)
    shortcut = builder.conv("encoder_1_identity", image, widths[0], 1, None)
    x = builder.add("encoder_1_add", "add", x, shortcut)
    skips = [x]
    for level, width in enumerate(widths[1:], start=2):
        x = _unit(builder, f"encoder_{level}", x, width, strides=2)
        skips.append(x)
    skips.pop()
    for level, width in enumerate(reversed(widths[:-1]), start=1):
        name = f"decoder_{level}"
        up = builder.add(f"{name}_up", "upsample_nearest", x)
        joined = builder.add(f"{name}_concat", "concat", up, skips.pop())
        x = _unit(builder, name, joined, width)
    return builder.conv("head", x, classes, 1, None)


def _unit(builder: ComparatorBuilder, name: str, source: str, width: int, strides: int = 1) -> str:
    """A pre-activation residual unit (He et al., 2016) with a 1x1 shortcut."""
    x = builder.norm_relu_conv(f"{name}_conv1", source, width, strides)
    x = builder.norm_relu_conv(f"{name}_residual", x, width)
    shortcut = builder.conv(f"{name}_identity", source, width, 1, None, strides=strides)
    return builder.add(f"{name}_add", "add", x, shortcut)
