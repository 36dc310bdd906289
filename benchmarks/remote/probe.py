"""What a board's Python is, and which wheels it is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, ValidationError

from nanonet_edge.benchmarks.remote.events import Word
from nanonet_edge.devices.files import printable
from nanonet_edge.devices.wheels import fetch_wheels
from nanonet_edge.errors import DeviceError, UnsupportedError
from nanonet_edge.manifest import Record
from nanonet_edge.runtimes._tensorrt_cache import cache_folder

OLDEST_PYTHON: Final = (3, 9)

#: Any Python understands it, also one that is too old for us.
PROBE: Final = b"""
import json, os, platform, sys
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (AttributeError, OSError, ValueError):
    libc = ""
print(json.dumps({
    "python": list(sys.version_info[:3]), "implementation": platform.python_implementation(),
    "machine": platform.machine(), "bits": 64 if sys.maxsize > 2**32 else 32, "libc": libc,
}))
"""

#: Versions that have wheels for old Pythons, on aarch64 and x86-64; `pins` has those for the others.
_NUMPY: Final = {"3.9": "2.0.2"}
_LITERT: Final = {"3.9": "1.4.0"}
_ONNXRUNTIME: Final = {"3.9": "1.19.2", "3.10": "1.23.2"}
_TFLITE_RUNTIME: Final = "2.14.0"
_NUMPY_1: Final = "1.26.4"
#: Few digits: every version below it has a tag of its own.
_GLIBC: Final = re.compile(r"glibc (\d{1,2})\.(\d{1,3})(?:\.\d+)?", re.ASCII)
_OWN: Final = "name a Python there that has the engine: python = in a boards file"


class Probe(Record):
    """A board's Python."""

    python: tuple[Annotated[int, Field(ge=0, le=99)], ...] = Field(min_length=3, max_length=3)
    implementation: Word
    machine: Word
    bits: int
    libc: Word

    @property
    def version(self) -> str:
        """As wheels have it: "3.11"."""
        return f"{self.python[0]}.{self.python[1]}"

    @property
    def wheel_machine(self) -> str:
        """The architecture of its programs: 32-bit systems run on 64-bit kernels too."""
        narrow = {"aarch64": "armv7l", "x86_64": "i686"}
        return narrow.get(self.machine, self.machine) if self.bits == 32 else self.machine

    @property
    def glibc(self) -> tuple[int, int] | None:
        """(major, minor) of the C library, None if it is another one."""
        match = _GLIBC.fullmatch(self.libc)
        return (int(match[1]), int(match[2])) if match else None


def parse_probe(output: bytes, source: str) -> Probe:
    """Read what `PROBE` printed.

    Raises:
        DeviceError: it is something else, or the Python is too old; names `source`.
    """
    try:
        probe = Probe.model_validate_json(output)
    except ValidationError:
        words = printable(output[:200].decode("utf-8", "replace"), 80)
        raise DeviceError(f"{source}: expected its Python to describe itself, found '{words}'") from None
    if probe.python < OLDEST_PYTHON:
        found = ".".join(str(number) for number in probe.python)
        raise DeviceError(
            f"{source}: expected Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer there, found {found}"
        )
    return probe


def pins(modules: frozenset[str], python: str) -> tuple[str, ...]:
    """What is installed for these engines' modules on a Python such as "3.11"."""
    numpy = _NUMPY_1 if "tflite_runtime" in modules else _NUMPY.get(python, "2.2.6")
    found = [f"numpy=={numpy}", "opencv-python-headless==4.11.0.86"]
    if "ai_edge_litert" in modules:
        found.append(f"ai-edge-litert=={_LITERT.get(python, '2.3.0')}")
    if "onnxruntime" in modules:
        found.append(f"onnxruntime=={_ONNXRUNTIME.get(python, '1.32.0')}")
    if "tflite_runtime" in modules:
        found.append(f"tflite-runtime=={_TFLITE_RUNTIME}")
    return tuple(found)


def board_wheels(
    modules: frozenset[str], probe: Probe, source: str, report: Callable[[str], None] | None = None
) -> tuple[Path, ...]:
    """The wheels that a board is sent, from the cache or the package index.

    Raises:
        DeviceError: no wheels fit the board: it needs an environment of its own.
        InputError, UsageError: see `fetch_wheels`.
    """
    glibc = probe.glibc
    if probe.implementation != "CPython" or glibc is None:
        found = f"{probe.implementation} on {probe.libc or 'another C library'}"
        raise DeviceError(f"{source}: expected CPython on glibc (wheels need it), found {found}; {_OWN}")
    try:
        return fetch_wheels(
            pins(modules, probe.version),
            machine=probe.wheel_machine,
            python=probe.version,
            glibc=glibc,
            folder=wheel_cache(),
            report=report,
        )
    except UnsupportedError as error:
        raise DeviceError(f"{source}: {error}; {_OWN}") from None


def wheel_cache() -> Path:
    """Where wheels for boards are kept between runs."""
    return cache_folder() / "wheels"
