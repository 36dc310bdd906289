"""`nanonet-edge verify`: is the mask still the mask?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanonet_edge.cli import common
from nanonet_edge.errors import EXIT_VERDICT, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from nanonet_edge.benchmarks.agreement_data import VerificationData
    from nanonet_edge.benchmarks.agreement_result import AgreementRow, VerifyResult
    from nanonet_edge.metrics import AgreementSummary

GENERATED_COUNT = 32
DEFAULT_MACHINE = "aarch64"

#: Columns of words, not of figures.
_WORDS = ("computed in", "image", "verdict")


def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder that `export` wrote.")] = common.DEFAULT_BUNDLE,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of images, or of images/ and masks/. Without it, generated frames."),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of ground-truth masks with the images' stems.")
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="NAME[:OPTION], as `runtimes` lists them; repeatable. Default: one per format."),
    ] = None,
    artifact: Annotated[
        list[str] | None, typer.Option(help="Name of an artifact; repeatable. Default: all.")
    ] = None,
    min_dice: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Mean Dice against the reference that passes.")
    ] = 0.99,
    min_p5: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="5th percentile of Dice that passes.")
    ] = 0.95,
    worst: Annotated[int, typer.Option(min=0, help="Draw so many of each artifact's worst images.")] = 5,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"Draw so many images. Default: all, or {GENERATED_COUNT} generated ones."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and the bootstrap.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine.")] = 1,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results. Default: BUNDLE.results.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="With --emulate: a device's name, or a family's.")
    ] = None,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="Run the device's own binaries here; see `emulate setup`.")
    ] = False,
    machine: Annotated[
        str, typer.Option(metavar="NAME", help="With --emulate: aarch64, or armv7 for a 32-bit system.")
    ] = DEFAULT_MACHINE,
    count: Annotated[
        bool, typer.Option("--count", help="With --emulate: count the instructions of one inference, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compare every artifact's masks with those of the fp32 Keras model, and judge them.

    Writes verify.json and pictures of the worst images. With --artifact or --runtime the other
    results that are already there are kept. Exit code 1 if an artifact fails.

    With --device and --emulate it runs the device's own binaries on a few frames (--limit), and
    compares their raw outputs and masks with this host's as well.
    """
    if masks is not None and data is None:
        raise UsageError("--masks needs --data: whose masks are they?")
    emulated = _emulated_device(device, machine, emulate, count, threads)
    if emulated is not None:
        from nanonet_edge.cli.verify_emulated import Asked, verify_emulated

        asked = Asked(
            device=emulated,
            machine=machine,
            data=data,
            masks=masks,
            limit=limit,
            seed=seed,
            artifacts=artifact or (),
            engines=runtime or (),
            min_dice=min_dice,
            min_p5=min_p5,
            output=output,
            count=count,
            as_json=as_json,
        )
        verify_emulated(bundle, asked)
        return
    from nanonet_edge.benchmarks.agreement import verify as run_verify
    from nanonet_edge.benchmarks.agreement_result import VERIFY_NAME, Thresholds
    from nanonet_edge.benchmarks.merge import verify_joined_to
    from nanonet_edge.benchmarks.sidebyside import check_pictures_folder, save_worst
    from nanonet_edge.bundle import Bundle
    from nanonet_edge.reference import KerasReference
    from nanonet_edge.results import check_writable, results_folder, save_result, set_aside

    opened = Bundle.open(bundle)
    common.mention_untrained(opened.manifest.weights)
    folder = output if output is not None else results_folder(bundle)
    path, pictures_folder = folder / VERIFY_NAME, folder / "worst"
    check_writable(path)
    check_pictures_folder(pictures_folder)
    images = _images(data, masks, limit, seed)
    keras = KerasReference(opened.weights_path, opened.manifest.size)
    with keras as reference, common.progress() as progress:
        result = run_verify(
            opened,
            images,
            reference=reference,
            artifacts=artifact or (),
            runtimes=runtime or (),
            thresholds=Thresholds(mean_dice=min_dice, p5_dice=min_p5),
            threads=threads,
            seed=seed,
            progress=progress,
        )
        joint, lost = verify_joined_to(path, result) if runtime or artifact else (result, None)
        if lost is not None:
            common.note(f"earlier results moved to {set_aside(path)}: {lost}")
        save_result(joint, path)
        is_joint = joint is not result
        pictures = save_worst(
            result, opened, images, reference, pictures_folder, worst, progress, keep_others=is_joint
        )
    if as_json:
        common.print_json(result)
    else:
        for table in _tables(result):
            common.print_table(table)
    _conclude(result, path, len(pictures))
    if is_joint:
        common.note(f"joined to the earlier results of {len(joint.artifacts) - len(result.artifacts)} others")
    if not result.passed:
        raise typer.Exit(EXIT_VERDICT)


