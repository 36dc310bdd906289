"""`nanonet-edge bench`: how fast each artifact is on a device, and what memory it needs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import bench_target, common
from nanonet_edge.cli.bench_tables import print_tables
from nanonet_edge.errors import EXIT_INPUT, EXIT_VERDICT, UsageError

if TYPE_CHECKING:
    from nanonet_edge.benchmarks.plan import Plan
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import BenchResult

_TFLITE_RUNTIME = "tflite-runtime"


def bench(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")] = common.DEFAULT_BUNDLE,
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="cpu, this machine as it is; or a device or family of `devices list`, whose figures are "
            "predicted where this machine is no such device and no host is named.",
        ),
    ] = bench_target.THIS_MACHINE,
    host: Annotated[
        str | None, typer.Option(metavar="[USER@]HOST", help="Measure there, reached by SSH.")
    ] = None,
    hosts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measure on several boards: a TOML file.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine.")] = 1,
    runtime: Annotated[
        list[str] | None, typer.Option(help="Runtime spec, as `runtimes` lists them; repeatable.")
    ] = None,
    artifact: Annotated[list[str] | None, typer.Option(help="Name of an artifact; repeatable.")] = None,
    fps: Annotated[
        float | None, typer.Option(help="Also run with frames on a clock; count missed deadlines.")
    ] = None,
    sustained: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Also run for so long; judge the drift.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="straight", help="Compare with the unrewritten graph in interleaved rounds."),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option("--reference", help="Measure the Keras reference too: model.predict, image by image."),
    ] = False,
    min_seconds: Annotated[float, typer.Option(min=0.0, help="Least duration of each scope.")] = 3.0,
    min_count: Annotated[int, typer.Option(min=1, help="Least number of runs in each scope.")] = 100,
    output: Annotated[
        Path | None, typer.Option(help="Where to write the JSON.", show_default="BUNDLE.results/bench.json")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure latency, memory and frame rate of each artifact, each in a fresh process.

    The device is watched meanwhile: what was measured while it was throttled or undervolted does not
    count, and is told apart (exit code 1). With --artifact or --runtime the other results that are
    already there are kept.
    """
    _check(host, hosts, against, reference, fps, sustained)
    if not 0 <= min_seconds < math.inf:
        raise UsageError(f"--min-seconds: expected a number of seconds, found {min_seconds:g}")

    from nanonet_edge.benchmarks.bench import bench as run
    from nanonet_edge.benchmarks.merge import bench_joined_to
    from nanonet_edge.benchmarks.plan import make_plan
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.results import (
        BENCH_NAME,
        BenchSettings,
        check_writable,
        results_folder,
        save_result,
        set_aside,
    )

    opened = Bundle.open(bundle)
    common.mention_untrained(opened.manifest.weights)
    target = bench_target.choose_target(device, has_host=host is not None or hosts is not None)
    settings = BenchSettings(
        device=target.device,
        threads=threads,
        min_seconds=min_seconds,
        min_count=min_count,
        fps=fps,
        sustained_minutes=sustained,
    )
    if target.where == "there":
        from nanonet_edge.cli.remote import bench_hosts

        bench_hosts(
            bundle,
            settings,
            host=host,
            hosts=hosts,
            runtimes=runtime,
            artifacts=artifact,
            # A family stays one: the board says which member it is.
            device=None if target.profile is None else device,
            output=output,
            as_json=as_json,
        )
        return
    if target.profile is not None and target.where == "nowhere":
        asked = {
            "--runtime": runtime,
            "--fps": fps,
            "--sustained": sustained,
            "--against": against,
            "--reference": reference,
        }
        bench_target.refuse_measuring(target.profile, [option for option, value in asked.items() if value])
        path = output or results_folder(bundle) / f"predict-{target.device}.json"
        bench_target.predict(opened, target.profile, settings.threads, artifact, path, as_json=as_json)
        return
    path = output or results_folder(bundle) / BENCH_NAME
    check_writable(path)
    work = bench_target.plan_work(target, opened, runtime, artifact)
    _mention_tflite_runtime(opened, runtime)
    straight = _straight(opened, make_plan(opened, runtime, artifact)) if against else None
    with common.progress() as progress:
        result = run(
            opened,
            settings,
            runtimes=runtime,
            artifacts=work.artifacts,
            also=work.also,
            straight=straight,
            reference=reference,
            progress=progress,
            root=bench_target.ROOT,
        )
    joint, lost = bench_joined_to(path, result) if runtime or artifact else (result, None)
    if lost is not None:
        common.note(f"earlier results moved to {set_aside(path)}: {lost}")
    save_result(joint, path)
    if as_json:
        common.print_json(result)
    else:
        print_tables(result)
    _explain_gaps(result)
    if joint is not result:
        common.note(f"joined to the earlier results of {len(joint.rows) - len(result.rows)} others")
    common.note(f"raw samples: {path}")
    if result.failures:
        raise typer.Exit(EXIT_INPUT)
    if result.objections:
        raise typer.Exit(EXIT_VERDICT)


