"""`nanonet-edge data`: look a dataset over, fetch one of the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_VERDICT, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from nanonet_edge.data.check import DataReport, Finding
    from nanonet_edge.data.sources import Source

data = typer.Typer(no_args_is_help=True, help="Check a folder of images and masks; fetch a published one.")

#: Findings of one kind that are shown; --json has them all.
_SHOWN = 20


@data.command("check")
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The dataset's folder.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="A split's name, or a file with one stem a line; repeatable. Default: all."),
    ] = None,
    same_scene: Annotated[
        int | None, typer.Option(min=0, max=512, help="Bits that may differ in one scene. Default: 75.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Name a dataset's layout, count its pairs, and find what would spoil a result.

    Leaks between splits are found by what pictures look like, not by their names: re-encoded,
    resized, mirrored and slightly cropped copies too. Exit code 1 if there are leaks,
    orphans or bad files.
    """
    from nanonet_edge.data.check import check_dataset
    from nanonet_edge.data.perceptual_hash import SAME_SCENE

    with common.progress() as progress:
        report = check_dataset(
            folder,
            split or (),
            same_scene=SAME_SCENE if same_scene is None else same_scene,
            progress=progress,
        )
    if as_json:
        common.print_json({**report.model_dump(mode="json"), "passed": report.passed})
    else:
        for table in _tables(report):
            common.print_table(table)
    for line in report.notes:
        common.note(line)
    serious = sum(finding.serious for finding in report.findings)
    common.note(f"{serious} findings that matter" if serious else "nothing found that matters")
    if not report.passed:
        raise typer.Exit(EXIT_VERDICT)


@data.command("fetch")
def fetch(
    name: Annotated[
        str, typer.Argument(help="kvasir-seg, kvasir-instrument, endotect-2020 or kvasir-capsule-seg.")
    ],
    output: Annotated[Path | None, typer.Option(help="Folder for it. Default: data/NAME.")] = None,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="You have read the terms and accept them.")
    ] = False,
    url: Annotated[
        str | None, typer.Option(help="Fetch the archive from this mirror instead of the official page.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="What the archive must have.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Fetch one of the paper's datasets from its official page; goes on where it was cut off.

    The terms of use are shown first, and nothing is fetched before they are accepted.
    """
    from nanonet_edge.data.fetch import fetch_dataset
    from nanonet_edge.data.sources import find_source

    source = find_source(name)
    for line in _terms(source):
        common.note(line)
    if not accept_licence:
        raise UsageError(
            "nothing was fetched: add --accept-licence once you have read and accept these terms"
        )
    folder = output if output is not None else Path("data") / source.name
    with common.progress() as progress:
        record = fetch_dataset(source, folder, url=url, sha256=sha256, overwrite=overwrite, progress=progress)
    for file in record.files:
        common.note(f"{file.name}: {file.bytes} bytes, SHA-256 {file.sha256}, {_CHECKED[file.checked]}")
    if as_json:
        common.print_json(record)
    common.note(f"written: {folder} ({record.images} images, {record.masks} masks)")


_CHECKED = {
    "published": "as published",
    "given": "as given",
    "earlier fetch": "as at an earlier fetch",
    "first use": "recorded on first use, its publisher gives none: compare it with somebody else's",
}


def _terms(source: Source) -> Iterator[str]:
    yield f"{source.title}: {source.page}"
    yield f"Terms of use: {source.terms}"
    yield f"Paper: {source.citation}"
    if source.about:
        yield f"This is {source.about}."


def _tables(report: DataReport) -> Iterator[Table]:
    from rich.markup import escape
    from rich.table import Table

    layout = Table("layout", "folder", "recognised by")
    layout.add_row(*map(escape, (report.title, report.folder, report.reason)))
    yield layout
    counts = Table("split", "images", "pairs")
    for split in report.splits:
        counts.add_row(escape(split.name), str(split.images), str(split.pairs))
    yield counts
    kinds: dict[str, list[Finding]] = {}
    for finding in report.findings:
        kinds.setdefault(finding.kind, []).append(finding)
    if not kinds:
        return
    table = Table("finding", "files", "what")
    for kind, findings in kinds.items():
        for finding in findings[:_SHOWN]:
            table.add_row(kind, escape(", ".join(finding.files)), escape(finding.detail))
        if len(findings) > _SHOWN:
            table.add_row(kind, f"and {len(findings) - _SHOWN} more", "--json lists them all")
    yield table
