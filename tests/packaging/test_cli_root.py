"""The command line's root: exit codes, one-line errors, and stdout kept for data."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from nanonet_edge import __version__
from nanonet_edge.cli.main import CommandGroup, app
from nanonet_edge.errors import (
    BundleError,
    DeviceError,
    MissingExtraError,
    RuntimeFailure,
    UnsupportedError,
    UsageError,
)


def run_raising(error: BaseException) -> Result:
    """Run a command that raises `error`, under the root's own group."""
    program = typer.Typer(cls=CommandGroup, rich_markup_mode=None, pretty_exceptions_enable=False)

    @program.command()
    def work() -> None:
        raise error

    @program.callback()
    def root() -> None:
        pass

    return CliRunner().invoke(program, ["work"])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("--a contradicts --b"), 2, "error: --a contradicts --b"),
        (UnsupportedError("onnx has no such thing"), 2, "error: onnx has no such thing"),
        (
            MissingExtraError("openvino", "openvino"),
            2,
            "error: openvino is not installed: pip install 'nanonet-edge[openvino]'",
        ),
        (BundleError("x/manifest.json: expected JSON"), 3, "error: x/manifest.json: expected JSON"),
        (RuntimeFailure("refused,\n  over two lines"), 3, "error: refused, over two lines"),
        (DeviceError("board: no answer"), 4, "error: board: no answer"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 3, "error: /a/b: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 3, "error: No space left on device"),
        (OSError(errno.EXDEV, "Cross-device link", "a", None, "b"), 3, "error: a -> b: Cross-device link"),
        (OSError("unable to open file"), 3, "error: unable to open file"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            ZeroDivisionError("division by zero"),
            70,
            (
                "internal error: ZeroDivisionError: division by zero "
                "(set NANONET_EDGE_DEBUG=1 for the traceback)"
            ),
        ),
    ],
)
def test_error_is_one_line_and_a_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NANONET_EDGE_DEBUG", raising=False)
    result = run_raising(error)
    assert (result.exit_code, result.stderr, result.stdout) == (code, f"nanonet-edge: {line}\n", "")


def test_debug_variable_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANONET_EDGE_DEBUG", "1")
    result = run_raising(UsageError("no"))
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("nanonet-edge: error: no\n")


@pytest.mark.parametrize("code", [0, 1])
def test_exit_code_of_a_command_passes_through(code: int) -> None:
    result = run_raising(typer.Exit(code))
    assert (result.exit_code, result.stderr) == (code, "")


def test_bad_parameter_is_wrong_use() -> None:
    result = run_raising(typer.BadParameter("not a number"))
    assert result.exit_code == 2
    assert "not a number" in result.stderr


@pytest.mark.parametrize("arguments", [["no-such-command"], ["--no-such-option"]])
def test_wrong_use_is_code_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert arguments[0] in result.stderr


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"nanonet-edge {__version__}\n")


def test_help_tells_the_exit_codes() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "70 ", "130 "):
        assert f"\n    {code}" in text


def test_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nanonet_edge", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"nanonet-edge {__version__}\n"


def test_closed_pipe_is_quiet(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import typer\n"
        "from nanonet_edge.cli.common import print_json\n"
        "from nanonet_edge.cli.main import CommandGroup\n"
        "app = typer.Typer(cls=CommandGroup)\n"
        "@app.command()\n"
        "def work() -> None:\n"
        "    while True:\n"
        "        print_json({'key': 'value' * 1000})\n"
        "@app.callback()\n"
        "def root() -> None: ...\n"
        "app()\n"
    )
    with subprocess.Popen(
        [sys.executable, script, "work"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (141, b"")
