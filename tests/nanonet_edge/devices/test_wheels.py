"""Wheels of other machines: what pip is asked, what is kept, and how it fails."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanonet_edge.devices.wheels import fetch_wheels, platform_tags
from nanonet_edge.errors import InputError, NanonetEdgeError, UnsupportedError, UsageError

Fetch = Callable[..., tuple[Path, ...]]


class FakePip:
    """Stands in for pip: keeps its commands, writes a wheel, or fails with some words."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.words = ""

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.words:
            return subprocess.CompletedProcess(command, 1, "", self.words)
        folder = next(word for word in command if word.startswith("--dest=")).removeprefix("--dest=")
        name, _, version = command[-1].partition("==")
        (Path(folder) / f"{name}-{version}-py3-none-any.whl").write_bytes(command[-1].encode())
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(subprocess, "run", fake)
    return fake


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    def call(*requirements: str, machine: str = "aarch64", python: str = "3.11") -> tuple[Path, ...]:
        return fetch_wheels(requirements, machine=machine, python=python, folder=tmp_path)

    return call


def test_pip_is_asked_for_the_other_machine(pip: FakePip, fetch: Fetch) -> None:
    (wheel,) = fetch("numpy==2.2.6")
    assert wheel.read_bytes() == b"numpy==2.2.6"
    (command,) = pip.commands
    wanted = {"--only-binary=:all:", "--no-deps", "--python-version=3.11", "--abi=cp311"}
    assert wanted | {"--platform=manylinux_2_17_aarch64", "--platform=manylinux2014_aarch64"} <= set(command)
    assert not [word for word in command if "x86_64" in word or "2_37" in word]


def test_fetched_once_and_again_when_damaged(pip: FakePip, fetch: Fetch) -> None:
    (wheel,) = fetch("numpy==2.2.6")
    assert fetch("numpy==2.2.6") == (wheel,)
    assert len(pip.commands) == 1
    sidecar = wheel.with_name(f"{wheel.name}.json")
    assert hashlib.sha256(b"numpy==2.2.6").hexdigest() in sidecar.read_text()
    wheel.write_bytes(b"damaged")
    assert fetch("numpy==2.2.6")[0].read_bytes() == b"numpy==2.2.6"
    sidecar.unlink()  # as a killed run leaves it
    fetch("numpy==2.2.6")
    assert len(pip.commands) == 3


def test_goes_on_where_it_failed(pip: FakePip, fetch: Fetch) -> None:
    fetch("numpy==2.2.6")
    pip.words = "WARNING: Retrying after NewConnectionError\nERROR: No matching distribution found"
    with pytest.raises(
        InputError, match=r"^a==1 for aarch64, Python 3\.11, glibc 2\.36: .* cannot be reached"
    ):
        fetch("numpy==2.2.6", "a==1")
    pip.words = ""
    fetch("numpy==2.2.6", "a==1")
    assert [command[-1] for command in pip.commands] == ["numpy==2.2.6", "a==1", "a==1"]


def test_each_machine_and_python_has_its_own(pip: FakePip, fetch: Fetch) -> None:
    found = {
        fetch("a==1", machine=machine, python=python)[0]
        for machine in ("aarch64", "armv7l", "x86_64")
        for python in ("3.9", "3.11")
    }
    assert len(found) == len(pip.commands) == 6


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ("/usr/bin/python3: No module named pip", UsageError, "has no pip"),
        ("ERROR: No matching distribution found for a==1", UnsupportedError, "the package index has none"),
        ("x\nERROR: something\nelse", InputError, "pip failed: something"),
        ("", InputError, "expected pip to download one wheel, found 0"),
    ],
)
def test_failures_are_one_line(
    words: str, kind: type[NanonetEdgeError], says: str, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], int(bool(words)), "", words)
    monkeypatch.setattr(subprocess, "run", lambda *_, **options: done)
    with pytest.raises(kind, match=says) as caught:
        fetch("a==1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "requirement", ["numpy", "numpy>=1", "--index-url=http://x", "a==1 b==2", "", "a==-r"]
)
def test_only_pins_are_taken(requirement: str, pip: FakePip, fetch: Fetch) -> None:
    with pytest.raises(UsageError, match="expected a pin"):
        fetch(requirement)
    assert pip.commands == []


def test_unknown_machine_and_python(fetch: Fetch) -> None:
    with pytest.raises(UnsupportedError, match="expected one of aarch64, armv7l, x86_64"):
        fetch("a==1", machine="riscv64")
    with pytest.raises(UsageError, match=r"expected a Python version such as 3\.11, found '2\.7'"):
        fetch("a==1", python="2.7")
    with pytest.raises(UnsupportedError, match=r"expected glibc 2\.17 or newer, found 2\.12"):
        platform_tags("aarch64", (2, 12))


def test_tags_go_from_new_to_old() -> None:
    tags = platform_tags("aarch64", (2, 18))
    assert tags == (
        "manylinux_2_18_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
        "linux_aarch64",
    )