def _check(
    host: str | None,
    hosts: Path | None,
    against: str | None,
    reference: bool,
    fps: float | None,
    sustained: float | None,
) -> None:
    if host is not None and hosts is not None:
        raise UsageError("--host names one board and --hosts a file of several: expected one of the two")
    if (host is not None or hosts is not None) and (against is not None or reference):
        option = "--against" if against is not None else "--reference"
        raise UsageError(f"{option} runs on this machine only: expected no --host and no --hosts beside it")
    if against not in (None, "straight"):
        raise UsageError(f"--against '{against}' is unknown: expected straight")
    for option, value in (("--fps", fps), ("--sustained", sustained)):
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{option}: expected a positive number, found {value:g}")


def _explain_gaps(result: BenchResult) -> None:
    for skipped in result.skipped:
        common.note(f"{skipped.artifact} was skipped: {skipped.reason}")
    asked = {"pacing": result.settings.fps, "sustained": result.settings.sustained_minutes}
    for row in result.rows:
        missing = row.measurement.missing if row.measurement else {}
        for name, reason in missing.items():
            if asked[name] is not None:
                common.note(f"{row.artifact} on {row.spec}: no {name}: {reason}")
    for duel in result.failed_duels:
        if duel.baseline is None:
            common.note(f"not compared: {duel.failure}")
    said = (warning for row in result.rows if row.watched for warning in row.watched.validity.warnings)
    for warning in dict.fromkeys(said):
        common.note(f"warning: {warning}")
    for objection in result.objections:
        common.note(f"does not count: {objection}")
    for failure in result.failures:
        common.note(f"failed: {failure}")


def _mention_tflite_runtime(bundle: Bundle, named: list[str] | None) -> None:
    """The old engine is measured on request only; say that it is there."""
    from nanonet_edge.runtimes import runtimes_for
    from nanonet_edge.variants import Format

    has_tflite = any(record.format is Format.TFLITE for record in bundle.manifest.artifacts)
    if named is None and has_tflite and _TFLITE_RUNTIME in runtimes_for(Format.TFLITE):
        common.note(f"{_TFLITE_RUNTIME} is installed too: add --runtime {_TFLITE_RUNTIME} to measure it")


def _straight(bundle: Bundle, plan: Plan) -> Bundle:
    """A bundle with the straight graphs: this one, if it has them all, else one beside its results."""
    from nanonet_edge.benchmarks.against_straight import straight_counterpart
    from nanonet_edge.export import cached_straight
    from nanonet_edge.results import results_folder

    records = [job.artifact.record for job in plan.jobs if job.artifact.record.graph == "rewritten"]
    if all(straight_counterpart(bundle.artifact(record.name), bundle) for record in records):
        return bundle
    return cached_straight(
        bundle,
        results_folder(bundle.root) / "straight",
        formats=tuple(dict.fromkeys(record.format for record in records)),
        precisions=tuple(dict.fromkeys(record.precision for record in records)),
        report=common.note,
    )
