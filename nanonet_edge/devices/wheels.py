"""Fetch the wheels of another machine: what a board, or an emulated one, is to run.

pip finds and downloads them (so the user's index, proxy and certificates count); this module pins,
caches and checks them. Each kind of machine has a folder of its own, and beside each wheel lies
``<wheel>.json`` with its requirement and SHA-256: a wheel that has it is used again without a network,
one whose digest differs, or that an interrupted call left without it, is fetched again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from nanonet_edge.atomic import write_text
from nanonet_edge.errors import InputError, UnsupportedError, UsageError
from nanonet_edge.manifest import Record, Sha256, sha256_file

#: (major, minor) of the C library that wheels may need, where the board's own is not known: Debian 12's.
GLIBC: Final = (2, 36)
#: The oldest C library that has a manylinux tag of its own, by machine (PEP 600 and its forerunners).
_FIRST_GLIBC: Final = {"x86_64": 5, "aarch64": 17, "armv7l": 17}
_LEGACY_TAGS: Final = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}

#: Longest wait for pip, per wheel: 1 GiB at 5 Mbit/s.
_TIMEOUT_SECONDS: Final = 1800.0
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.+!_-]*")
_PYTHON = re.compile(r"3\.\d{1,2}")
_NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ReadTimeout|NameResolutionError|ProxyError|SSLError|"
    r"Connection (?:refused|reset|aborted)|Network is unreachable|Failed to establish a new connection"
)
_NO_WHEEL = re.compile(r"No matching distribution found|Could not find a version that satisfies")


class _Sidecar(Record):
    """``<wheel>.json``: what the wheel was fetched for, and its digest."""

    schema_version: Literal[1] = 1
    requirement: str
    sha256: Sha256


@dataclass(frozen=True)
class _Target:
    """The machine that wheels are for."""

    machine: str
    python: str
    glibc: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.machine}, Python {self.python}, glibc {self.glibc[0]}.{self.glibc[1]}"

    @property
    def folder(self) -> str:
        """Name of its folder in the cache."""
        return f"{self.machine}-cp{self.abi}-glibc{self.glibc[0]}.{self.glibc[1]}"

    @property
    def abi(self) -> str:
        """Its Python's version without the dot."""
        return self.python.replace(".", "")


def platform_tags(machine: str, glibc: tuple[int, int] = GLIBC) -> tuple[str, ...]:
    """The platform tags of wheels that a Linux machine loads, newest first.

    Args:
        machine: "aarch64", "armv7l" or "x86_64", as ``uname -m`` says.
        glibc: (major, minor) of its C library.

    Raises:
        UnsupportedError: another machine, or a C library older than any wheel's.
    """
    if machine not in _FIRST_GLIBC:
        raise UnsupportedError(
            f"wheels for machine '{machine}': expected one of {', '.join(sorted(_FIRST_GLIBC))}"
        )
    first = _FIRST_GLIBC[machine]
    if glibc[0] != 2 or glibc[1] < first:
        found = ".".join(str(number) for number in glibc)
        raise UnsupportedError(f"wheels for {machine}: expected glibc 2.{first} or newer, found {found}")
    tags = []
    for minor in range(glibc[1], first - 1, -1):
        tags.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY_TAGS:
            tags.append(f"{_LEGACY_TAGS[minor]}_{machine}")
    return (*tags, f"linux_{machine}")


def fetch_wheels(
    requirements: Sequence[str],
    *,
    machine: str,
    python: str,
    folder: Path,
    glibc: tuple[int, int] = GLIBC,
    report: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Have these wheels in `folder`, and no dependencies of theirs; fetch only those that are missing.

    Args:
        requirements: pins such as "numpy==2.2.6", everything that is to be installed.
        machine: "aarch64", "armv7l" or "x86_64".
        python: CPython's version there, "3.11".
        folder: a cache, created if need be; several machines may share it.
        glibc: of that machine.
        report: called with one line per wheel before it is fetched.

    Returns:
        One wheel per requirement, in their order, below `folder`.

    Raises:
        UsageError: a requirement or version is not of that form, or this Python has no pip.
        UnsupportedError: there is no wheel of it for that machine and Python.
        InputError: the package index cannot be reached, or pip failed; wheels that have arrived are kept.
    """
    platform_tags(machine, glibc)  # refuses an unknown machine before anything is created
    if not _PYTHON.fullmatch(python):
        raise UsageError(f"wheels: expected a Python version such as 3.11, found '{python}'")
    for requirement in requirements:
        if not _PIN.fullmatch(requirement):
            raise UsageError(f"wheels: expected a pin such as numpy==2.2.6, found '{requirement}'")
    target = _Target(machine, python, glibc)
    cache = folder / target.folder
    cache.mkdir(parents=True, exist_ok=True)
    wheels = []
    for requirement in requirements:
        wheel = _cached(cache, requirement)
        if wheel is None:
            if report is not None:
                report(f"fetching {requirement} for {target}")
            wheel = _fetch(cache, requirement, target)
        wheels.append(wheel)
    return tuple(wheels)


def _cached(cache: Path, requirement: str) -> Path | None:
    """The wheel that an earlier call fetched, if its digest still is what it was."""
    for path in sorted(cache.glob("*.whl.json")):
        try:
            found = _Sidecar.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        wheel = path.with_suffix("")
        if found.requirement == requirement and wheel.is_file() and sha256_file(wheel) == found.sha256:
            return wheel
    return None


def _fetch(cache: Path, requirement: str, target: _Target) -> Path:
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as staging:
        _pip_download(requirement, target, Path(staging))
        found = list(Path(staging).glob("*.whl"))
        if len(found) != 1:
            raise InputError(f"{requirement}: expected pip to download one wheel, found {len(found)}")
        sidecar = _Sidecar(requirement=requirement, sha256=sha256_file(found[0]))
        wheel = found[0].replace(cache / found[0].name)
    write_text(wheel.with_name(f"{wheel.name}.json"), sidecar.model_dump_json(indent=1) + "\n")
    return wheel


def _pip_download(requirement: str, target: _Target, destination: Path) -> None:
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--progress-bar=off", "--retries=2", "--timeout=20"),
        *("--implementation=cp", f"--python-version={target.python}", f"--abi=cp{target.abi}"),
        *(f"--platform={tag}" for tag in platform_tags(target.machine, target.glibc)),
        f"--dest={destination}",
        requirement,
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C", "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{requirement}: pip did not finish within {_TIMEOUT_SECONDS:.0f} s") from None
    if done.returncode:
        raise _explain(requirement, target, done.stderr)


def _explain(requirement: str, target: _Target, words: str) -> UsageError | InputError:
    """Pip's many lines in one."""
    if "No module named pip" in words:
        return UsageError(f"{sys.executable} has no pip, which fetches wheels: {sys.executable} -m ensurepip")
    what = f"{requirement} for {target}"
    # Without a network pip also says that nothing matches, so the order counts.
    if _NO_NETWORK.search(words):
        return InputError(f"{what}: the package index cannot be reached; run again to go on")
    if _NO_WHEEL.search(words):
        return UnsupportedError(f"{what}: expected a wheel, the package index has none")
    last = [line for line in words.splitlines() if line.startswith("ERROR:")] or words.splitlines() or ["?"]
    return InputError(f"{what}: pip failed: {last[-1].removeprefix('ERROR:').strip()[:300]}")
