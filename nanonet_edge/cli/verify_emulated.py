"""`nanonet-edge verify --device NAME --emulate`: the same question, asked of the board's own binaries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nanonet_edge.cli import common
from nanonet_edge.cli.emulate import count_table, count_to, find_place, find_profile
from nanonet_edge.errors import EXIT_VERDICT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from nanonet_edge.benchmarks.emulation.result import EmulatedResult, EmulatedRow
    from nanonet_edge.benchmarks.emulation.verify import Answered
    from nanonet_edge.bundle import Bundle


@dataclass(frozen=True)
class Asked:
    """The options of `verify` that count here."""

    device: str
    machine: str
    data: Path | None
    masks: Path | None
    limit: int | None
    seed: int
    artifacts: Sequence[str]
    engines: Sequence[str]
    min_dice: float
    min_p5: float
    output: Path | None
    count: bool
    as_json: bool


def verify_emulated(bundle: Path, asked: Asked) -> None:
    """Run, write the result, print the tables; exit code 1 if an artifact fails."""
    from nanonet_edge.benchmarks.agreement_result import Thresholds
    from nanonet_edge.benchmarks.emulation import verify as library
    from nanonet_edge.benchmarks.emulation.count import check_counting
    from nanonet_edge.benchmarks.emulation.emulator import Emulator
    from nanonet_edge.benchmarks.emulation.result import verify_name
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import check_writable, results_folder, save_result

    opened = Bundle.open(bundle)
    common.mention_untrained(opened.manifest.weights)
    profile = find_profile(asked.device)
    place = find_place(asked.machine, None)
    folder = asked.output if asked.output is not None else results_folder(bundle)
    path = folder / verify_name(profile.name, place.machine.name)
    check_writable(path)
    emulator = Emulator(place, library.core_of(profile, place.machine))
    if asked.count:
        check_counting(emulator)
    library.select_jobs(opened, place.machine, asked.artifacts, asked.engines)
    answered = _answered(opened, asked)
    with common.progress() as progress:
        result = library.verify_emulated(
            opened,
            answered,
            emulator,
            device=profile.name,
            artifacts=asked.artifacts,
            engines=asked.engines,
            thresholds=Thresholds(mean_dice=asked.min_dice, p5_dice=asked.min_p5),
            seed=asked.seed,
            progress=progress,
        )
    save_result(result, path)
    counts = (
        count_to(opened, profile, asked.artifacts, asked.engines, None, asked.output) if asked.count else None
    )
    if asked.as_json:
        common.print_json(result)
    else:
        common.print_table(_table(result))
        if counts is not None:
            common.print_table(count_table(counts))
    _conclude(result, path)
    if not result.passed or (counts is not None and any(row.failure for row in counts.rows)):
        raise typer.Exit(EXIT_VERDICT)


def _answered(bundle: Bundle, asked: Asked) -> Answered:
    from nanonet_edge.benchmarks.agreement_data import VerificationData
    from nanonet_edge.benchmarks.emulation.verify import DEFAULT_COUNT, answered_images, golden_frames
    from nanonet_edge.reference import KerasReference

    count = DEFAULT_COUNT if asked.limit is None else asked.limit
    if asked.data is None:
        answered = golden_frames(bundle, count)
        common.note(
            f"WARNING: no --data given: verifying on {answered.record.count} golden frames of the bundle. "
            "Agreement on them does not stand for agreement on your images."
        )
        return answered
    images = VerificationData.from_folder(asked.data, asked.masks, count, asked.seed)
    for line in images.notes:
        common.note(line)
    with KerasReference(bundle.weights_path, bundle.manifest.size) as reference:
        return answered_images(bundle, images, reference)


def _conclude(result: EmulatedResult, path: Path) -> None:
    for skipped in result.skipped:
        common.note(f"{skipped.artifact} was skipped: {skipped.reason}")
    for row in result.rows:
        for line in row.reasons:
            common.note(f"{row.artifact} on {row.engine}: {line}")
    limits = result.thresholds
    asked = f"mean Dice >= {limits.mean_dice:g} and 5th percentile >= {limits.p5_dice:g}"
    passed = sum(row.passed for row in result.rows)
    common.note(f"{passed} of {len(result.rows)} pass (raw outputs as expected; {asked})")
    common.note("emulated: masks count, times do not")
    common.note(f"written: {path}")


def _table(result: EmulatedResult) -> Table:
    from rich.markup import escape
    from rich.table import Table

    emulated, frames = result.emulated, result.frames
    title = (
        f"{result.bundle} on {emulated.device} (emulated: {emulated.core}, {emulated.machine}, "
        f"QEMU {emulated.qemu}), {frames.count} {frames.description}"
    )
    table = Table(title=title, title_justify="left")
    for name in ("artifact", "emulated", "on this host", "expected"):
        table.add_column(name, no_wrap=True)
    for name in ("raw differ", "by up to", "Dice to host", "to reference", "p5"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("verdict", no_wrap=True)
    for row in result.rows:
        table.add_row(*map(escape, (row.artifact, *_cells(row))))
    return table


def _cells(row: EmulatedRow) -> list[str]:
    if row.raw is None or row.guest is None or row.expectation is None or row.summary is None:
        return [row.engine, *("-" for _ in range(7)), "FAIL"]
    limit = row.expectation.limit
    unit = " LSB" if row.raw.step == 1.0 else ""
    return [
        f"{row.engine} {row.guest.engine}",
        f"{row.host_spec} {row.host_version}",
        "masks" if limit is None else "identical" if limit == 0 else f"<= {limit:g}",
        "none" if row.raw.is_identical else f"{row.raw.differing / row.raw.values:.2%}",
        "-" if row.raw.max_difference is None else f"{row.raw.max_difference:.2g}{unit}",
        f"{sum(row.host_dice) / len(row.host_dice):.4f}",
        f"{row.summary.mean_dice:.4f}",
        f"{row.summary.p5_dice:.4f}",
        "pass" if row.passed else "FAIL",
    ]
