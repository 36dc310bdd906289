"""The compiler's counts, put back on the operators."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.edgetpu import compiled_report, coral_report, parse_log
from nanonet_edge.edgetpu.report import UNMENTIONED
from nanonet_edge.edgetpu.rules import LIMITATION, MAPPED, NOT_SUPPORTED, SUBGRAPH
from tests.nanonet_edge.edgetpu import fake_compiler as fake
from tests.nanonet_edge.tflite_models import Drawing

IMAGE = (1, 8, 8, 4)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Convolution, leaky ReLU, convolution, convolution."""
    drawing = Drawing()
    first = drawing.conv(drawing.input(*IMAGE), IMAGE, 4)
    leaky = drawing.op("LEAKY_RELU", [first], IMAGE)
    drawing.conv(drawing.conv(leaky, IMAGE, 4), IMAGE, 4)
    return drawing.save(tmp_path / "net.tflite")


@pytest.mark.parametrize(
    ("rows", "reasons"),
    [
        (
            (("CONV_2D", 2, SUBGRAPH), ("CONV_2D", 1, MAPPED), ("LEAKY_RELU", 1, NOT_SUPPORTED)),
            [MAPPED, NOT_SUPPORTED, SUBGRAPH, SUBGRAPH],
        ),
        ((("CONV_2D", 3, MAPPED), ("LEAKY_RELU", 1, MAPPED)), [MAPPED] * 4),
        (
            (("CONV_2D", 3, LIMITATION), ("LEAKY_RELU", 1, "Never heard of")),
            [LIMITATION, "Never heard of", LIMITATION, LIMITATION],
        ),
        ((("CONV_2D", 1, MAPPED), ("CONV_2D", 1, SUBGRAPH)), [MAPPED, UNMENTIONED, SUBGRAPH, UNMENTIONED]),
        ((("CONV_2D", 99, MAPPED), ("SPLIT", 1, MAPPED)), [MAPPED, UNMENTIONED, MAPPED, MAPPED]),
    ],
)
def test_the_log_decides(model: Path, rows: tuple[fake.Row, ...], reasons: list[str]) -> None:
    report = compiled_report(model, parse_log(fake.log(*rows)))
    assert [operator.reason for operator in report.operators] == reasons
    assert [operator.mapped for operator in report.operators] == [reason == MAPPED for reason in reasons]
    assert report.obtained == "measured"
    assert report.compiler is not None
    assert report.compiler.version == "16.0.384591198"
    summary = report.summary
    assert summary.mapped == reasons.count(MAPPED)
    convolutions = [reasons[index] == MAPPED for index in (0, 2, 3)]
    assert summary.macs_tpu == 8 * 8 * 9 * 4 * 4 * sum(convolutions)
    assert summary.macs_tpu + summary.macs_cpu == 3 * 8 * 8 * 9 * 4 * 4


def test_where_it_agrees_it_is_the_prediction(model: Path) -> None:
    rows = (("CONV_2D", 1, MAPPED), ("LEAKY_RELU", 1, NOT_SUPPORTED), ("CONV_2D", 2, SUBGRAPH))
    report, predicted = compiled_report(model, parse_log(fake.log(*rows))), coral_report(model)
    assert (report.operators, report.summary) == (predicted.operators, predicted.summary)
