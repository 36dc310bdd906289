"""What the Edge TPU compiler says of single operators."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.edgetpu.rules import (
    DATA_TYPE,
    LIMITATION,
    MAPPED,
    NOT_SUPPORTED,
    RANK,
    VERSION,
    Verdict,
    judge,
)
from nanonet_edge.tflite_file import read_tflite
from tests.nanonet_edge.tflite_models import Drawing, Shape

Draw = Callable[[Drawing], int]
IMAGE = (1, 8, 8, 4)


def judged(draw: Draw, folder: Path, dtype: str = "int8") -> Verdict:
    """The verdict on the last operator of a drawing."""
    drawing = Drawing(dtype)
    draw(drawing)
    file = read_tflite(drawing.save(folder / "net.tflite"))
    return judge(file, file.operators[-1])


def ones(*shape: int, value: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.full(shape, value, np.int8)


def conv(shape: Shape = IMAGE, version: int = 3, **options: int) -> Draw:
    def draw(d: Drawing) -> int:
        kernel, bias = d.constant(ones(4, 3, 3, shape[-1])), d.integers(0, 0, 0, 0)
        fields = {"dilationWFactor": 1, "dilationHFactor": 1, **options}
        return d.op("CONV_2D", [d.input(*shape), kernel, bias], shape, "Conv2DOptions", version, **fields)

    return draw


def unary(
    name: str, before: Shape, after: Shape | None = None, options: str | None = None, **kw: object
) -> Draw:
    def draw(d: Drawing) -> int:
        return d.op(name, [d.input(*before)], after or before, options, **kw)  # type: ignore[arg-type]

    return draw


def with_integers(name: str, before: Shape, after: Shape, *values: int, **kw: object) -> Draw:
    """An operator whose second input is a list of int32."""

    def draw(d: Drawing) -> int:
        return d.op(name, [d.input(*before), d.integers(*values)], after, **kw)  # type: ignore[arg-type]

    return draw


def mean(shape: Shape, *axes: int) -> Draw:
    after = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return with_integers("MEAN", shape, after, *axes)


def resize(before: int, after: int, kind: str = "BILINEAR", version: int = 3, **options: bool) -> Draw:
    camel = {"BILINEAR": "ResizeBilinearOptions", "NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions"}[kind]
    shapes = (1, before, before, 4), (1, after, after, 4)
    return with_integers(f"RESIZE_{kind}", *shapes, after, after, options=camel, version=version, **options)


def transposed(kernel: int, stride: int) -> Draw:
    def draw(d: Drawing) -> int:
        inputs = [d.integers(1, 16, 16, 4), d.constant(ones(4, kernel, kernel, 4)), d.input(*IMAGE)]
        options = {"strideW": stride, "strideH": stride}
        return d.op("TRANSPOSE_CONV", inputs, (1, 16, 16, 4), "TransposeConvOptions", 1, **options)

    return draw


def dense(batch: int = 1, version: int = 4, **options: int) -> Draw:
    def draw(d: Drawing) -> int:
        inputs = [d.input(batch, 8), d.constant(ones(5, 8)), d.integers(0, 0, 0, 0, 0)]
        return d.op("FULLY_CONNECTED", inputs, (batch, 5), "FullyConnectedOptions", version, **options)

    return draw


def concatenation(*constants: int, inputs: int = 1, **options: int) -> Draw:
    def draw(d: Drawing) -> int:
        parts = [d.input(*IMAGE) for _ in range(inputs)]
        parts += [
            d.constant(ones(1, 8, 8, 4, value=value), scales=[0.5], zero_points=[3]) for value in constants
        ]
        shape = (1, 8, 8, 4 * len(parts))
        return d.op("CONCATENATION", parts, shape, "ConcatenationOptions", axis=3, **options)

    return draw


def computed_weights(d: Drawing) -> int:
    return d.op("FULLY_CONNECTED", [d.input(1, 8), d.input(5, 8)], (1, 5), version=4)


def computed_size(d: Drawing) -> int:
    inputs = [d.input(*IMAGE), d.input(2, dtype="int32")]
    return d.op("RESIZE_NEAREST_NEIGHBOR", inputs, (1, 16, 16, 4), version=3)


def strided(*strides: int, **options: int) -> Draw:
    def draw(d: Drawing) -> int:
        inputs = [d.input(*IMAGE), d.integers(0, 0, 0, 0), d.integers(1, 4, 4, 4), d.integers(*strides)]
        return d.op("STRIDED_SLICE", inputs, (1, 4, 4, 4), "StridedSliceOptions", 1, **options)

    return draw


def split(axis: int, shape: Shape = IMAGE) -> Draw:
    def draw(d: Drawing) -> int:
        return d.op("SPLIT", [d.integers(axis), d.input(*shape)], shape, "SplitOptions", numSplits=1)

    return draw


def pack(axis: int) -> Draw:
    def draw(d: Drawing) -> int:
        inputs = [d.input(8, 8), d.input(8, 8)]
        after = {0: (2, 8, 8), -3: (2, 8, 8), 2: (8, 8, 2)}[axis]
        return d.op("PACK", inputs, after, "PackOptions", axis=axis, valuesCount=2)

    return draw


def prelu(*alpha: int) -> Draw:
    def draw(d: Drawing) -> int:
        return d.op("PRELU", [d.input(*IMAGE), d.constant(ones(*alpha))], IMAGE)

    return draw


def quantize(before: str, after: str) -> Draw:
    def draw(d: Drawing) -> int:
        return d.op("QUANTIZE", [d.input(*IMAGE, dtype=before)], IMAGE, dtype=after)

    return draw


def add(d: Drawing) -> int:
    return d.op("ADD", [d.input(*IMAGE), d.input(1, 1, 1, 4)], IMAGE, "AddOptions", 2)


MAPS: dict[str, Draw] = {
    "conv": conv(),
    "conv dilated alike": conv(dilationWFactor=2, dilationHFactor=2),
    "conv with relu6": conv(fusedActivationFunction=3),
    "add that broadcasts": add,
    "logistic": unary("LOGISTIC", IMAGE, version=2),
    "max pool": unary("MAX_POOL_2D", IMAGE, (1, 4, 4, 4), "Pool2DOptions", version=2),
    "mean over the image": mean(IMAGE, 1, 2),
    "mean over channels, a multiple of 4": mean(IMAGE, 3),
    "mean over 64x128": mean((1, 64, 128, 3), 1, 2),
    "bilinear x2": resize(32, 64, halfPixelCenters=True),
    "bilinear x2, corners aligned": resize(33, 65, alignCorners=True),
    "bilinear to the same size": resize(33, 33, alignCorners=True),
    "nearest to 5/3": resize(3, 5, "NEAREST_NEIGHBOR"),
    "transposed 3x3, stride 2": transposed(3, 2),
    "transposed 1x1, stride 1": transposed(1, 1),
    "dense": dense(),
    "concatenation": concatenation(inputs=3),
    "concatenation with one that means zero": concatenation(3),
    "pad of the image": with_integers("PAD", IMAGE, (1, 10, 10, 4), 0, 0, 1, 1, 1, 1, 0, 0),
    "pack": pack(2),
    "split": split(3),
    "split, counted from the end": split(-1),
    "strided slice": strided(1, 1, 1, 1),
    "reshape": with_integers("RESHAPE", IMAGE, (1, 256), 1, 256),
    "transpose": with_integers("TRANSPOSE", IMAGE, (1, 4, 8, 8), 0, 3, 1, 2),
    "prelu of channels": prelu(1, 1, 4),
    "softmax": unary("SOFTMAX", (1, 1001)),
    "softmax of the most": unary("SOFTMAX", (1, 1, 1, 16_000)),
    "quantize": quantize("uint8", "int8"),
}

DOES_NOT: dict[str, tuple[Draw, str, str]] = {
    "floats": (unary("LOGISTIC", IMAGE, dtype="float32"), DATA_TYPE, "is float32"),
    "16 bits": (unary("RELU", IMAGE, dtype="int16"), DATA_TYPE, "is int16"),
    "dequantize": (unary("DEQUANTIZE", IMAGE, dtype="float32"), DATA_TYPE, "is float32"),
    "arg max": (with_integers("ARG_MAX", IMAGE, (1, 8, 8), 3, dtype="int64"), DATA_TYPE, "is int64"),
    "quantize from float": (quantize("float32", "int8"), LIMITATION, "is float32"),
    "leaky relu": (unary("LEAKY_RELU", IMAGE), NOT_SUPPORTED, "LEAKY_RELU is not among"),
    "hard swish": (unary("HARD_SWISH", IMAGE), NOT_SUPPORTED, "HARD_SWISH is not among"),
    "newer dense": (dense(version=9), VERSION, "version 9; up to 8"),
    "newer resize": (resize(8, 16, version=4), VERSION, "version 4; up to 3"),
    "batch of two": (conv((2, 8, 8, 4)), RANK, "is 2x8x8x4"),
    "five dimensions": (unary("RELU", (1, 2, 2, 2, 2)), RANK, "is 1x2x2x2x2"),
    "size unknown": (unary("RELU", (1, -1, 8, 4)), LIMITATION, "is not known before it runs: 1x-1x8x4"),
    "uneven dilation": (conv(dilationWFactor=2), LIMITATION, "dilation 2 in x and 1 in y"),
    "pool with relu": (
        unary("AVERAGE_POOL_2D", IMAGE, IMAGE, "Pool2DOptions", fusedActivationFunction=1),
        LIMITATION,
        "fused activation",
    ),
    "concatenation with relu": (
        concatenation(inputs=2, fusedActivationFunction=1),
        LIMITATION,
        "fused activation",
    ),
    "concatenation of three, one constant": (concatenation(3, inputs=2), LIMITATION, "among 3 inputs"),
    "concatenation with ones": (concatenation(1), LIMITATION, "not all zeros"),
    "mean over the batch": (mean(IMAGE, 0, 1, 2), LIMITATION, "batch"),
    "mean over three channels": (mean((1, 8, 8, 3), 3), LIMITATION, "averages 3 channels"),
    "mean over 256x128": (mean((1, 256, 128, 3), 1, 2), LIMITATION, "averages 32768 positions"),
    "bilinear from one pixel": (resize(1, 33, alignCorners=True), LIMITATION, "from 1 to 33"),
    "bilinear to 3/2": (resize(8, 12), LIMITATION, "from 8 to 12"),
    "bilinear x2 with aligned corners": (resize(8, 16, alignCorners=True), LIMITATION, "from 8 to 16"),
    "bilinear to 512": (resize(256, 512, halfPixelCenters=True), LIMITATION, "to 512x512"),
    "nearest to 256": (resize(128, 256, "NEAREST_NEIGHBOR"), LIMITATION, "to 256x256"),
    "both centers": (resize(8, 16, alignCorners=True, halfPixelCenters=True), LIMITATION, "exclude"),
    "size that is computed": (computed_size, LIMITATION, "must be known at compile time"),
    "weights that are computed": (computed_weights, LIMITATION, "weights are computed"),
    "transposed 2x2, stride 2": (transposed(2, 2), LIMITATION, "2x2 kernel with stride 2"),
    "dense of three rows": (dense(3), LIMITATION, "its output is 3x5"),
    "dense, shuffled": (dense(weightsFormat=1), LIMITATION, "shuffled"),
    "pad of the batch": (
        with_integers("PAD", IMAGE, (1, 8, 8, 4), 0, 1, 0, 0, 0, 0, 0, 0),
        LIMITATION,
        "batch",
    ),
    "pack of the batch": (pack(0), LIMITATION, "batch"),
    "pack of the batch from the end": (pack(-3), LIMITATION, "batch"),
    "split of the batch": (split(-4), LIMITATION, "batch"),
    "every second": (strided(1, 2, 2, 1), LIMITATION, r"strides \[1, 2, 2, 1\]"),
    "ellipsis": (strided(1, 1, 1, 1, ellipsisMask=1), LIMITATION, "ellipsis"),
    "transpose of the batch": (
        with_integers("TRANSPOSE", IMAGE, (8, 1, 8, 4), 1, 0, 2, 3),
        RANK,
        "is 8x1x8x4",
    ),
    "prelu of pixels": (prelu(8, 8, 4), LIMITATION, "only channels may differ"),
    "softmax of pixels": (unary("SOFTMAX", (1, 8, 8, 4)), LIMITATION, "one-dimensional"),
    "softmax of too many": (unary("SOFTMAX", (1, 16_001)), LIMITATION, "16001 elements"),
}


@pytest.mark.parametrize("case", MAPS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_maps(case: str, dtype: str, tmp_path: Path) -> None:
    assert judged(MAPS[case], tmp_path, dtype) == Verdict(MAPPED)


@pytest.mark.parametrize("case", DOES_NOT)
def test_does_not_map(case: str, tmp_path: Path) -> None:
    draw, status, detail = DOES_NOT[case]
    verdict = judged(draw, tmp_path)
    assert verdict.status == status, verdict
    assert not verdict.is_supported
    assert re.search(detail, verdict.detail), verdict
