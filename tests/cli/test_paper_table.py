"""`nanonet-edge paper-table` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.benchmarks.paper_table import PaperTable
from nanonet_edge.cli.main import app
from nanonet_edge.results import load_result

QUICK = ("--size", "32", "--duration", "0", "--min-count", "2")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["paper-table", *map(str, arguments)])


def test_measured_beside_published(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    done = run(*QUICK, "--variant", "c", "--variant", "ResUNet++", "--format", "onnx", "--output", path)
    assert done.exit_code == 0, done.output
    for words in (
        "counted", "measured", "published", "36,561", "4,070,385", "trained", "untrained", "0.7494", "32.17",
        "19.79", "Table III", "Kvasir-Instrument", "NVIDIA DGX-2", "onnx fp32 on onnxruntime",
    ):  # fmt: skip
        assert words in done.stdout
    result = load_result(path, PaperTable)
    assert [row.network for row in result.rows] == ["c", "resunet++"]
    assert [row.trained for row in result.rows] == [True, False]
    for row in result.rows:
        assert row.counted.size == 32
        assert row.measured.bytes > 2 * row.counted.parameters
        assert row.measured.measurement is not None
        assert row.measured.measurement.invoke.summary.n >= 2


def test_json_says_of_every_figure_how_it_was_obtained() -> None:
    done = run(*QUICK, "--variant", "c", "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert row["counted"]["obtained"] == "counted"
    assert row["measured"]["measurement"]["invoke"]["obtained"] == "measured"
    assert {one["obtained"] for one in row["published"]} == {"published"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--variant", "segnet"), "variant 'segnet' is unknown"),
        (("--runtime", "onnxruntime"), "onnxruntime loads onnx, not tflite"),
        (("--duration", "inf"), "--duration: expected a number of seconds, found inf"),
        (("--size", "33"), "input size 33 cannot be used"),
        (("--variant", "unet", "--size", "32", "--precision", "static_wi8_ai16"), "DEPTH_TO_SPACE"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
