from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.cli.main import app
from tests.nanonet_edge.tflite_models import Drawing

IMAGE = (1, 8, 8, 4)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *(str(argument) for argument in arguments)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    drawing = Drawing()
    image = drawing.input(*IMAGE)
    drawing.op("LEAKY_RELU", [drawing.conv(image, IMAGE, 4)], IMAGE)
    return drawing.save(tmp_path / "net.tflite")


def test_a_plain_table(model: Path) -> None:
    done = run(model)
    assert done.exit_code == 0, done.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    assert ["0", "CONV_2D", "3", "1x8x8x4 int8", "1x8x8x4 int8", "9,216", "148"] in rows
    assert ["1", "LEAKY_RELU", "1", "1x8x8x4 int8", "1x8x8x4 int8", "0", "0"] in rows
    assert ["", "total", "", "", "", "9,216", "148"] in rows


def test_plain_json(model: Path) -> None:
    printed = json.loads(run(model, "--json").stdout)
    assert (printed["macs"], printed["parameters"]) == (9216, 148)
    first = printed["operators"][0]
    assert (first["index"], first["name"], first["version"]) == (0, "CONV_2D", 3)
    assert [tensor["shape"] for tensor in first["inputs"]] == [[1, 8, 8, 4], [4, 3, 3, 4], [4]]
    assert [tensor["constant"] for tensor in first["inputs"]] == [False, True, True]


def test_coral_json(model: Path) -> None:
    done = run(model, "--target", "coral", "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["obtained"] == "predicted"
    facts = [[one[key] for key in ("index", "name", "mapped", "reason")] for one in printed["operators"]]
    assert facts == [
        [0, "CONV_2D", True, "Mapped to Edge TPU"],
        [1, "LEAKY_RELU", False, "Operation not supported"],
    ]
    assert printed["summary"]["share_macs_tpu"] == 1.0
    assert printed["summary"]["ended_by"]["index"] == 1


def test_coral_tables(model: Path) -> None:
    done = run(model, "--target", "coral")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines()]
    assert ["operators", "1", "1"] in rows
    assert ["share of MACs", "100.0 %", "0.0 %"] in rows
    assert ["the subgraph ends at", "1 LEAKY_RELU", ""] in rows
    assert "Operation not supported" in done.stdout


@pytest.mark.parametrize("target", [[], ["--target", "coral"]])
def test_a_bad_file_is_one_line(target: list[str], model: Path) -> None:
    model.write_bytes(model.read_bytes()[:500])
    done = run(model, *target)
    assert done.exit_code == 3
    assert done.stdout == ""
    assert done.stderr.startswith(f"nanonet-edge: error: {model}: damaged .tflite file: ")
    assert done.stderr.count("\n") == 1


def test_an_unknown_target_is_wrong_use(model: Path) -> None:
    assert run(model, "--target", "hailo").exit_code == 2
