"""Boards without a network: one archive that holds all they need, and the way home of its result."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from nanonet_edge.atomic import write_bytes
from nanonet_edge.benchmarks.remote.job import Job, Payload, wheel_payload
from nanonet_edge.benchmarks.remote.journal import read_events
from nanonet_edge.benchmarks.remote.probe import OLDEST_PYTHON, pins, wheel_cache
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import Profile
from nanonet_edge.devices.wheels import GLIBC, fetch_wheels
from nanonet_edge.errors import DeviceError, InputError, UnsupportedError
from nanonet_edge.results import BenchResult

#: What the script writes where it is told nothing else.
RESULT_NAME: Final = "result.jsonl"

_SCRIPT: Final = f"""#!/bin/sh
# Measures the models in this folder on this board. It needs Python 3.9 or newer and no network.
#
#   sh run.sh [RESULT]     RESULT is {RESULT_NAME} beside this script if left out
#
# PYTHON=/path/to/python3 names another Python; SITE=/path a folder that has the engine already.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
output=${{1:-$here/{RESULT_NAME}}}
python=${{PYTHON:-python3}}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || {{
  echo "nanonet-edge: expected Python 3.9 or newer, found $("$python" -V 2>&1): set PYTHON" >&2
  exit 1
}}
exec "$python" -I -c '
import sys
sys.path.insert(0, sys.argv[1])
from nanonet_edge.benchmarks.remote.agent import run_offline
sys.exit(run_offline(*sys.argv[1:]))
' "$here" "$output" "${{SITE:-}}"
"""


def pack(
    job: Job,
    device: Profile,
    path: Path,
    *,
    pythons: Sequence[str] = (),
    wheels: bool = True,
    report: Callable[[str], None] | None = None,
) -> None:
    """Write one archive (.tar.gz) with the agent, wheels, artifacts, and the script that runs them.

    Args:
        job: what is to be measured.
        device: the board; its profile says which wheels it takes.
        path: of the archive, written all at once.
        pythons: versions there, such as "3.11"; none for those of the profile's systems.
        wheels: False if the board has the engine already.
        report: called with a line now and then.

    Raises:
        UnsupportedError: there is no wheel for that board, or its profile does not say what it takes.
        InputError: the package index cannot be reached.
    """
    payloads = [
        *job.payloads(),
        Payload("job.json", job.to_json().encode()),
        Payload("run.sh", _SCRIPT.encode()),
    ]
    if wheels:
        payloads += _wheels(job, device, pythons, report)
    write_bytes(path, _archive(f"nanonet-edge-{device.name}", payloads))


def _wheels(
    job: Job, device: Profile, pythons: Sequence[str], report: Callable[[str], None] | None
) -> list[Payload]:
    machine = device.software.architecture.value
    if device.kind == "accelerator" or machine is None:
        raise UnsupportedError(f"device {device.name}: expected a board whose architecture is known")
    known = {system.python: _glibc(system.glibc) for system in device.software.systems}
    wanted = {python: known.get(python, GLIBC) for python in pythons} or {
        python: glibc for python, glibc in known.items() if _glibc(python) >= OLDEST_PYTHON
    }
    if not wanted:
        raise UnsupportedError(
            f"device {device.name}: its profile names no system with Python {OLDEST_PYTHON[0]}."
            f"{OLDEST_PYTHON[1]} or newer: name the board's with --python"
        )
    return [
        wheel_payload(wheel, python)
        for python, glibc in wanted.items()
        for wheel in fetch_wheels(
            pins(job.modules, python),
            machine=machine,
            python=python,
            glibc=glibc,
            folder=wheel_cache(),
            report=report,
        )
    ]


def _glibc(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)


def _archive(folder: str, payloads: Sequence[Payload]) -> bytes:
    """The same bytes for the same files: no owner, no time."""
    sink = io.BytesIO()
    # Wheels are compressed already: more effort would only take longer.
    with (
        gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for payload in payloads:
            entry = tarfile.TarInfo(f"{folder}/{payload.name}")
            content = payload.source if isinstance(payload.source, bytes) else payload.source.read_bytes()
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def bring_home(path: Path, bundle: Bundle, device: str | None = None) -> BenchResult:
    """Read the result that `run.sh` left on a board.

    Args:
        path: the file, data from a stranger: only what an agent says is taken from it.
        bundle: what was measured.
        device: the profile or family that the board is expected to be; None for its own word.

    Raises:
        InputError: it is no such file, is of another bundle or device, or holds what no agent says.
        UsageError: no device or family is called `device`.
    """
    try:
        outcome = read_events(path, bundle=bundle)
        if not outcome.ended:
            raise InputError(f"{path}: expected a whole result, found the beginning of one")
        outcome.expected = device
        return outcome.result()
    except DeviceError as error:
        raise InputError(str(error)) from None
