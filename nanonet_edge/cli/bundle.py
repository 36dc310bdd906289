"""`nanonet-edge bundle`: what a board without a network needs, in one archive; and its result back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_INPUT, UsageError


def bundle(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")] = common.DEFAULT_BUNDLE,
    device: Annotated[
        str | None, typer.Option(help="The board, by device profile or family: see `devices list`.")
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option("--import", metavar="RESULT", help="Bring home what run.sh left on a board."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The archive, or with --import the JSON.", show_default="beside or in BUNDLE.results"
        ),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(help="Python version there, such as 3.11; repeatable.", show_default="by the profile"),
    ] = None,
    wheels: Annotated[
        bool, typer.Option("--wheels/--no-wheels", help="Put wheels in, or rely on the board's own engine.")
    ] = True,
    runtime: Annotated[list[str] | None, typer.Option(help="Runtime spec; repeatable.")] = None,
    artifact: Annotated[list[str] | None, typer.Option(help="Name of an artifact; repeatable.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine.")] = 1,
    min_seconds: Annotated[
        float, typer.Option(min=0.0, max=86400.0, help="Least duration of each scope.")
    ] = 3.0,
    min_count: Annotated[int, typer.Option(min=1, help="Least number of runs in each scope.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Pack an archive to measure a bundle on a board without a network, or import its result.

    On the board: tar xzf ARCHIVE, sh nanonet-edge-DEVICE/run.sh. It leaves result.jsonl there.
    """
    if result is not None:
        _import(bundle, result, device, output, as_json)
        return
    if device is None:
        raise UsageError("expected --device, the board that the archive is for, or --import with a result")

    from nanonet_edge.benchmarks.remote.job import make_job
    from nanonet_edge.benchmarks.remote.offline import pack
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.devices import resolve
    from nanonet_edge.results import BenchSettings, check_writable

    opened = Bundle.open(bundle)
    common.mention_untrained(opened.manifest.weights)
    resolution = resolve(device)
    if resolution.rule != "named":
        common.note(resolution.explanation)
    profile = resolution.profile
    path = output or opened.root.absolute().with_name(f"{opened.root.absolute().name}.{profile.name}.tar.gz")
    check_writable(path)
    settings = BenchSettings(threads=threads, min_seconds=min_seconds, min_count=min_count)
    job = make_job(opened, settings, runtime, artifact)
    for skipped in job.skipped:
        common.note(f"{skipped.artifact} is left out: {skipped.reason}")
    pack(job, profile, path, pythons=python or (), wheels=wheels, report=common.note)
    asked = {
        "archive": str(path),
        "bytes": path.stat().st_size,
        "device": profile.name,
        "pairs": [{"artifact": pair.artifact.name, "runtime": pair.spec} for pair in job.pairs],
    }
    if as_json:
        common.print_json(asked)
        return
    typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    common.note(f"on the board: tar xzf {path.name} && sh nanonet-edge-{profile.name}/run.sh")
    common.note(f"then here: nanonet-edge bundle {bundle} --import result.jsonl")


def _import(bundle: Path, result: Path, device: str | None, output: Path | None, as_json: bool) -> None:
    from nanonet_edge.benchmarks.remote.offline import bring_home
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.cli.bench_tables import print_tables
    from nanonet_edge.cli.remote import explain_gaps
    from nanonet_edge.results import check_writable, results_folder, save_result

    opened = Bundle.open(bundle)
    found = bring_home(result, opened, device)
    path = output or results_folder(bundle) / f"bench.{found.settings.device}.json"
    check_writable(path)
    save_result(found, path)
    if as_json:
        common.print_json(found)
    else:
        print_tables(found, where="the board")
    explain_gaps(found.settings.device, found)
    common.note(f"raw samples: {path}")
    if found.failures:
        raise typer.Exit(EXIT_INPUT)
