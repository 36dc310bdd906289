"""Costs of `.tflite` operators, against counts made by hand, published ones and our own graph's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanonet_edge import cost
from nanonet_edge.export.tflite_graph import TfliteWriter
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.passes import rewrite
from nanonet_edge.tflite_cost import (
    multiply_accumulates,
    parameter_bytes,
    parameters,
    peak_activations,
)
from nanonet_edge.tflite_file import TfliteFile, read_tflite
from nanonet_edge.variants import VARIANTS, Precision
from tests.nanonet_edge.tflite_models import Drawing

SHAPE = (1, 6, 6, 3)


def opened(drawing: Drawing, folder: Path, *outputs: int) -> TfliteFile:
    return read_tflite(drawing.save(folder / "net.tflite", *outputs))


def ones(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    return np.ones(shape, np.int8)


def conv(draw: Drawing) -> int:
    return draw.conv(draw.input(*SHAPE), SHAPE, 5)


def depthwise(draw: Drawing) -> int:
    kernel = draw.constant(ones(1, 3, 3, 3))
    return draw.op("DEPTHWISE_CONV_2D", [draw.input(*SHAPE), kernel], (1, 3, 3, 3))


def transposed(draw: Drawing) -> int:
    inputs = [draw.integers(1, 12, 12, 5), draw.constant(ones(5, 2, 2, 3)), draw.input(*SHAPE)]
    return draw.op("TRANSPOSE_CONV", inputs, (1, 12, 12, 5))


def dense(draw: Drawing) -> int:
    return draw.op("FULLY_CONNECTED", [draw.input(2, 7), draw.constant(ones(4, 7))], (2, 4))


def matmul(draw: Drawing) -> int:
    return draw.op("BATCH_MATMUL", [draw.input(2, 5, 7), draw.input(2, 7, 3)], (2, 5, 3))


def add(draw: Drawing) -> int:
    return draw.op("ADD", [draw.input(*SHAPE), draw.constant(ones(3))], SHAPE)


BY_HAND = {
    conv: (36 * 27 * 5, 27 * 5 + 5),
    depthwise: (9 * 9 * 3, 27),
    transposed: (36 * 12 * 5, 60),
    dense: (2 * 4 * 7, 28),
    matmul: (2 * 5 * 7 * 3, 0),
    add: (0, 3),
}


@pytest.mark.parametrize("draw", BY_HAND, ids=lambda draw: draw.__name__)
def test_each_operator(draw: object, tmp_path: Path) -> None:
    drawing = Drawing()
    assert callable(draw)
    draw(drawing)
    file = opened(drawing, tmp_path)
    (operator,) = file.operators
    assert (multiply_accumulates(file, operator), parameters(file, operator)) == BY_HAND[draw]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_costs_what_its_graph_does(variant: str, tmp_path: Path) -> None:
    graph = rewrite(build_network(VARIANTS[variant], fill=random_fill(0))).graph
    path = tmp_path / "net.tflite"
    path.write_bytes(TfliteWriter(graph, Precision.FP32).build())
    file = read_tflite(path)
    macs = sum(multiply_accumulates(file, operator) for operator in file.operators)
    assert macs == cost.multiply_accumulates(graph)


def test_mobilenet_costs_what_its_paper_says(test_data: Path) -> None:
    """14 million multiply-adds and 0.47 million parameters: Howard et al. 2017, and the model zoo."""
    file = read_tflite(test_data / "fixtures/edgetpu/mobilenet_v1_0.25_128_quant.tflite")
    macs = sum(multiply_accumulates(file, operator) for operator in file.operators)
    assert round(macs / 1e6) == 14
    assert round(sum(parameters(file, operator) for operator in file.operators) / 1e6, 2) == 0.47


def test_a_shared_constant_is_stored_once(tmp_path: Path) -> None:
    drawing = Drawing()
    image, kernel = drawing.input(1, 4), drawing.constant(ones(4, 4))
    first = drawing.op("FULLY_CONNECTED", [image, kernel], (1, 4))
    drawing.op("FULLY_CONNECTED", [first, kernel], (1, 4))
    file = opened(drawing, tmp_path)
    assert parameter_bytes(file, file.operators) == 16
    assert sum(parameters(file, operator) for operator in file.operators) == 32


def test_activations_live_from_their_writer_to_their_last_reader(tmp_path: Path) -> None:
    drawing = Drawing()
    image = drawing.input(1, 100)
    wide = drawing.op("RELU", [image], (1, 1000))  # 100 + 1000
    narrow = drawing.op("RELU", [wide], (1, 10))  # the image waits: 100 + 1000 + 10
    drawing.op("CONCATENATION", [narrow, image], (1, 110), "ConcatenationOptions", axis=1)
    file = opened(drawing, tmp_path)
    assert peak_activations(file, file.operators) == (1110, 1)
    assert peak_activations(file, file.operators[2:]) == (220, 2)
    assert peak_activations(file, ()) == (0, None)
