"""`bench --host` and `--hosts` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from nanonet_edge.benchmarks.remote.bench import BoardsResult
from nanonet_edge.bundle import Bundle
from nanonet_edge.cli.main import app
from nanonet_edge.errors import EXIT_DEVICE, EXIT_USAGE
from nanonet_edge.results import load_result
from tests.benchmarks.remote.conftest import Server

QUICK = ["--min-seconds", "0", "--min-count", "5", "--artifact", "tiny.fp32.onnx"]


def test_several_boards_in_one_table(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    boards = tmp_path / "boards.toml"
    board = server.board()
    boards.write_text(
        f"""
        [[board]]
        host = "loopback"
        name = "good [/]"
        python = {json.dumps(board.python)}
        ssh_config = {json.dumps(str(board.ssh_config))}

        [[board]]
        host = "ssh://127.0.0.1:1"
        name = "gone"
        """
    )
    output = tmp_path / "boards.json"
    arguments = ["bench", str(bundle.root), "--hosts", str(boards), "--output", str(output), *QUICK]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == EXIT_DEVICE, done.output
    found = load_result(output, BoardsResult)
    assert [one.result is None for one in found.boards] == [False, True]
    lines = [line for line in done.stdout.splitlines() if "good" in line or "gone" in line]
    assert len(lines) == 2
    assert "good [/]" in lines[0]
    assert "tiny.fp32.onnx" in lines[0]
    assert "lost" in lines[1]
    assert "lost: gone: cannot be reached" in done.stderr


def test_unreachable_host_is_one_line_and_exit_code_4(bundle: Bundle) -> None:
    done = CliRunner().invoke(app, ["bench", str(bundle.root), "--host", "ssh://127.0.0.1:1", *QUICK])
    assert done.exit_code == EXIT_DEVICE
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert line.startswith("nanonet-edge: error: ssh://127.0.0.1:1: cannot be reached: ")


def test_password_on_the_command_line_is_refused(bundle: Bundle) -> None:
    done = CliRunner().invoke(app, ["bench", str(bundle.root), "--host", "ssh://pi:secret@pi5", *QUICK])
    assert done.exit_code == EXIT_USAGE
    assert "secret" not in done.output
    assert "a password does not belong" in done.stderr
