"""The networks whose latencies were published, from the layer tables of their papers and code.

* MobileNetV1, V2, V3: arXiv 1704.04861, 1801.04381, 1905.02244.
* SSDLite on MobileNetV2: arXiv 1801.04381, section 6.2, and the TensorFlow object detection API.
* U-Net on MobileNetV2: TensorFlow's tutorial "Image segmentation".
* EfficientDet-Lite: google/automl, efficientdet/hparams_config.py, on EfficientNet-Lite.
* Fast-SCNN: arXiv 1902.04502, in the form of Tramac/Fast-SCNN-pytorch.
* YOLOv8: ultralytics/ultralytics, ultralytics/cfg/models/v8/yolov8.yaml.
* ResNet-50: arXiv 1512.03385.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

from nanonet_edge.benchmarks.prediction.layers import Drawing, Feature

_CLASSES = 1000

#: expansion, channels, repeats, stride (arXiv 1801.04381, table 2).
_MOBILENET_V2: Final = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
#: kernel, expanded channels, channels, squeeze-and-excitation, hard swish, stride (arXiv 1905.02244,
#: tables 1 and 2).
_MOBILENET_V3_LARGE: Final = (
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2),
    (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1),
    (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1),
)  # fmt: skip
_MOBILENET_V3_SMALL: Final = (
    (3, 16, 16, 1, 0, 2), (3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1), (5, 96, 40, 1, 1, 2),
    (5, 240, 40, 1, 1, 1), (5, 240, 40, 1, 1, 1), (5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1),
    (5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1), (5, 576, 96, 1, 1, 1),
)  # fmt: skip
#: kernel, repeats, expansion, channels, stride (EfficientNet-B0, which EfficientNet-Lite scales).
_EFFICIENTNET: Final = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 3, 6, 80, 2), (5, 3, 6, 112, 1),
    (5, 4, 6, 192, 2), (3, 1, 6, 320, 1),
)  # fmt: skip
#: width and depth of the backbone, input size, channels and cells of the BiFPN, repeats of the heads.
EFFICIENTDET_LITE: Final = {
    "EfficientDet-lite0": (1.0, 1.0, 320, 64, 3, 3),
    "EfficientDet-lite1": (1.0, 1.1, 384, 88, 4, 3),
    "EfficientDet-lite2": (1.1, 1.2, 448, 112, 5, 3),
    "EfficientDet-lite3": (1.2, 1.4, 512, 160, 6, 4),
    "EfficientDet-lite4": (1.4, 1.8, 640, 224, 7, 4),
}


def mobilenet_v1() -> Drawing:
    """MobileNetV1 1.0 at 224: 569 million multiply-adds, 4.2 million parameters."""
    net = Drawing(Feature(224, 224, 3))
    x = net.conv(net.image, 32, 3, 2)
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)):
        x = net.separable(x, channels, 3, stride)
    for channels, stride in (*((512, 1),) * 5, (1024, 2), (1024, 1)):
        x = net.separable(x, channels, 3, stride)
    net.conv(net.global_pool(x), _CLASSES)
    return net


def mobilenet_v2(size: int = 224) -> Drawing:
    """MobileNetV2 1.0: at 224 300 million multiply-adds, 3.4 million parameters."""
    net = Drawing(Feature(size, size, 3))
    x = _mobilenet_v2_features(net)[-1]
    net.conv(net.global_pool(net.conv(x, 1280)), _CLASSES)
    return net


def _mobilenet_v2_features(net: Drawing) -> list[Feature]:
    """The encoder's blocks.

    Returns:
        The expanded maps of the first blocks of stride 2, finest first, and the last block's output.
    """
    x = net.conv(net.image, 32, 3, 2)
    expanded = []
    for expansion, channels, repeats, stride in _MOBILENET_V2:
        for index in range(repeats):
            if index == 0 and stride == 2:
                expanded.append(Feature(x.height, x.width, x.channels * expansion))
            x = net.bottleneck(x, expansion, channels, 3, stride if index == 0 else 1)
    return [*expanded, x]


def mobilenet_v3(large: bool) -> Drawing:
    """MobileNetV3 1.0 at 224: large 219, small 56 (published 66) million multiply-adds."""
    net = Drawing(Feature(224, 224, 3))
    x = net.hard_swish(net.conv(net.image, 16, 3, 2))
    for size, wide, channels, excite, swish, stride in _MOBILENET_V3_LARGE if large else _MOBILENET_V3_SMALL:
        y = net.conv(x, wide) if wide != x.channels else x
        y = net.hard_swish(y) if swish and wide != x.channels else y
        y = net.depthwise(y, size, stride)
        y = net.hard_swish(y) if swish else y
        y = net.squeeze_excite(y, _divisible(wide / 4)) if excite else y
        y = net.conv(y, channels)
        x = net.add(y, x) if stride == 1 and x.channels == channels else y
    x = net.hard_swish(net.conv(x, 960 if large else 576))
    x = net.hard_swish(net.conv(net.global_pool(x), 1280 if large else 1024))
    net.conv(x, _CLASSES)
    return net


def ssdlite_mobilenet_v2() -> Drawing:
    """SSDLite on MobileNetV2 1.0 at 300, 91 classes."""
    net = Drawing(Feature(300, 300, 3))
    *expanded, x = _mobilenet_v2_features(net)
    maps = [expanded[-1], net.conv(x, 1280)]
    for channels in (512, 256, 256, 128):
        maps.append(net.separable(net.conv(maps[-1], channels // 2), channels, 3, 2))
    for index, x in enumerate(maps):
        anchors = 3 if index == 0 else 6
        for values in (4, 91):
            net.separable(x, anchors * values)
    anchors = sum(x.height * x.width * (3 if index == 0 else 6) for index, x in enumerate(maps))
    _detect(net, anchors, 91)
    return net


def _detect(net: Drawing, anchors: int, classes: int) -> None:
    """Scores through a sigmoid and the suppression of overlaps: data that is walked through."""
    scores = Feature(1, anchors, classes)
    net.move("logistic", [scores], scores)
    net.move("detection", [scores, Feature(1, anchors, 4)], Feature(1, 25, 6))


def unet_mobilenet_v2() -> Drawing:
    """U-Net on MobileNetV2 1.0 at 128, 3 classes, transposed convolutions in the decoder."""
    net = Drawing(Feature(128, 128, 3))
    *skips, x = _mobilenet_v2_features(net)
    for channels, skip in zip((512, 256, 128, 64), reversed(skips), strict=True):
        x = net.concat(net.transposed(x, channels, 3), skip)
    net.transposed(x, 3, 3)
    return net


def efficientnet_lite(width: float, depth: float, size: int) -> Drawing:
    """EfficientNet-Lite with its classifier: Lite0 at 224 has 407 million multiply-adds."""
    net = Drawing(Feature(size, size, 3))
    x = _efficientnet_features(net, width, depth)[-1]
    net.conv(net.global_pool(net.conv(x, 1280)), _CLASSES)
    return net


def _efficientnet_features(net: Drawing, width: float, depth: float) -> list[Feature]:
    """The encoder's blocks: its outputs at 1/8, 1/16 and 1/32 of the input's size."""
    x = net.conv(net.image, 32, 3, 2)
    outputs = []
    for index, (size, repeats, expansion, channels, stride) in enumerate(_EFFICIENTNET):
        # The first and the last stage are not made deeper.
        count = repeats if index in (0, len(_EFFICIENTNET) - 1) else ceil(repeats * depth)
        for repeat in range(count):
            x = net.bottleneck(x, expansion, _divisible(channels * width), size, stride if repeat == 0 else 1)
        outputs.append(x)
    return [outputs[2], outputs[4], outputs[6]]


def _divisible(channels: float) -> int:
    """The multiple of 8 that MobileNets round a number of channels to."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def efficientdet_lite(name: str) -> Drawing:
    """EfficientDet-Lite: backbone, BiFPN, two heads on five levels, 90 classes, 9 anchors a position."""
    width, depth, size, channels, cells, repeats = EFFICIENTDET_LITE[name]
    net = Drawing(Feature(size, size, 3))
    levels = _efficientnet_features(net, width, depth)
    levels.append(net.pool(net.conv(levels[-1], channels), 2))
    levels.append(net.pool(levels[-1], 2))
    for _ in range(cells):
        levels = _bifpn_cell(net, levels, channels)
    for values in (90 * 9, 4 * 9):
        for level in levels:
            x = level
            for _ in range(repeats):
                x = net.separable(x, channels)
            net.separable(x, values)
    _detect(net, sum(level.height * level.width * 9 for level in levels), 90)
    return net


