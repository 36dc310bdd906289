"""U-Net with batch norm.

Ronneberger et al., "U-Net", MICCAI 2015, has the levels, the skips and the 2x2 transposed
convolutions. The CBMS paper's Table VI names U-Net without a count; with widths 32 to 512, `same`
padding and batch norm after every 3x3 convolution it has 7,771,873 parameters, the count that
the project's design takes for the published one.
"""

from __future__ import annotations

from nanonet_edge.comparators.base import ComparatorBuilder

WIDTHS = (32, 64, 128, 256, 512)


def unet(builder: ComparatorBuilder, image: str, classes: int) -> str:
    """Add the network up to its logits, (H, W, classes)."""
    *widths, deepest = builder.widths(*WIDTHS)
    x, skips = image, []
    for level, width in enumerate(widths, start=1):
        skips.append(builder.double_conv(f"encoder_{level}", x, width))
        x = builder.add(f"encoder_{level}_pool", "max_pool", skips[-1])
    x = builder.double_conv("bridge", x, deepest)
    for level, width in enumerate(reversed(widths), start=1):
        name = f"decoder_{level}"
        up = builder.transposed(f"{name}_up", x, width)
        joined = builder.add(f"{name}_concat", "concat", up, skips.pop())
        x = builder.double_conv(name, joined, width)
    return builder.conv("head", x, classes, 1, None)
