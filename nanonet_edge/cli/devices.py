"""`nanonet-edge devices`: the boards and accelerators that are known, and which one this is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanonet_edge.cli import common

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from nanonet_edge.devices import Catalogue, Profile
    from nanonet_edge.devices.profile import Spec

devices = typer.Typer(
    no_args_is_help=True, help="List the known devices, show what is known of one, detect this one."
)

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--devices",
        metavar="DIR",
        help="A folder of your own profiles, beside that of NANONET_EDGE_DEVICES; they go first.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
RootOption = Annotated[
    Path, typer.Option(metavar="DIR", help="Look below this folder: a copy of a board's file system.")
]
_HERE = Path("/")


@devices.command("list")
def list_devices(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """List the devices that --device takes."""
    from nanonet_edge.devices.catalogue import is_built_in

    catalogue = _catalogue(folder)
    rows = [
        {
            "name": name,
            "title": profile.title,
            "family": profile.family,
            "kind": profile.kind,
            "profile": "built in" if is_built_in(catalogue.paths[name]) else str(catalogue.paths[name]),
        }
        for name, profile in catalogue.profiles.items()
    ]
    if as_json:
        common.print_json({"devices": rows})
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("name", "device", "processor", "RAM", "accelerator", "profile")
    for row in rows:
        profile = catalogue.profiles[row["name"]]
        table.add_row(*map(escape, (row["name"], row["title"], *_summary(profile), row["profile"])))
    common.print_table(table)
    families = ", ".join(catalogue.families)
    common.note(f"families, which stand for a detected, configured or default member: {families}")


@devices.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device's name, or a family's.")],
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every figure that is known of a device, with its source."""
    from nanonet_edge.devices import resolve

    catalogue = _catalogue(folder)
    resolution = resolve(name, catalogue)
    profile = resolution.profile
    if as_json:
        common.print_json(profile)
    else:
        for table in _tables(profile):
            common.print_table(table)
    if resolution.rule != "named":
        common.note(resolution.explanation)


@devices.command("detect")
def detect_device(root: RootOption = _HERE, folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Say which device this is, and which file said so."""
    from nanonet_edge.devices import detect
    from nanonet_edge.errors import InputError

    if not root.is_dir():
        raise InputError(f"{root}: expected the root folder of a device, found no folder")
    detection = detect(root, _catalogue(folder))
    if as_json:
        common.print_json(detection)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table("device", "confidence", "file", "says")
    for match in (detection.board, *detection.accelerators):
        if match is not None:
            for evidence in match.evidence:
                table.add_row(*map(escape, (match.profile, match.confidence, evidence.file, evidence.said)))
    common.print_table(table)
    if detection.board is None:
        common.note("not even the processor's architecture could be told")
    if (linux := detection.jetson_linux) is not None:
        common.note(
            f"Jetson Linux {linux.release}: JetPack {linux.jetpack or 'unknown'},"
            f" TensorRT {linux.tensorrt or 'unknown'}"
        )
    for line in detection.conflicts:
        common.note(f"contradiction: {line}")
    for line in detection.troubles:
        common.note(f"not used: {line}")


def _catalogue(folder: Path | None) -> Catalogue:
    """The known profiles; an own one that replaces another is mentioned."""
    from nanonet_edge.devices import load_catalogue

    catalogue = load_catalogue(folder)
    for line in catalogue.notes:
        common.note(line)
    return catalogue


def _summary(profile: Profile) -> tuple[str, str, str]:
    """Processor, memory and accelerators in a few words each."""
    cpu = ram = "-"
    if profile.cpu is not None and profile.memory is not None:
        cores, model, clock = profile.cpu.cores, profile.cpu.model, profile.cpu.clock_max_mhz
        if model.value is not None and cores.value is not None:
            cpu = f"{cores.value} x {model.value}"
            cpu += f" {clock.value / 1000:.2g} GHz" if clock.value is not None else ""
        if profile.memory.ram_mib.value is not None:
            ram = ", ".join(f"{mib / 1024:g}" for mib in profile.memory.ram_mib.value) + " GiB"
    names = [accelerator.name.value or accelerator.kind for accelerator in profile.accelerators]
    return cpu, ram, ", ".join(names) or "-"


def _tables(profile: Profile) -> Iterator[Table]:
    from rich.markup import escape
    from rich.table import Table

    figures = Table("figure", "value", "source or reason", title=profile.title, title_justify="left")
    for key, spec in _specs(profile):
        value = "-" if spec.value is None else _text(spec.value)
        said = spec.reason or profile.sources[spec.source or ""].title
        notes = [said, "derived" if spec.derived else "", spec.note or ""]
        figures.add_row(*map(escape, (key, value, "; ".join(filter(None, notes)))))
    yield figures
    if profile.power.modes:
        modes = Table("power mode", "id", "W", "cores", "MHz", "source")
        for mode in profile.power.modes:
            limits = (mode.watts, mode.cores_online, mode.clock_max_mhz)
            cells = ("-" if limit is None else f"{limit:g}" for limit in limits)
            modes.add_row(*map(escape, (mode.name, str(mode.id), *cells, profile.sources[mode.source].title)))
        yield modes
    if profile.power.rails:
        rails = Table("power rail", "measures", "source")
        for rail in profile.power.rails:
            measures = "the whole board" if rail.is_total else "a part"
            rails.add_row(*map(escape, (rail.name, measures, profile.sources[rail.source].title)))
        yield rails
    if profile.software.runtimes:
        engines = Table("engine", "package", "note", "source")
        for engine in profile.software.runtimes:
            title = profile.sources[engine.source].title
            engines.add_row(*map(escape, (engine.name, engine.package, engine.note or "", title)))
        yield engines
    if profile.published:
        latencies = Table("published latency", "precision", "on", "threads", "ms", "source")
        for latency in profile.published:
            threads = "-" if latency.on != "cpu" else str(latency.threads or "all")
            what = (latency.model, latency.precision, latency.on, threads, f"{latency.ms:g}")
            latencies.add_row(*map(escape, (*what, profile.sources[latency.source].title)))
        yield latencies


def _specs(record: Any, prefix: str = "") -> Iterator[tuple[str, Spec[Any]]]:
    """All the figures of a profile, by dotted key."""
    from pydantic import BaseModel

    from nanonet_edge.devices.profile import Spec

    for field in type(record).model_fields:
        value = getattr(record, field)
        if isinstance(value, Spec):
            yield f"{prefix}{field}", value
        elif isinstance(value, BaseModel):
            yield from _specs(value, f"{prefix}{field}.")
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, BaseModel):
                    yield from _specs(item, f"{prefix}{field}.")


def _text(value: Any) -> str:
    """A figure as a reader wants it: a cache's size and sharers, a list's items."""
    from nanonet_edge.devices.profile import Cache

    if isinstance(value, Cache):
        return f"{value.kib} KiB" + (f" for {value.shared_by} cores" if value.shared_by > 1 else " per core")
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