def _emulated_device(
    device: str | None, machine: str, emulate: bool, count: bool, threads: int
) -> str | None:
    """The device that is to be emulated, if any.

    Raises:
        UsageError: the options do not go together.
    """
    if not emulate and (device is not None or count):
        raise UsageError(f"{'--count' if device is None else '--device'} needs --emulate")
    if not emulate and machine != DEFAULT_MACHINE:
        raise UsageError("--machine needs --emulate")
    if emulate and device is None:
        raise UsageError("--emulate needs --device: which board's processor?")
    if emulate and threads != 1:
        raise UsageError(f"--emulate runs engines with one thread, found --threads {threads}")
    return device


def _images(data: Path | None, masks: Path | None, limit: int | None, seed: int) -> VerificationData:
    from nanonet_edge.benchmarks.agreement_data import VerificationData

    if data is None:
        count = GENERATED_COUNT if limit is None else limit
        common.note(
            f"WARNING: no --data given: verifying on {count} GENERATED frames. They resemble colonoscopy, "
            "but agreement on them does not stand for agreement on your images."
        )
        return VerificationData.generated(count, seed)
    images = VerificationData.from_folder(data, masks, limit, seed)
    for line in images.notes:
        common.note(line)
    return images


def _conclude(result: VerifyResult, path: Path, pictures: int) -> None:
    for skipped in result.skipped:
        common.note(f"{skipped.artifact} was skipped: {skipped.reason}")
    for row in result.artifacts:
        unjudged = () if row.unjudged_reason is None else (f"not judged: {row.unjudged_reason}",)
        for line in (*unjudged, *row.reasons, *row.notes):
            common.note(f"{row.artifact} on {row.spec}: {line}")
    limits = result.thresholds
    asked = f"mean Dice >= {limits.mean_dice:g} and 5th percentile >= {limits.p5_dice:g}"
    judged = [row for row in result.artifacts if row.judged]
    passed = sum(row.passed for row in judged)
    common.note(f"{passed} of {len(judged)} pass ({asked})")
    drawn = f"; {pictures} pictures in {path.parent / 'worst'}" if pictures else ""
    common.note(f"written: {path}{drawn}")


def _tables(result: VerifyResult) -> Iterator[Table]:
    """Agreement, where it is worst, and with masks accuracy: narrow enough for a terminal each."""
    title = f"{result.bundle} against the reference on {result.data} ({result.obtained})"
    figures = ("computed in", "mean Dice [95 %]", "p5", "max |dp|", "HD95 px", "parts -/+", "verdict")
    yield _table(title, figures, result, _agreement)
    yield _table("where agreement is worst", ("Dice", "image", "Dice of small polyps (n)"), result, _worst)
    if result.data.masks:
        headings = ("DSC", "reference's DSC", "DSC difference [95 %]")
        yield _table("accuracy against the ground truth", headings, result, _accuracy)


def _table(
    title: str, headings: Sequence[str], result: VerifyResult, cells: Callable[[AgreementRow], Sequence[str]]
) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("artifact", "runtime"):
        table.add_column(name, no_wrap=True)
    for name in headings:
        table.add_column(name, no_wrap=True, justify="left" if name in _WORDS else "right")
    for row in result.artifacts:
        table.add_row(*map(escape, (row.artifact, row.spec, *cells(row))))
    return table


def _agreement(row: AgreementRow) -> list[str]:
    computed = row.runtime.computed_precision if row.runtime is not None else "-"
    summary = row.summary
    if summary is None:
        return [computed, *("-" for _ in range(5)), "not run"]
    return [
        computed,
        f"{summary.mean_dice:.4f} [{summary.dice_ci95[0]:.4f}, {summary.dice_ci95[1]:.4f}]",
        f"{summary.p5_dice:.4f}",
        "-" if summary.max_delta_p is None else f"{summary.max_delta_p:.2g}",
        _hd95(summary),
        f"{summary.components_lost}/{summary.components_invented}",
        _verdict(row),
    ]


def _hd95(summary: AgreementSummary) -> str:
    """The mean distance, with the number of images that have one where some have none."""
    if summary.mean_hd95_px is None:
        return "-"
    count = "" if summary.hd95_count == summary.count else f" ({summary.hd95_count})"
    return f"{summary.mean_hd95_px:.2f}{count}"


def _verdict(row: AgreementRow) -> str:
    if not row.judged and row.runtime is not None:
        return f"({row.runtime.computed_precision})"
    return "pass" if row.passed else "FAIL"


def _worst(row: AgreementRow) -> list[str]:
    if row.summary is None:
        return ["-", "-", "-"]
    small = None if row.small_polyps is None else row.small_polyps.summary
    return [
        f"{row.summary.min_dice:.4f}",
        row.summary.worst_image,
        "-" if small is None else f"{small.mean_dice:.4f} ({small.count})",
    ]


def _accuracy(row: AgreementRow) -> list[str]:
    if row.accuracy is None:
        return ["-", "-", "-"]
    ours, theirs, gap = (
        part.dsc for part in (row.accuracy.artifact, row.accuracy.reference, row.accuracy.difference)
    )
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    mean, low, high = (round(value, 4) + 0.0 for value in (gap.mean, gap.low, gap.high))
    return [f"{ours.mean:.4f}", f"{theirs.mean:.4f}", f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"]
