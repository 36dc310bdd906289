"""What is in the wheel, and what it gives to an environment that holds nothing else."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

PACKAGES = (
    "nanonet_edge",
    "nanonet_edge.benchmarks",
    "nanonet_edge.cli",
    "nanonet_edge.devices",
    "nanonet_edge.export",
    "nanonet_edge.passes",
    "nanonet_edge.runtimes",
    "nanonet_edge.weights",
)


@pytest.fixture(scope="module")
def content(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_installs_one_top_level_name(content: set[str]) -> None:
    names = {Path(name).parts[0] for name in content}
    assert {name for name in names if not name.endswith(".dist-info")} == {"nanonet_edge"}


def test_wheel_holds_every_module_of_the_tree(content: set[str], source: Path) -> None:
    expected = {path.relative_to(source).as_posix() for path in (source / "nanonet_edge").rglob("*.py")}
    for stage in ("export", "runtimes", "benchmarks"):
        files = (source / stage).rglob("*.py")
        expected |= {f"nanonet_edge/{path.relative_to(source).as_posix()}" for path in files}
    assert {name for name in content if name.endswith(".py")} == expected


def test_wheel_holds_type_marker_and_licence(content: set[str]) -> None:
    assert "nanonet_edge/py.typed" in content
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in content)


def test_wheel_holds_every_device_profile(content: set[str], source: Path) -> None:
    folder = "nanonet_edge/devices/profiles"
    expected = {f"{folder}/{path.name}" for path in (source / folder).iterdir()}
    assert {name for name in content if name.startswith(f"{folder}/")} == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_base_install_imports_package(base_python: Path, package: str, tmp_path: Path) -> None:
    code = f"import {package} as package; print(package.__file__)"
    done = subprocess.run(
        [base_python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(base_python.parents[1]), "imported from elsewhere"
