"""Instructions by class that one inference executes on an emulated core: a cost that repeats exactly."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np

from nanonet_edge.benchmarks.agreement import Progress
from nanonet_edge.benchmarks.emulation.emulator import Emulator, Job
from nanonet_edge.benchmarks.emulation.instructions import InstructionClass, tally
from nanonet_edge.benchmarks.emulation.result import CountChange, CountResult, CountRow
from nanonet_edge.benchmarks.emulation.setup import missing_programs
from nanonet_edge.benchmarks.emulation.verify import describe, select_jobs
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.contract import preprocess
from nanonet_edge.errors import InputError, RuntimeFailure, UnsupportedError

#: Invokes between marks; the first is left out, as Python still specialises its own code there.
INVOKES: Final = 3
_COMPILE_SECONDS: Final = 120.0
_SECTION = re.compile(r"section (\d+)\n((?:[0-9a-f]{8} \d+\n)*)end\n")


def check_counting(emulator: Emulator) -> str:
    """The path of a QEMU that takes plugins.

    Raises:
        UnsupportedError: counting is not possible on this machine.
        UsageError: the program, or a C compiler, is missing on this system.
    """
    name = emulator.place.machine.counting_emulator
    if name is None:
        raise UnsupportedError(
            f"instructions can be counted on aarch64, not on {emulator.place.machine.name}"
        )
    _require("cc", "gcc libc6-dev")
    return _require(name, "qemu-user")


def _require(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise missing_programs("counting", [(program, package)])
    return found


def count_emulated(
    bundle: Bundle,
    emulator: Emulator,
    *,
    device: str,
    artifacts: Sequence[str] = (),
    engines: Sequence[str] = (),
    progress: Progress | None = None,
) -> CountResult:
    """Count the instructions of one inference of each artifact, on a golden frame, with one thread.

    Args:
        bundle: an opened bundle.
        emulator: the emulated machine; aarch64.
        device: the profile's name, for the result.
        artifacts: names; none for all that can run there.
        engines: of the emulated machine; none for all that load an artifact.
        progress: called with ("count", artifacts done, artifacts).

    Raises:
        BundleError, UnsupportedError: see `verify.select_jobs`; or counting is not possible.
        UsageError: see `check_counting`.
        RuntimeFailure: the plugin cannot be compiled.
    """
    program = check_counting(emulator)
    pairs, skipped = select_jobs(bundle, emulator.place.machine, artifacts, engines)
    frame = bundle.golden().frames[0]
    rows = []
    with _compiled_plugin() as plugin:
        for done, (artifact, engine) in enumerate(pairs):
            if progress is not None:
                progress("count", done, len(pairs))
            job = Job(artifact, engine, preprocess(frame, artifact.record.input)[np.newaxis])
            rows.append(_row(artifact, job, emulator, plugin, program))
    if progress is not None:
        progress("count", len(pairs), len(pairs))
    return CountResult(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        emulated=describe(emulator, device),
        rows=tuple(rows),
        skipped=skipped,
    )


def read_counts(text: str) -> list[dict[InstructionClass, int]]:
    """Read what the plugin wrote: instructions by class of each section, in their order.

    Raises:
        ValueError: it is something else.
    """
    sections: list[dict[InstructionClass, int]] = []
    position = 0
    while position < len(text):
        match = _SECTION.match(text, position)
        if match is None or int(match[1]) != len(sections):
            raise ValueError(f"expected section {len(sections)}, found {text[position : position + 40]!r}")
        lines = (line.split() for line in match[2].splitlines())
        sections.append(tally((int(word, 16), int(count)) for word, count in lines))
        position = match.end()
    return sections


def compare_counts(earlier: CountResult, now: CountResult, max_increase: float) -> tuple[CountChange, ...]:
    """Compare what both counted, artifact by artifact.

    Args:
        earlier: the baseline.
        now: to be judged.
        max_increase: the largest relative increase that passes, 0.02 for 2 %.

    Raises:
        InputError: they were counted on another core or machine, or have nothing in common.
    """
    for what in ("machine", "core"):
        old, new = getattr(earlier.emulated, what), getattr(now.emulated, what)
        if old != new:
            raise InputError(f"counts on {what} {new} cannot be compared with earlier ones on {old}")
    totals = {(row.artifact, row.engine): row.total for row in earlier.rows}
    changes = []
    for row in now.rows:
        before = totals.get((row.artifact, row.engine))
        if before is not None and row.total is not None:
            # Rounded once, so that exactly the limit passes.
            change = (row.total - before) / before
            changes.append(
                CountChange(
                    artifact=row.artifact,
                    engine=row.engine,
                    earlier=before,
                    now=row.total,
                    change=change,
                    passed=change <= max_increase,
                )
            )
    if not changes:
        raise InputError("the earlier counts have no artifact and engine in common with these")
    return tuple(changes)


@contextmanager
def _compiled_plugin() -> Iterator[Path]:
    source = Path(__file__).with_name("plugin.c")
    with tempfile.TemporaryDirectory(prefix="nanonet-edge-plugin-") as folder:
        plugin = Path(folder) / "plugin.so"
        command = ["cc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(plugin), str(source)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_COMPILE_SECONDS,
                check=False,
                errors="replace",
            )
        except subprocess.TimeoutExpired:
            raise RuntimeFailure(f"{source}: cc did not finish within {_COMPILE_SECONDS:.0f} s") from None
        if done.returncode:
            said = " ".join(done.stderr.split())[:300]
            raise RuntimeFailure(f"{source}: cc failed, saying {said}")
        yield plugin


def _row(artifact: Artifact, job: Job, emulator: Emulator, plugin: Path, program: str) -> CountRow:
    base: dict[str, Any] = {"artifact": artifact.name, "engine": job.engine}
    try:
        text, info = emulator.marked(job, INVOKES, plugin, program=program)
        sections = read_counts(text)
    except (RuntimeFailure, ValueError) as error:
        why = str(error) if isinstance(error, RuntimeFailure) else f"{job}: {error}"
        return CountRow(**base, failure=why)
    if len(sections) != INVOKES:
        return CountRow(**base, failure=f"{job}: expected {INVOKES} counts, found {len(sections)}")
    totals = [sum(section.values()) for section in sections[1:]]
    return CountRow(
        **base,
        guest=info,
        total=totals[0],
        classes=sections[1],
        invokes=len(sections),
        spread=max(totals) - min(totals),
    )
