"""With the base dependencies alone: help works and stays light; a missing extra says what to type."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from nanonet_edge.checkpoint import save_checkpoint
from nanonet_edge.cli.main import app
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.variants import VARIANTS
from tests.tiny_bundle import make_tiny_bundle, tiny_frames

GROUPS = {str(group.name): group.typer_instance for group in app.registered_groups}
COMMANDS = [str(command.name) for command in app.registered_commands] + [
    f"{name} {command.name or command.callback.__name__}"
    for name, group in GROUPS.items()
    if group is not None
    for command in group.registered_commands
    if command.callback is not None
]

#: Commands that need an extra, with a use that is right but for that.
NEED_EXTRA = {
    "export": ["--variant", "c", "--int8", "--weights", "net.weights.h5", "--output", "out"],
    "evaluate": ["--variant", "c", "--data", "frames"],
    "train": ["--data", "frames"],
    "verify": ["bundle", "--data", "frames"],
    "bench": ["bundle"],
    "blame": ["bundle"],
    "inspect": ["net.tflite", "--target", "coral"],
    "predict": ["bundle", "--device", "raspberry-pi-4"],
    "paper-table": ["--variant", "c"],
}
NEED_NONE = {
    "bundle",
    "compare",
    "runtimes",
    "weights list",
    "weights show",
    "weights export",
    "data check",
    "data fetch",
    "devices list",
    "devices show",
    "devices detect",
    "emulate setup",
    "emulate status",
    "emulate remove",
    "emulate count",
    "phantom",
}

#: Nothing of this may be imported to print help, wherever it is installed.
HEAVY = {
    "ai_edge_litert",
    "cv2",
    "h5py",
    "keras",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "psutil",
    "pydantic",
    "rich",
    "tensorflow",
}

#: Runs the command line as its script does, then writes what it imported to a file.
_SPY = """
import json, pathlib, sys
target, sys.argv = sys.argv[1], ["nanonet-edge", *sys.argv[2:]]
from nanonet_edge.cli.main import main
try:
    main()
finally:
    names = sorted({name.partition(".")[0] for name in sys.modules})
    pathlib.Path(target).write_text(json.dumps(names))
"""

#: typer 0.29 checks even an absent --help of a sub-command with pydantic; 0.28 did not.
_TYPERS_OWN = {"pydantic"}


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(params=["base", "all extras"])
def python(request: pytest.FixtureRequest) -> Path:
    """An environment without any framework, and one that has them all to hand."""
    if request.param == "base":
        return Path(request.getfixturevalue("base_python"))
    return Path(sys.executable)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([*name.split(), "--help"] for name in COMMANDS)]
)
def test_help_imports_nothing_heavy(python: Path, arguments: list[str], tmp_path: Path) -> None:
    report = tmp_path / "modules.json"
    done = run(python, "-c", _SPY, str(report), *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "nanonet-edge" in done.stdout
    allowed = _TYPERS_OWN if " ".join(arguments[:-1]) in COMMANDS else set()
    assert HEAVY & set(json.loads(report.read_text())) <= allowed


def test_spy_sees_what_is_imported(python: Path, tmp_path: Path) -> None:
    report = tmp_path / "modules.json"
    code = f"import numpy, pydantic\n{_SPY}"
    run(python, "-c", code, str(report), "--version", cwd=tmp_path)
    assert HEAVY & set(json.loads(report.read_text())) == {"numpy", "pydantic"}


def test_every_command_is_accounted_for() -> None:
    assert set(COMMANDS) == NEED_EXTRA.keys() | NEED_NONE


@pytest.mark.parametrize("command", NEED_EXTRA)
def test_missing_extra_is_one_line_to_type(command: str, base_python: Path, tmp_path: Path) -> None:
    save_checkpoint(build_network(VARIANTS["c"], fill=random_fill(0)), tmp_path / "net.weights.h5")
    make_tiny_bundle(tmp_path / "bundle")
    (tmp_path / "frames").mkdir()
    for index, frame in enumerate(tiny_frames(2, 64)):
        cv2.imwrite(str(tmp_path / "frames" / f"{index}.png"), frame)
    done = run(base_python, "-m", "nanonet_edge", *command.split(), *NEED_EXTRA[command], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    install = r"\w+ is not installed: pip install 'nanonet-edge\[[\w-]+\]'"
    assert re.fullmatch(rf"nanonet-edge: error: {install}(; {install})*\n", done.stderr), done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()
