"""The networks of the paper's tables: counted and measured here, beside what the paper prints."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Final, Literal

from pydantic import Field

from nanonet_edge.benchmarks.bench import bench
from nanonet_edge.benchmarks.published import Paper, PublishedFigures, PublishedTable, read_publication
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.cost import multiply_accumulates
from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.machine import Machine, read_machine
from nanonet_edge.manifest import Record
from nanonet_edge.network import build_network
from nanonet_edge.passes import rewrite
from nanonet_edge.results import RESULTS_SCHEMA_VERSION, BenchRow, BenchSettings, FrameSource
from nanonet_edge.runtimes import default_spec, list_runtimes, parse_spec
from nanonet_edge.variants import Format, get_network

PAPER_TABLE_NAME: Final = "paper-table.json"

Progress = Callable[[str, int, int], None]
StartWorker = Callable[[LoadRequest], Worker]


class Counted(Record):
    """From the graph alone: `macs` of the network as published, `rewritten_macs` of what is exported.

    `parameters` are all stored values of the unrewritten network, batch-norm statistics
    included, as Keras counts them; `size` is the input's height and width in pixels.
    """

    obtained: Literal["counted"] = "counted"
    size: int
    parameters: int = Field(gt=0)
    macs: int = Field(gt=0)
    rewritten_macs: int = Field(gt=0)


class Published(Record):
    """What one table of the paper prints, or why it prints nothing.

    `missing` gives the reason for a figure that the row leaves out, by name; `reason` that for a
    row that is not there.
    """

    obtained: Literal["published"] = "published"
    table: str
    dataset: str
    figures: PublishedFigures | None = None
    missing: dict[str, str] = Field(default_factory=dict)
    reason: str | None = None


class PaperRow(Record):
    """One network. `weights` says whose they are: masks of untrained ones mean nothing.

    `measured` is the row that `bench` would give; its latencies say "measured" themselves.
    """

    network: str
    title: str
    weights: str
    trained: bool
    counted: Counted
    measured: BenchRow
    published: tuple[Published, ...]


class PaperTable(Record):
    """`paper-table.json`."""

    schema_version: Literal[1] = RESULTS_SCHEMA_VERSION
    kind: Literal["paper-table"] = "paper-table"
    created: str
    machine: Machine
    settings: BenchSettings
    frames: FrameSource
    paper: Paper
    rows: tuple[PaperRow, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What went wrong or does not count, one line each."""
        found = [(row.network, row.measured.failure or row.measured.objection) for row in self.rows]
        return tuple(f"{network}: {reason}" for network, reason in found if reason is not None)


def count(network: str, size: int) -> Counted:
    """Parameters and multiply-accumulates of a network at an input size.

    Raises:
        UsageError: there is no such network, or the size is not a multiple of 32.
    """
    graph = build_network(get_network(network), size=size)
    return Counted(
        size=size,
        parameters=graph.parameters,
        macs=multiply_accumulates(graph),
        rewritten_macs=multiply_accumulates(rewrite(graph).graph),
    )


def published(network: str) -> tuple[Published, ...]:
    """What each table of the paper prints about a network."""
    return tuple(_printed_in(table, network) for table in read_publication().tables)


def _printed_in(table: PublishedTable, network: str) -> Published:
    figures = table.rows.get(network)
    if figures is None:
        reason = f"Table {table.table} has no row for {get_network(network).title}"
        return Published(table=table.table, dataset=table.dataset, reason=reason)
    dashes = [name for name, value in figures.model_dump().items() if value is None]
    missing = dict.fromkeys(dashes, f"Table {table.table} prints a dash")
    return Published(table=table.table, dataset=table.dataset, figures=figures, missing=missing)


def engine_for(file_format: Format, asked: str | None = None) -> str:
    """The runtime spec to measure a format with, known to be installed and able.

    Raises:
        UsageError: the spec is wrong, its engine is not installed, or it does not load the format.
    """
    if asked is None:
        return default_spec(file_format)
    name = parse_spec(asked).name
    listing = next(listing for listing in list_runtimes() if listing.name == name)
    if not listing.installed:
        raise UsageError(listing.reason)
    if file_format not in listing.formats:
        raise UnsupportedError(f"{asked} loads {', '.join(listing.formats)}, not {file_format}")
    return asked


def paper_table(
    bundles: Sequence[Bundle],
    settings: BenchSettings,
    *,
    runtime: str | None = None,
    progress: Progress | None = None,
    start: StartWorker = Worker,
) -> PaperTable:
    """Measure one artifact of each network, one network after the other.

    Args:
        bundles: one per network, in the order of the rows; the first artifact of each is measured,
            in a process of its own.
        settings: as for `bench`.
        runtime: spec; None for the engine of the artifact's format.
        progress: is called with ("measure", done, total).
        start: how to start a measuring process.

    Raises:
        UsageError: no bundles, the spec is wrong, or its engine is not installed.
    """
    if not bundles:
        raise UsageError("expected networks to measure, found none")
    machine = read_machine()
    rows: list[PaperRow] = []
    for bundle in bundles:
        if progress is not None:
            progress("measure", len(rows), len(bundles))
        artifact = bundle.artifacts[0]
        spec = engine_for(artifact.record.format, runtime)
        result = bench(bundle, settings, runtimes=[spec], artifacts=[artifact.name], start=start)
        rows.append(_row(bundle, result.rows[0]))
    return PaperTable(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        machine=machine,
        settings=settings,
        frames=result.frames,
        paper=read_publication().paper,
        rows=tuple(rows),
    )


def _row(bundle: Bundle, measured: BenchRow) -> PaperRow:
    manifest = bundle.manifest
    return PaperRow(
        network=manifest.variant,
        title=get_network(manifest.variant).title,
        weights=manifest.weights.origin,
        trained=not manifest.weights.is_untrained,
        counted=count(manifest.variant, manifest.size),
        measured=measured,
        published=published(manifest.variant),
    )
