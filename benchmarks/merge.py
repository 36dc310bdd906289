"""Results of a part of a bundle joined to those that are already there.

Whoever measures one artifact again, or adds a runtime, keeps the other rows, provided that they
were obtained in the same way: on the same machine, with the same images and settings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from nanonet_edge.benchmarks.agreement_result import AgreementRow, VerifyResult
from nanonet_edge.errors import InputError
from nanonet_edge.machine import Machine
from nanonet_edge.results import BenchResult, BenchRow, Duel, FailedDuel, Skipped, load_result

Row = TypeVar("Row", BenchRow, AgreementRow)
Result = TypeVar("Result", BenchResult, VerifyResult)
Contest = TypeVar("Contest", Duel, FailedDuel)


def bench_joined_to(path: Path, new: BenchResult) -> tuple[BenchResult, str | None]:
    """Join a new result to the one in a file.

    Returns:
        The joint result and None; or the new one alone, with why what the file held is not kept
        (None as well where there was no file).
    """
    return _joined_to(path, new, bench_difference, merge_bench)


def verify_joined_to(path: Path, new: VerifyResult) -> tuple[VerifyResult, str | None]:
    """`bench_joined_to` for the results of `verify`."""
    return _joined_to(path, new, verify_difference, merge_verify)


def _joined_to(
    path: Path,
    new: Result,
    difference: Callable[[Result, Result], str | None],
    merge: Callable[[Result, Result], Result],
) -> tuple[Result, str | None]:
    if not path.exists():
        return new, None
    try:
        earlier = load_result(path, type(new))
    except InputError as error:
        return new, str(error)
    other = difference(earlier, new)
    return (merge(earlier, new), None) if other is None else (new, f"they are of another {other}")


def bench_difference(earlier: BenchResult, new: BenchResult) -> str | None:
    """What keeps two results apart; None if they can be joined."""
    return _first_difference(
        ("bundle", earlier.manifest_sha256, new.manifest_sha256),
        ("machine", _lasting(earlier.machine), _lasting(new.machine)),
        ("setting", earlier.settings, new.settings),
    )


def verify_difference(earlier: VerifyResult, new: VerifyResult) -> str | None:
    """What keeps two results apart; None if they can be joined."""
    return _first_difference(
        ("bundle", earlier.manifest_sha256, new.manifest_sha256),
        ("machine", _lasting(earlier.machine), _lasting(new.machine)),
        ("set of images", earlier.data, new.data),
        ("threshold", earlier.thresholds, new.thresholds),
        ("reference", _version(earlier), _version(new)),
        ("number of threads", _threads(earlier), _threads(new)),
    )


def merge_bench(earlier: BenchResult, new: BenchResult) -> BenchResult:
    """`new` with what `earlier` has of other artifacts and runtimes."""
    rows = _merge_rows(earlier.rows, new.rows)
    held: set[tuple[str, str | None]] = {(one.contender, one.spec) for one in new.duels}
    held |= {(one.contender, one.spec) for one in new.failed_duels}
    return new.model_copy(
        update={
            "reference": new.reference or earlier.reference,
            "rows": rows,
            "skipped": _merge_skipped(earlier.skipped, new.skipped, rows),
            "duels": _not_held(earlier.duels, held) + new.duels,
            "failed_duels": _not_held(earlier.failed_duels, held) + new.failed_duels,
        }
    )


def merge_verify(earlier: VerifyResult, new: VerifyResult) -> VerifyResult:
    """`new` with what `earlier` has of other artifacts and runtimes; all of it is judged."""
    rows = _merge_rows(earlier.artifacts, new.artifacts)
    return new.model_copy(
        update={
            "artifacts": rows,
            "skipped": _merge_skipped(earlier.skipped, new.skipped, rows),
            "passed": all(row.passed for row in rows if row.judged),
        }
    )


def _first_difference(*pairs: tuple[str, object, object]) -> str | None:
    return next((what for what, one, other in pairs if one != other), None)


def _lasting(machine: Machine) -> Machine:
    """A machine without what changes from minute to minute."""
    return machine.model_copy(update={"load_average": None})


def _version(result: VerifyResult) -> tuple[str, str | None]:
    return result.reference.name, result.reference.version


def _threads(result: VerifyResult) -> set[int]:
    return {row.runtime.threads for row in result.artifacts if row.runtime is not None}


def _merge_rows(earlier: Sequence[Row], new: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of both, a new one instead of an earlier one, those of an artifact together."""
    rows = list(earlier) + list(new)
    found = {(row.artifact, row.spec): row for row in rows}
    artifacts = dict.fromkeys(row.artifact for row in rows)
    return tuple(row for artifact in artifacts for row in found.values() if row.artifact == artifact)


def _not_held(earlier: Iterable[Contest], held: Collection[tuple[str, str | None]]) -> tuple[Contest, ...]:
    return tuple(one for one in earlier if (one.contender, one.spec) not in held)


def _merge_skipped(
    earlier: Sequence[Skipped], new: Sequence[Skipped], rows: Sequence[BenchRow] | Sequence[AgreementRow]
) -> tuple[Skipped, ...]:
    ran = {row.artifact for row in rows}
    return tuple(dict.fromkeys(one for one in (*earlier, *new) if one in new or one.artifact not in ran))
