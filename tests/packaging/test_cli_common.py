"""Printing for the commands: tables whole, JSON valid, bars only where someone watches."""

from __future__ import annotations

import json
import math
import threading
import time

import pytest
from pydantic import BaseModel
from rich.table import Table

from nanonet_edge.cli import common


def wide_table() -> Table:
    table = Table("name", "long")
    table.add_row("nanonet-c.static_wi8_ai8.tflite", "x" * 300)
    return table


def test_piped_table_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_table(wide_table())
    lines = capsys.readouterr().out.splitlines()
    assert any("nanonet-c.static_wi8_ai8.tflite" in line and "x" * 300 in line for line in lines)
    assert max(map(len, lines)) < 400


def test_table_goes_to_stdout_and_note_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    common.console.cache_clear()
    common.print_table(Table("a"))
    common.note("a note [with brackets] " + "y" * 300)
    captured = capsys.readouterr()
    assert "note" not in captured.out
    assert captured.err == "a note [with brackets] " + "y" * 300 + "\n"
    common.console.cache_clear()


class Point(BaseModel):
    name: str
    values: tuple[float, ...]


@pytest.mark.parametrize("value", [Point(name="é", values=(1, 2)), {"name": "é", "values": [1.0, 2.0]}])
def test_json_of_model_and_mapping(value: Point, capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json(value)
    assert json.loads(capsys.readouterr().out) == {"name": "é", "values": [1.0, 2.0]}


def test_json_refuses_nan(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        common.print_json({"ms": math.nan})
    assert capsys.readouterr().out == ""


def test_progress_says_nothing_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with common.progress() as report:
        report("calibrate", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_bars_are_not_redrawn_by_themselves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    common.console.cache_clear()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    before = threading.active_count()
    with common.progress() as report:
        report("bench", 0, 3)
        assert threading.active_count() == before
        capsys.readouterr()
        time.sleep(0.3)
        assert capsys.readouterr().err == ""
    common.console.cache_clear()


def test_progress_draws_a_bar_per_stage_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    common.console.cache_clear()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with common.progress() as report:
        report("calibrate", 3, 100)
        report("convert", 1, 6)
        report("calibrate", 100, 100)
    captured = capsys.readouterr()
    common.console.cache_clear()
    assert captured.out == ""
    for text in ("calibrate", "100/100", "convert", "1/6"):
        assert text in captured.err
