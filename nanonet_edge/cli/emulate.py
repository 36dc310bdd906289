"""`nanonet-edge emulate`: a board's own binaries here: set up, look after, count instructions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_VERDICT, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from nanonet_edge.benchmarks.emulation.cache import Place
    from nanonet_edge.benchmarks.emulation.result import CountChange, CountResult
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.devices import Profile

emulate = typer.Typer(
    no_args_is_help=True,
    help="Run a board's own binaries here, under QEMU: masks and instruction counts, never times.",
)

MachineOption = Annotated[str, typer.Option(metavar="NAME", help="aarch64 or armv7.")]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where emulated machines are kept. Default: NANONET_EDGE_EMULATION, or one in your cache.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


@emulate.command()
def setup(
    machine: MachineOption = "aarch64",
    cache: CacheOption = None,
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Of Debian.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the small Debian root and unpack the engines' wheels, about 300 MB; goes on where it was cut off.

    Needs qemu-user-static and mmdebstrap on this system, and installs nothing on it.
    """
    from nanonet_edge.benchmarks.emulation.machines import MIRROR
    from nanonet_edge.benchmarks.emulation.setup import check_host, plan, set_up

    place = find_place(machine, cache)
    check_host(place.machine)
    source = MIRROR if mirror is None else mirror
    lines = plan(place, source)
    for line in lines:
        common.note(f"will make {line}")
    if lines:
        common.note("nothing is installed on this system")
    set_up(place, mirror=source, report=common.note)
    common.note(f"ready: {place.folder}" if lines else f"everything is there: {place.folder}")
    if as_json:
        common.print_json(_status(place))


@emulate.command()
def status(cache: CacheOption = None, as_json: JsonOption = False) -> None:
    """List the emulated machines: what is set up, whether it is whole, what is in it."""
    from nanonet_edge.benchmarks.emulation.machines import MACHINES

    found = [_status(find_place(name, cache)) for name in MACHINES]
    if as_json:
        common.print_json({"machines": found})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("machine", "emulator", "packages", "engines", "folder")
    for one in found:
        emulator = str(one["emulator"] or "not installed")
        cells = (one["machine"], emulator, one["root"], one["site"], one["folder"])
        table.add_row(*(escape(str(cell)) for cell in cells))
    common.print_table(table)


@emulate.command()
def remove(machine: MachineOption = "aarch64", cache: CacheOption = None) -> None:
    """Delete an emulated machine from the cache."""
    place = find_place(machine, cache)
    common.note(f"removed: {place.folder}" if place.remove() else f"nothing there: {place.folder}")


