"""The Coral report: against what Google's compiler did, and on graphs that show the partition."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.edgetpu import CoralReport, coral_report
from nanonet_edge.edgetpu.rules import LIMITATION, MAPPED, NOT_SUPPORTED, SUBGRAPH
from tests.nanonet_edge.tflite_models import Drawing

IMAGE = (1, 8, 8, 4)
PUBLISHED = (
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_v1_0.25_128_quant",
    "posenet_mobilenet_v1_075_353_481_16_quant_decoder",
    "split_concat",
)


def reported(drawing: Drawing, folder: Path, *outputs: int) -> CoralReport:
    return coral_report(drawing.save(folder / "net.tflite", *outputs))


def relu(drawing: Drawing, source: int, name: str = "RELU") -> int:
    return drawing.op(name, [source], IMAGE)


@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.parametrize("file_name", ["published", "anonymous"])
def test_it_maps_what_the_compiler_mapped(
    model: str, file_name: str, test_data: Path, tmp_path: Path
) -> None:
    folder = test_data / "fixtures/edgetpu"
    path = folder / f"{model}.tflite"
    if file_name == "anonymous":
        path = tmp_path / "x.tflite"
        path.write_bytes((folder / f"{model}.tflite").read_bytes())
    expected = json.loads((folder / "expected_mapping.json").read_text())
    assert expected.keys() == set(PUBLISHED)
    report = coral_report(path)
    mapped = Counter(operator.name for operator in report.operators if operator.mapped)
    left = Counter(operator.name for operator in report.operators if not operator.mapped)
    assert mapped == expected[model]["mapped"]
    assert left == expected[model]["left_on_cpu"]
    assert report.summary.mapped == mapped.total()


def test_everything_after_the_first_that_is_not_mapped_stays_on_the_cpu(tmp_path: Path) -> None:
    drawing = Drawing()
    first = drawing.conv(drawing.input(*IMAGE), IMAGE, 4)
    leaky = relu(drawing, first, "LEAKY_RELU")
    relu(drawing, drawing.conv(leaky, IMAGE, 4))
    report = reported(drawing, tmp_path)
    assert [operator.reason for operator in report.operators] == [MAPPED, NOT_SUPPORTED, SUBGRAPH, SUBGRAPH]
    summary = report.summary
    assert summary.ended_by is not None
    assert (summary.ended_by.index, summary.ended_by.name) == (1, "LEAKY_RELU")
    assert (summary.mapped, summary.on_cpu) == (1, 3)
    assert summary.macs_tpu == summary.macs_cpu == 64 * 9 * 4 * 4
    assert summary.share_macs_tpu == summary.share_macs_cpu == 0.5
    assert summary.memory.parameters_tpu == summary.memory.parameters_cpu == 9 * 4 * 4 + 4 * 4


def test_a_branch_that_needs_nothing_from_the_cpu_is_mapped(tmp_path: Path) -> None:
    """Posenet's heads: what matters is what an operator needs, not its place in the file."""
    drawing = Drawing()
    trunk = relu(drawing, drawing.input(*IMAGE))
    left = relu(drawing, trunk, "LEAKY_RELU")
    right = relu(drawing, trunk, "RELU6")
    drawing.op("ADD", [left, right], IMAGE, "AddOptions")
    report = reported(drawing, tmp_path)
    assert [operator.mapped for operator in report.operators] == [True, False, True, False]


def test_a_float_input_does_not_end_it(tmp_path: Path) -> None:
    """The compiler's log of a model with float input and output: all but QUANTIZE and DEQUANTIZE."""
    drawing = Drawing()
    quantized = drawing.op("QUANTIZE", [drawing.input(*IMAGE, dtype="float32")], IMAGE)
    drawing.op("DEQUANTIZE", [relu(drawing, quantized)], IMAGE, dtype="float32")
    report = reported(drawing, tmp_path)
    assert [operator.mapped for operator in report.operators] == [False, True, False]
    assert report.operators[0].reason == LIMITATION
    assert report.summary.ended_by is not None
    assert report.summary.ended_by.name == "DEQUANTIZE"


def test_only_the_first_subgraph_is_mapped_however_small(tmp_path: Path) -> None:
    drawing = Drawing()
    last = relu(drawing, relu(drawing, drawing.input(*IMAGE)), "LEAKY_RELU")
    for _ in range(10):
        last = relu(drawing, last)
    report = reported(drawing, tmp_path)
    assert [operator.index for operator in report.operators if operator.mapped] == [0]


def test_a_float_model_maps_nothing(tmp_path: Path) -> None:
    drawing = Drawing("float32")
    relu(drawing, relu(drawing, drawing.input(*IMAGE)))
    summary = reported(drawing, tmp_path).summary
    assert (summary.mapped, summary.on_cpu) == (0, 2)
    assert (summary.share_macs_tpu, summary.share_macs_cpu) == (None, None)
    assert summary.ended_by is not None
    assert summary.ended_by.index == 0
    assert summary.memory.at_operator is None


def test_all_mapped_ends_nowhere(tmp_path: Path) -> None:
    drawing = Drawing()
    relu(drawing, drawing.input(*IMAGE))
    report = reported(drawing, tmp_path)
    assert report.summary.ended_by is None
    assert report.obtained == "predicted"
    memory = report.summary.memory
    assert (memory.activations_tpu, memory.at_operator) == (512, 0)
    assert memory.parameters_fit
    assert memory.everything_fits


def test_parameters_beyond_8_mib_do_not_fit(tmp_path: Path) -> None:
    drawing = Drawing()
    weights = drawing.constant(np.zeros((8, 1 << 20), np.int8))
    drawing.op("FULLY_CONNECTED", [drawing.input(1, 1 << 20), weights], (1, 8), version=4)
    memory = reported(drawing, tmp_path).summary.memory
    assert memory.parameters_tpu == memory.on_chip == 8 << 20
    assert memory.parameters_fit
    assert not memory.everything_fits