def _bifpn_cell(net: Drawing, levels: list[Feature], channels: int) -> list[Feature]:
    """Down and up once; the first cell brings the backbone's maps to its own channels."""
    inputs = [net.conv(level, channels) if level.channels != channels else level for level in levels]
    down = [inputs[-1]]
    for level in reversed(inputs[:-1]):
        x = net.add(level, net.resize(down[-1], level.height, level.width))
        down.append(net.separable(x, channels))
    down.reverse()
    outputs = [down[0]]
    for index in range(1, len(inputs)):
        again = levels[index]
        again = net.conv(again, channels) if again.channels != channels else again
        x = net.add(again, net.pool(outputs[-1], 2))
        x = net.add(x, down[index]) if index < len(inputs) - 1 else x
        outputs.append(net.separable(x, channels))
    return outputs


def fast_scnn(height: int, width: int) -> Drawing:
    """Fast-SCNN, 19 classes, scores at the input's size: 1.1 million parameters."""
    net = Drawing(Feature(height, width, 3))
    x = net.conv(net.image, 32, 3, 2)
    fine = x = net.separable(net.separable(x, 48, 3, 2), 64, 3, 2)
    for channels, stride in ((64, 2), (96, 2), (128, 1)):
        for index in range(3):
            x = net.bottleneck(x, 6, channels, 3, stride if index == 0 else 1)
    pools = []
    for bins in (1, 2, 3, 6):
        pooled = net.move("pool", [x], Feature(bins, bins, x.channels))
        pools.append(net.resize(net.conv(pooled, x.channels // 4), x.height, x.width))
    x = net.conv(net.concat(x, *pools), 128)
    x = net.separable(net.resize(x, fine.height, fine.width), 128)
    x = net.add(x, net.conv(fine, 128))
    for _ in range(2):
        x = net.separable(x, 128)
    net.resize(net.conv(x, 19), height, width)
    return net


def yolov8(width: float, depth: float, widest: int) -> Drawing:
    """YOLOv8 at 640, 80 classes: n has 4.4 billion multiply-adds and 3.2 million parameters."""
    net = Drawing(Feature(640, 640, 3))
    c64, c128, c256, c512, c1024 = (_yolo_channels(c, width, widest) for c in (64, 128, 256, 512, 1024))
    three, six = max(1, round(3 * depth)), max(1, round(6 * depth))
    x = _c2f(net, net.conv(net.conv(net.image, c64, 3, 2), c128, 3, 2), c128, three)
    fine = x = _c2f(net, net.conv(x, c256, 3, 2), c256, six)
    middle = x = _c2f(net, net.conv(x, c512, 3, 2), c512, six)
    x = _c2f(net, net.conv(x, c1024, 3, 2), c1024, three)
    y = net.conv(x, c1024 // 2)
    pools = [y]
    for _ in range(3):
        pools.append(net.pool(pools[-1], 1))
    coarse = x = net.conv(net.concat(*pools), c1024)
    x = _c2f(net, net.concat(net.resize(x, middle.height, middle.width), middle), c512, three, adds=False)
    middle = x
    x = _c2f(net, net.concat(net.resize(x, fine.height, fine.width), fine), c256, three, adds=False)
    levels = [x]
    for channels, before in ((c512, middle), (c1024, coarse)):
        x = net.concat(net.conv(levels[-1], levels[-1].channels, 3, 2), before)
        levels.append(_c2f(net, x, channels, three, adds=False))
    for level in levels:
        for channels, values in ((max(16, c256 // 4, 64), 64), (max(c256, 80), 80)):
            net.conv(net.conv(net.conv(level, channels, 3), channels, 3), values)
    return net


def _yolo_channels(channels: int, width: float, widest: int) -> int:
    return ceil(min(channels, widest) * width / 8) * 8


def _c2f(net: Drawing, x: Feature, channels: int, repeats: int, adds: bool = True) -> Feature:
    """YOLOv8's block: half of the channels through bottlenecks, everything concatenated."""
    x = net.conv(x, channels)
    half = Feature(x.height, x.width, channels // 2)
    parts = [half, half]
    for _ in range(repeats):
        y = net.conv(net.conv(parts[-1], half.channels, 3), half.channels, 3)
        parts.append(net.add(y, parts[-1]) if adds else y)
    return net.conv(net.concat(*parts), channels)


def resnet50(size: int = 224) -> Drawing:
    """ResNet-50: at 224 4.1 billion multiply-adds, 25.6 million parameters."""
    net = Drawing(Feature(size, size, 3))
    x = net.pool(net.conv(net.image, 64, 7, 2), 2)
    for stage, (channels, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for index in range(blocks):
            stride = 2 if index == 0 and stage > 0 else 1
            y = net.conv(net.conv(net.conv(x, channels), channels, 3, stride), 4 * channels)
            x = net.add(y, net.conv(x, 4 * channels, 1, stride) if index == 0 else x)
    net.conv(net.global_pool(x), _CLASSES)
    return net


def _sized_fast_scnn(height: int, width: int) -> Callable[[], Drawing]:
    return lambda: fast_scnn(height, width)


def _named_efficientdet(name: str) -> Callable[[], Drawing]:
    return lambda: efficientdet_lite(name)


#: Every network that published_latencies.json names.
NETWORKS: Final[dict[str, Callable[[], Drawing]]] = {
    "MobileNetV1-1.0-224": mobilenet_v1,
    "MobileNetV2-1.0-224": mobilenet_v2,
    "MobileNetV3-Large-224": lambda: mobilenet_v3(large=True),
    "MobileNetV3-Small-224": lambda: mobilenet_v3(large=False),
    "SSDLite-MobileNetV2-300": ssdlite_mobilenet_v2,
    "U-Net-MobileNetV2-128": unet_mobilenet_v2,
    "ResNet-50-299": lambda: resnet50(299),
    "YOLOv8n-640": lambda: yolov8(0.25, 1 / 3, 1024),
    "YOLOv8s-640": lambda: yolov8(0.5, 1 / 3, 1024),
    "YOLOv8m-640": lambda: yolov8(0.75, 2 / 3, 768),
    **{name: _named_efficientdet(name) for name in EFFICIENTDET_LITE},
    **{
        f"Fast-SCNN-{height}x{width}": _sized_fast_scnn(height, width)
        for height, width in ((384, 384), (384, 576), (576, 576), (576, 768), (768, 1344))
    },
}
