"""DoubleU-Net.

Jha et al., "DoubleU-Net: A Deep Convolutional Neural Network for Medical Image Segmentation",
CBMS 2020: two U-Nets in a row, the first with VGG-19 (Simonyan and Zisserman, 2015, cut at
`block5_conv4`) as encoder; the input times the first one's mask is the second one's input, whose
decoder has the skips of both. From the released code (github.com/DebeshJha/2020-CBMS-DoubleU-Net,
model.py): widths, squeeze-and-excitation with ratio 8, atrous spatial pyramid pooling of width 64,
bilinear upsampling. They give the 29,297,570 parameters that the released code has; the paper's
Table VI in CBMS 2021 leaves the count out.

Two differences: the released code puts out both masks and is trained on both, here the second,
which is its final answer, is the output; and VGG-19 starts there from ImageNet weights, which
this project has no copy of, so it starts here from random ones.
"""

from __future__ import annotations

from nanonet_edge.comparators.base import MOMENTUM, ComparatorBuilder

#: (width, convolutions) of VGG-19's five blocks.
VGG_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
WIDTHS = (32, 64, 128, 256)
PYRAMID_WIDTH = 64
DILATIONS = (6, 12, 18)
SQUEEZE_RATIO = 8


def double_unet(builder: ComparatorBuilder, image: str, classes: int) -> str:
    """Add the network up to its logits, (H, W, classes); the first mask has one channel always."""
    x, vgg_skips = _vgg(builder, image)
    x = _pyramid(builder, "pyramid_1", x)
    x = _decoder(builder, "decoder1", x, [[skip] for skip in vgg_skips])
    first = builder.add("mask_1", "sigmoid", builder.conv("head_1", x, 1, 1, None))

    x = builder.add("masked_image", "multiply", image, first)
    skips = []
    for level, width in enumerate(builder.widths(*WIDTHS), start=1):
        skips.append(_block(builder, f"encoder2_{level}", x, width))
        x = builder.add(f"encoder2_{level}_pool", "max_pool", skips[-1])
    x = _pyramid(builder, "pyramid_2", x)
    x = _decoder(builder, "decoder2", x, [list(pair) for pair in zip(vgg_skips, skips, strict=True)])
    return builder.conv("head", x, classes, 1, None)


def _vgg(builder: ComparatorBuilder, image: str) -> tuple[str, list[str]]:
    """VGG-19's convolutions; returns the last one's output and those before each pooling."""
    x, skips = image, []
    widths = builder.widths(*(width for width, _ in VGG_BLOCKS))
    for block, (width, (_, count)) in enumerate(zip(widths, VGG_BLOCKS, strict=True), start=1):
        if block > 1:
            skips.append(x)
            x = builder.add(f"block{block - 1}_pool", "max_pool", x)
        for index in range(1, count + 1):
            x = builder.conv(f"block{block}_conv{index}", x, width, 3, None, activation="relu")
    return x, skips


def _decoder(builder: ComparatorBuilder, name: str, x: str, skips: list[list[str]]) -> str:
    levels = zip(reversed(builder.widths(*WIDTHS)), reversed(skips), strict=True)
    for level, (width, joins) in enumerate(levels, start=1):
        stage = f"{name}_{level}"
        up = builder.add(f"{stage}_up", "upsample_bilinear", x)
        joined = builder.add(f"{stage}_concat", "concat", up, *joins)
        x = _block(builder, stage, joined, width)
    return x


def _block(builder: ComparatorBuilder, name: str, source: str, width: int) -> str:
    x = builder.double_conv(name, source, width)
    return builder.squeeze_and_excite(name, x, SQUEEZE_RATIO)


def _pyramid(builder: ComparatorBuilder, name: str, source: str) -> str:
    """Atrous spatial pyramid pooling (Chen et al., 2017): the mean, a 1x1 and three dilated branches."""
    mean = builder.add(f"{name}_mean", "global_mean", source, keepdims=True)
    # Only this branch's convolution has a bias.
    (width,) = builder.widths(PYRAMID_WIDTH)
    mean = builder.conv_norm_relu(f"{name}_pooled", mean, width, 1)
    branches = [builder.add(f"{name}_spread", "broadcast", mean, source)]
    branches.append(_branch(builder, f"{name}_rate1", source, 1, 1))
    branches += [_branch(builder, f"{name}_rate{rate}", source, 3, rate) for rate in DILATIONS]
    joined = builder.add(f"{name}_concat", "concat", *branches)
    return _branch(builder, f"{name}_mix", joined, 1, 1)


def _branch(builder: ComparatorBuilder, name: str, source: str, kernel: int, dilation: int) -> str:
    (width,) = builder.widths(PYRAMID_WIDTH)
    return builder.conv(
        name, source, width, kernel, MOMENTUM, bias=False, dilation=dilation, activation="relu"
    )
