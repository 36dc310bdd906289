"""The images, as far as they can be checked without an engine that builds them."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

packaging = pytest.importorskip("packaging.requirements")
utils = pytest.importorskip("packaging.utils")

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
CONSTRAINTS = ROOT / "docker" / "constraints.txt"
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: The Python that an image's packages are installed for.
PYTHON = {"jetson": "3.10"}
HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.partition(".")[0])


def instructions(path: Path) -> list[tuple[str, str]]:
    """Keyword and arguments, continued lines joined, comments left out."""
    lines = (line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(one.split(None, 1)[0], one.split(None, 1)[1]) for one in joined.splitlines() if one.strip()]


def pinned(python: str) -> dict[str, str]:
    """The versions of the constraints for a Python, by normalized name."""
    found = {}
    for line in CONSTRAINTS.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            one = packaging.Requirement(line)
            (specifier,) = one.specifier
            assert specifier.operator == "==", line
            if one.marker is None or one.marker.evaluate({"python_version": python}):
                name = utils.canonicalize_name(one.name)
                assert name not in found, f"{name} is pinned twice for Python {python}"
                found[name] = specifier.version
    return found


def python_of(path: Path) -> str:
    return PYTHON.get(path.name.partition(".")[0], "3.12")


def test_there_is_a_file_per_family_of_targets() -> None:
    names = [path.name for path in FILES]
    assert names == [f"{name}.Dockerfile" for name in ("coral", "cpu", "jetson", "raspberry-pi")]


@each_file
def test_what_is_copied_exists_and_is_sent_to_the_engine(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    sent = {line[1:] for line in ignored if line.startswith("!")}
    sources = [
        source
        for keyword, arguments in instructions(path)
        if keyword == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
    ]
    assert {"pyproject.toml", "nanonet_edge", "docker/constraints.txt"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in sent, f"{source} is kept from the engine by .dockerignore"
    folders = set(PYPROJECT_FOLDERS)
    assert folders <= set(sources), f"the wheel is built of {sorted(folders)}"


PYPROJECT_FOLDERS = {
    folder.partition("/")[0]
    for folder in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-dir"
    ].values()
}


@each_file
def test_extras_exist_and_their_requirements_are_met_by_the_pins(path: Path) -> None:
    (extras,) = re.findall(r'"\$\{wheel\}\[([a-z,-]+)\]"', path.read_text())
    pins, environment = pinned(python_of(path)), {"python_version": python_of(path), "extra": ""}
    wanted = list(PYPROJECT["dependencies"])
    for extra in extras.split(","):
        wanted += PYPROJECT["optional-dependencies"][extra]
    for line in wanted:
        requirement = packaging.Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = pins[utils.canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{line}: pinned to {version}"
    assert "--constraint constraints.txt" in path.read_text()


@each_file
def test_images_are_tagged_and_the_python_is_that_of_the_pins(path: Path) -> None:
    images = [arguments.split()[0] for keyword, arguments in instructions(path) if keyword == "FROM"]
    for image in images:
        assert re.search(r":[\w.-]*\d", image) or image.startswith("jetpack-$"), image
    assert f"python:{python_of(path)}." in images[0]


@each_file
def test_nothing_runs_as_root(path: Path) -> None:
    (user,) = (arguments for keyword, arguments in instructions(path) if keyword == "USER")
    assert user.split(":")[0] not in ("root", "0")
    assert instructions(path)[-2][0] == "ENTRYPOINT"


def test_jetsons_onnxruntime_is_the_pinned_one() -> None:
    text = (ROOT / "docker" / "jetson.Dockerfile").read_text()
    assert f"ARG ONNXRUNTIME=onnxruntime=={pinned('3.10')['onnxruntime']}\n" in text


def test_each_jetpack_that_is_offered_has_its_image() -> None:
    path = ROOT / "docker" / "jetson.Dockerfile"
    stages = dict(
        reversed(arguments.split(" AS ")) for keyword, arguments in instructions(path) if " AS " in arguments
    )
    (default,) = re.findall(r"^ARG JETPACK=(.+)$", path.read_text(), re.MULTILINE)
    assert f"jetpack-{default}" in stages
    from nanonet_edge.devices.jetpack import parse_tegra_release

    for name, image in stages.items():
        if name.startswith("jetpack-"):
            major, _, minor = image.rpartition(":r")[2].partition(".")
            release = parse_tegra_release(f"# R{major} (release), REVISION: {minor}, GCID: 1\n")
            assert release is not None
            assert release.jetpack == name.removeprefix("jetpack-")


def test_compose_builds_the_cpu_image_from_here() -> None:
    text = (ROOT / "docker" / "compose.yaml").read_text()
    (dockerfile,) = re.findall(r"dockerfile: (\S+)", text)
    assert (ROOT / dockerfile).is_file()
    assert "context: .." in text


def test_ignored_files_are_those_the_wheel_does_not_need() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert not any(fnmatch.fnmatch("artifacts", line[1:]) for line in ignored if line.startswith("!"))


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint")
def test_files_are_linted() -> None:
    done = subprocess.run([HADOLINT, *map(str, FILES)], capture_output=True, text=True, check=False)  # type: ignore[list-item]
    assert done.returncode == 0, done.stdout
