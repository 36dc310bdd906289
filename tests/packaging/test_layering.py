"""Arrows between the stages run downward only, and nothing heavy is imported on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.imports import Import, cycles, imports, sources

#: What each layer may import beside itself. "core" is nanonet_edge without its command line.
MAY_IMPORT = {
    "core": set(),
    "export": {"core"},
    "runtimes": {"core"},
    "benchmarks": {"core", "runtimes"},
    "cli": {"core", "export", "runtimes", "benchmarks"},
}
FACADE = "nanonet_edge"

#: Imported inside the function that needs them, never with a module.
HEAVY = {
    "ai_edge_litert", "ai_edge_quantizer", "cv2", "flatbuffers", "keras", "nncf", "onnx", "onnxruntime",
    "openvino", "scipy", "sklearn", "tensorflow", "tf2onnx", "tflite_runtime",
}  # fmt: skip

#: What a command's module may import before it is called; all of it cheap.
CLI_MAY_IMPORT = {"nanonet_edge", "nanonet_edge.errors", "nanonet_edge.variants"}


def layer(module: str) -> str:
    """The layer of one of our modules."""
    stage = module.split(".")[1] if "." in module else ""
    if stage in ("cli", "__main__"):
        return "cli"
    return stage if stage in MAY_IMPORT else "core"


def upward(found: list[Import]) -> list[str]:
    """Imports against the arrows. The façade may name anything, to a type checker only."""
    ours = [one for one in found if one.target.partition(".")[0] == FACADE]
    return [
        str(one)
        for one in ours
        if layer(one.target) not in MAY_IMPORT[layer(one.module)] | {layer(one.module)}
        and not (one.module == FACADE and not one.at_import)
    ]


def heavy(found: list[Import]) -> list[str]:
    """Frameworks that come in as soon as one of our modules is imported."""
    return [str(one) for one in found if one.at_import and one.target.partition(".")[0] in HEAVY]


def slow_commands(found: list[Import]) -> list[str]:
    """Imports that would slow ``--help`` down."""
    return [
        str(one)
        for one in found
        if one.at_import
        and layer(one.module) == "cli"
        and layer(one.target) != "cli"
        and one.target not in CLI_MAY_IMPORT
        and one.target.partition(".")[0] not in {*sys.stdlib_module_names, "typer"}
    ]


def import_time_cycles(found: list[Import]) -> list[str]:
    """Cycles among modules while they are being imported."""
    edges: dict[str, set[str]] = {}
    for one in found:
        if one.at_import and one.target.partition(".")[0] == FACADE:
            edges.setdefault(one.module, set()).add(one.target)
    return [" -> ".join(path) for path in cycles(edges)]


Check = Callable[[list[Import]], list[str]]
CHECKS: tuple[Check, ...] = (upward, heavy, slow_commands, import_time_cycles)


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return imports(sources())


def test_stages_are_read(found: list[Import]) -> None:
    assert {layer(one.module) for one in found} == set(MAY_IMPORT)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_rule_holds(check: Check, found: list[Import]) -> None:
    assert check(found) == []


PLANTED: dict[str, tuple[Check, str, str]] = {
    "core imports a stage": (upward, "nanonet_edge/contract.py", "import nanonet_edge.runtimes"),
    "core imports a stage late": (upward, "nanonet_edge/a.py", "def f():\n  from nanonet_edge import export"),
    "core imports the command line": (upward, "nanonet_edge/a.py", "from nanonet_edge.cli import common"),
    "a runtime imports a benchmark": (upward, "runtimes/a.py", "from nanonet_edge.benchmarks import b"),
    "an exporter imports a runtime": (upward, "export/a.py", "from nanonet_edge.runtimes.b import c"),
    "façade imports a stage": (upward, "nanonet_edge/__init__.py", "from nanonet_edge.export import a"),
    "a framework at module level": (heavy, "export/a.py", "try:\n import onnx.helper\nfinally: pass"),
    "a framework in a class body": (heavy, "runtimes/a.py", "class A:\n    import openvino"),
    "a command imports NumPy": (slow_commands, "nanonet_edge/cli/a.py", "import numpy as np"),
    "a command imports the manifest": (
        slow_commands, "nanonet_edge/cli/a.py", "from nanonet_edge.manifest import Manifest",
    ),
    "a module imports itself": (import_time_cycles, "nanonet_edge/a.py", "from nanonet_edge.a import b"),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_planted_fault_is_found(case: str, tmp_path: Path) -> None:
    check, name, code = PLANTED[case]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(code, encoding="utf-8")
    for stage in ("nanonet_edge/cli", "export", "runtimes", "benchmarks"):
        (tmp_path / stage).mkdir(parents=True, exist_ok=True)
        (tmp_path / stage / "__init__.py").touch()
    assert len(check(imports(sources(tmp_path)))) == 1


def test_cycle_through_two_modules_is_found(tmp_path: Path) -> None:
    package = tmp_path / "nanonet_edge"
    package.mkdir()
    (package / "a.py").write_text("from nanonet_edge import b")
    (package / "b.py").write_text("from nanonet_edge.a import x")
    expected = "nanonet_edge.a -> nanonet_edge.b -> nanonet_edge.a"
    assert import_time_cycles(imports(sources(tmp_path))) == [expected]


@pytest.mark.parametrize(
    "code",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import onnx",
        "def f():\n    import onnx",
        "class A:\n    def f(self):\n        import onnx",
    ],
)
def test_late_import_of_a_framework_is_fine(code: str, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "a.py").write_text(code)
    assert heavy(imports(sources(tmp_path))) == []
