from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from nanonet_edge.cli import phantom as command
from nanonet_edge.cli.main import app
from nanonet_edge.data.layouts import open_dataset
from nanonet_edge.phantom import DEFAULT_SIZE, MIN_SIZE


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["phantom", *(str(argument) for argument in arguments)])


def test_it_writes_a_dataset(tmp_path: Path) -> None:
    done = run(tmp_path / "out", "--count", 3, "--size", 40, "--seed", 7, "--format", "jpg")
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "3 generated frames of 40x40" in done.stderr
    opened = open_dataset(tmp_path / "out")
    assert [sample.name for sample in opened.samples] == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert opened.has_masks


def test_json_says_that_it_is_generated(tmp_path: Path) -> None:
    done = run(tmp_path / "out", "--count", 1, "--size", 32, "--json")
    printed = json.loads(done.stdout)
    assert (printed["obtained"], printed["count"], printed["size"]) == ("generated", 1, 32)
    assert printed["folder"] == str(tmp_path / "out")


def test_a_full_folder_and_impossible_numbers_are_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    assert run(tmp_path, "--count", 1).exit_code == 2
    assert run(tmp_path / "out", "--count", 0).exit_code == 2
    assert run(tmp_path / "out", "--size", 31).exit_code == 2
    assert run(tmp_path / "out", "--format", "gif").exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert run(tmp_path, "--count", 1, "--size", 32, "--overwrite").exit_code == 0


def test_the_command_repeats_the_librarys_numbers() -> None:
    assert (command.DEFAULT_SIZE, command.MIN_SIZE) == (DEFAULT_SIZE, MIN_SIZE)
