"""What the rewrite gains over all: the geometric mean of the speed-ups and the smallest of them.

``python -m nanonet_edge.benchmarks.rewrite_gain BUNDLE... [--spec SPEC]... [--json]`` joins what
``nanonet-edge bench BUNDLE --against straight`` wrote for several bundles.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

from pydantic import Field

from nanonet_edge.errors import EXIT_OK, InputError, NanonetEdgeError
from nanonet_edge.manifest import Record
from nanonet_edge.results import BENCH_NAME, BenchResult, Duel, FailedDuel, load_result, results_folder


class RewriteGain(Record):
    """Speed-ups of rewritten artifacts over straight ones, all measured in interleaved rounds.

    `smallest` is the least of them, that of the artifact `smallest_artifact` on `smallest_spec`.
    """

    count: int = Field(ge=1)
    geometric_mean: float
    smallest: float
    smallest_artifact: str
    smallest_spec: str

    def __str__(self) -> str:
        least = f"{self.smallest:.2f}x, {self.smallest_artifact} on {self.smallest_spec}"
        return f"geometric mean of {self.count} speed-ups: {self.geometric_mean:.2f}x; smallest: {least}"


def summarize_gain(duels: Sequence[Duel]) -> RewriteGain:
    """Sum duels up.

    Raises:
        ValueError: there are none.
    """
    if not duels:
        raise ValueError("expected at least one duel, found none")
    least = min(duels, key=lambda duel: duel.speedup.value)
    return RewriteGain(
        count=len(duels),
        geometric_mean=geometric_mean(duel.speedup.value for duel in duels),
        smallest=least.speedup.value,
        smallest_artifact=least.contender,
        smallest_spec=least.spec,
    )


class Gathered(NamedTuple):
    """The duels of several results, and the artifacts that had no straight counterpart."""

    duels: tuple[Duel, ...]
    unmatched: tuple[FailedDuel, ...]


def read_duels(paths: Iterable[Path], specs: Sequence[str] = ()) -> Gathered:
    """The duels of several results, on these specs or on all.

    Args:
        paths: of bundles, or of files that `bench` wrote.
        specs: runtime specs, such as ``openvino:f32``.

    Raises:
        InputError: a file is not a result of `bench`, or holds no duel on these specs, or one
            that failed.
    """
    found: list[Duel] = []
    unmatched: list[FailedDuel] = []
    for given in paths:
        path = results_folder(given) / BENCH_NAME if given.is_dir() else given
        result = load_result(path, BenchResult)
        if broken := [duel for duel in result.failed_duels if duel.baseline is not None]:
            raise InputError(f"{path}: expected duels that went well, found {broken[0].failure}")
        duels = [duel for duel in result.duels if not specs or duel.spec in specs]
        if not duels:
            on = f" on {', '.join(specs)}" if specs else ""
            raise InputError(f"{path}: expected duels{on}, found none: run bench --against straight")
        found += duels
        unmatched += [
            one
            for one in result.failed_duels
            if one.baseline is None and (not specs or one.spec is None or one.spec in specs)
        ]
    return Gathered(tuple(found), tuple(unmatched))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every duel and what they come to; return the exit code."""
    parser = argparse.ArgumentParser(description="Sum up what the rewrite gains over several bundles.")
    parser.add_argument("bundle", type=Path, nargs="+", help="folder of a bundle, or a bench.json")
    parser.add_argument("--spec", action="append", default=[], help="only this runtime spec; repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    try:
        duels, unmatched = read_duels(options.bundle, options.spec)
    except NanonetEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    gain = summarize_gain(duels)
    if options.json:
        fields = {"contender", "baseline", "spec", "speedup", "noise_floor", "verdict"}
        lines = [duel.model_dump(mode="json", include=fields) for duel in duels]
        reasons = {"contender", "spec", "failure"}
        left_out = [one.model_dump(mode="json", include=reasons) for one in unmatched]
        print(json.dumps({**gain.model_dump(), "duels": lines, "without_counterpart": left_out}, indent=2))
        return EXIT_OK
    for one in unmatched:
        print(f"not compared: {one.failure}", file=sys.stderr)
    for duel in duels:
        speedup = duel.speedup
        interval = f"{speedup.low:.2f} to {speedup.high:.2f}"
        print(f"{duel.contender} on {duel.spec}: {speedup.value:.2f}x ({interval}), {duel.verdict}")
    print(gain)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