@emulate.command()
def count(
    bundle: Annotated[Path, typer.Argument(help="Folder that `export` wrote.")] = common.DEFAULT_BUNDLE,
    device: Annotated[str, typer.Option(help="A device's name, or a family's.")] = "raspberry-pi-4",
    artifact: Annotated[
        list[str] | None, typer.Option(help="Name of an artifact; repeatable. Default: all.")
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="litert, onnxruntime or tflite-runtime; repeatable. Default: all that load it."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An earlier count to compare with.")
    ] = None,
    max_increase: Annotated[
        str, typer.Option(metavar="PERCENT", help="The largest increase over it that passes.")
    ] = "2%",
    cache: CacheOption = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the result. Default: BUNDLE.results.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count the instructions of one inference by class, on the board's core, with one thread.

    Counts repeat exactly, so a change of cost shows where a time would drown in noise. Exit code 1
    if an artifact takes more than --max-increase over the count in --against, or cannot be run.
    """
    from nanonet_edge.benchmarks.emulation.count import compare_counts
    from nanonet_edge.benchmarks.emulation.result import CountResult
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import load_result

    limit = _percent(max_increase)
    opened = Bundle.open(bundle)
    # Read before the new result is written, which may be the same file.
    earlier = load_result(against, CountResult) if against is not None else None
    result = count_to(opened, find_profile(device), artifact or (), runtime or (), cache, output)
    for one in result.skipped:
        common.note(f"{one.artifact} was skipped: {one.reason}")
    changes = compare_counts(earlier, result, limit) if earlier is not None else ()
    if as_json:
        common.print_json(
            {**result.model_dump(mode="json"), "changes": [one.model_dump() for one in changes]}
        )
    else:
        common.print_table(count_table(result))
        if changes:
            common.print_table(_changes(changes))
    if earlier is not None:
        passed = sum(change.passed for change in changes)
        common.note(f"{passed} of {len(changes)} within {max_increase} of {against}")
        if len(changes) < len(result.rows):
            common.note(f"{len(result.rows) - len(changes)} were not compared: not in both counts")
        if len(changes) < len(earlier.rows):
            common.note(f"{len(earlier.rows) - len(changes)} of {against} were not counted now")
    if any(row.failure for row in result.rows) or not all(change.passed for change in changes):
        raise typer.Exit(EXIT_VERDICT)


def count_to(
    bundle: Bundle,
    profile: Profile,
    artifacts: Sequence[str],
    engines: Sequence[str],
    cache: Path | None,
    output: Path | None,
) -> CountResult:
    """Count, write the result, and say on stderr what should be known."""
    from nanonet_edge.benchmarks.emulation.count import count_emulated
    from nanonet_edge.benchmarks.emulation.emulator import Emulator
    from nanonet_edge.benchmarks.emulation.machines import AARCH64
    from nanonet_edge.benchmarks.emulation.result import count_name
    from nanonet_edge.benchmarks.emulation.verify import core_of
    from nanonet_edge.results import check_writable, results_folder, save_result

    folder = output if output is not None else results_folder(bundle.root)
    path = folder / count_name(profile.name)
    check_writable(path)
    emulator = Emulator(find_place(AARCH64.name, cache), core_of(profile, AARCH64))
    with common.progress() as progress:
        result = count_emulated(
            bundle, emulator, device=profile.name, artifacts=artifacts, engines=engines, progress=progress
        )
    save_result(result, path)
    for row in result.rows:
        if row.failure is not None:
            common.note(f"not counted: {row.failure}")
    common.note(f"written: {path}")
    return result


def count_table(result: CountResult) -> Table:
    """Millions of instructions by class; a class that none has is left out."""
    from rich.markup import escape
    from rich.table import Table

    from nanonet_edge.benchmarks.emulation.instructions import CLASSES, MEANING

    used = [name for name in CLASSES if any(row.classes.get(name, 0) >= 5000 for row in result.rows)]
    where = f"{result.emulated.device} ({result.emulated.core}, emulated)"
    title = f"{result.bundle}: million instructions per inference on {where}"
    meanings = "\n".join(f"{name.replace('_', ' ')}: {MEANING[name]}" for name in used)
    table = Table(
        "artifact", "runtime", title=title, title_justify="left", caption=meanings, caption_justify="left"
    )
    for name in ("total", *used):
        table.add_column(name.replace("_", " "), justify="right")
    for row in result.rows:
        engine = row.engine if row.guest is None else f"{row.engine} {row.guest.engine}"
        figures = [row.total, *(row.classes.get(name) for name in used)]
        cells = ["-" if figure is None else f"{figure / 1e6:.2f}" for figure in figures]
        table.add_row(*map(escape, (row.artifact, engine, *cells)))
    return table


def _changes(changes: Sequence[CountChange]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("artifact", "runtime", "earlier", "now", "change", "verdict")
    for one in changes:
        figures = (f"{one.earlier:,}", f"{one.now:,}", f"{one.change:+.2%}")
        table.add_row(*map(escape, (one.artifact, one.engine, *figures, "pass" if one.passed else "FAIL")))
    return table


def _percent(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text)
    if match is None:
        raise UsageError(f"--max-increase: expected a percentage such as 2%, found '{text}'")
    return float(match[1]) / 100


def find_profile(device: str) -> Profile:
    """The profile of a device, or of a family's member, which is then named on stderr."""
    from nanonet_edge.devices import resolve

    resolution = resolve(device)
    if resolution.rule != "named":
        common.note(resolution.explanation)
    return resolution.profile


def find_place(machine: str, cache: Path | None) -> Place:
    """Where a machine is kept: in `cache`, else in the default one."""
    from nanonet_edge.benchmarks.emulation.cache import Place, default_cache
    from nanonet_edge.benchmarks.emulation.machines import find_machine

    return Place(find_machine(machine), default_cache() if cache is None else cache)


def _status(place: Place) -> dict[str, object]:
    from nanonet_edge.benchmarks.emulation.setup import find_emulator

    return {
        "machine": place.machine.name,
        "folder": str(place.folder),
        "emulator": find_emulator(place.machine),
        "root": place.state("root"),
        "site": place.state("site"),
        "contents": place.contents(),
    }
