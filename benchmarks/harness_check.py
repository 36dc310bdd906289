"""Is the timing harness right? Hold its p50 against the engines' own tools.

``python -m nanonet_edge.benchmarks.harness_check BUNDLE`` times artifacts with the harness and
with the tool their engine brings along.

- OpenVINO: ``benchmark_app`` and a worker take turns, a process each. Other load can only
  slow a round down, so what is compared is the p50 of the quietest round of each side. The
  rounds end when several of each side came close to that, whether the two agree or not; where
  the machine does not become so quiet, the check is undecided.
- onnxruntime: its profiler's ``model_run`` events. Profiling itself costs a few percent, so
  the harness times the very session that is being profiled: the same invocations, seen from
  outside and from inside, on which other load has no bearing.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from nanonet_edge.benchmarks.scopes import time_invokes
from nanonet_edge.benchmarks.statistics import summarize
from nanonet_edge.benchmarks.timing import WARMUP_RUNS, WARMUP_SECONDS
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, RoundRequest
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.contract import preprocess
from nanonet_edge.errors import EXIT_OK, EXIT_VERDICT, NanonetEdgeError, RuntimeFailure, UsageError
from nanonet_edge.runtimes.onnx_runtime import OnnxRuntime
from nanonet_edge.variants import Format

TOLERANCE = 0.03
#: A side has shown how fast it is when so many rounds come so close to its quietest one.
QUIET_ROUNDS = 3
QUIET_SPREAD = 0.015
#: Where the machine does not become quiet, the check ends after so many rounds.
MOST_ROUNDS = 40
_PROFILED_ROUNDS = 3
#: benchmark_app takes whole seconds.
ROUND_SECONDS = 1
ROUND_COUNT = 20

_MEDIAN = re.compile(r"Median:\s+([0-9.]+) (us|ms|s)\b")
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class HarnessCheck:
    """p50 in milliseconds of each round, by the harness and by the engine's tool.

    `same_runs` is whether both timed the same invocations, so that no other load comes between.
    """

    artifact: str
    spec: str
    tool: str
    harness_ms: tuple[float, ...]
    tool_ms: tuple[float, ...]
    same_runs: bool = False

    @property
    def ratio(self) -> float:
        """The harness's p50 over the tool's, each in its quietest round."""
        return min(self.harness_ms) / min(self.tool_ms)

    @property
    def quiet(self) -> bool:
        """Whether several rounds of each side came close to its quietest one."""
        return all(_is_quiet(side) for side in (self.harness_ms, self.tool_ms))

    @property
    def verdict(self) -> Literal["agrees", "differs", "undecided"]:
        """Whether the two are within 3 %; undecided if the machine was not quiet."""
        if not (self.same_runs or self.quiet):
            return "undecided"
        return "agrees" if abs(self.ratio - 1.0) <= TOLERANCE else "differs"

    def __str__(self) -> str:
        verdict = {
            "agrees": "agrees",
            "differs": f"differs by more than {TOLERANCE:.0%}",
            "undecided": f"not quiet in {len(self.harness_ms)} rounds: undecided",
        }[self.verdict]
        return (
            f"{self.artifact} on {self.spec}: harness {min(self.harness_ms):.3f} ms, "
            f"{self.tool} {min(self.tool_ms):.3f} ms, ratio {self.ratio:.4f}: {verdict}"
        )


def _is_quiet(rounds_ms: Sequence[float]) -> bool:
    close = [value for value in rounds_ms if value <= (1 + QUIET_SPREAD) * min(rounds_ms)]
    return len(close) >= QUIET_ROUNDS


def check_openvino(bundle: Bundle, artifact: Artifact, *, threads: int, rounds: int) -> HarnessCheck:
    """A worker on `openvino:f32` against benchmark_app, by turns, in 1 to `rounds` rounds.

    Raises:
        RuntimeFailure: the engine or its tool failed.
    """
    spec = "openvino:f32"
    request = LoadRequest(bundle=str(bundle.root), artifact=artifact.name, spec=spec, threads=threads)
    harness_ms: list[float] = []
    tool_ms: list[float] = []
    with Worker(request) as worker:
        worker.load()
        worker.round(RoundRequest(min_seconds=WARMUP_SECONDS, min_count=WARMUP_RUNS))

        def ours() -> None:
            samples = worker.round(RoundRequest(min_seconds=ROUND_SECONDS, min_count=ROUND_COUNT))
            harness_ms.append(summarize(samples).p50_ms)

        def theirs() -> None:
            tool_ms.append(benchmark_app(artifact.path, threads))

        for index in range(rounds):
            for turn in (ours, theirs) if index % 2 == 0 else (theirs, ours):
                turn()
            if _is_quiet(harness_ms) and _is_quiet(tool_ms):
                break
    return HarnessCheck(artifact.name, spec, "benchmark_app", tuple(harness_ms), tuple(tool_ms))


def benchmark_app(model: Path, threads: int) -> float:
    """The median that benchmark_app prints, in milliseconds: synchronous, one stream, fp32.

    Raises:
        RuntimeFailure: it failed, or printed no median.
    """
    program = "from openvino.tools.benchmark.main import main; main()"
    command = [
        sys.executable, "-c", program, "-m", str(model), "-d", "CPU", "-hint", "none", "-api", "sync",
        "-nstreams", "1", "-nireq", "1", "-nthreads", str(threads), "-infer_precision", "f32",
        "-t", str(ROUND_SECONDS),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _MEDIAN.search(done.stdout)
    if done.returncode != 0 or found is None:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise RuntimeFailure(f"{model}: benchmark_app gave no median: {' '.join(last)}")
    return float(found[1]) * _MILLISECONDS[found[2]]


class ProfiledOnnxRuntime(OnnxRuntime):
    """onnxruntime with its profiler on, writing into `folder`."""

    def __init__(self, artifact: Artifact, threads: int, folder: Path) -> None:
        self._folder = folder
        super().__init__(artifact, threads)

    def _make(self, path: Path, profile: Path | None = None) -> Any:
        return super()._make(path, profile or self._folder / "profile")

    def run_durations_ms(self) -> list[float]:
        """Stop profiling: how long each run took by the engine's own clock."""
        events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        return [event["dur"] / 1e3 for event in events if event.get("name") == "model_run"]


def check_onnxruntime(bundle: Bundle, artifact: Artifact, *, threads: int, rounds: int) -> HarnessCheck:
    """The harness's loop around a profiled session against what the profiler saw of the same runs.

    Raises:
        RuntimeFailure: the engine failed, or its profiler missed runs.
    """
    tensor = preprocess(bundle.golden().frames[0], artifact.record.input)
    harness_ms: list[float] = []
    tool_ms: list[float] = []
    for _ in range(min(rounds, _PROFILED_ROUNDS)):
        with (
            tempfile.TemporaryDirectory() as folder,
            ProfiledOnnxRuntime(artifact, threads, Path(folder)) as runtime,
        ):
            time_invokes(runtime, tensor, WARMUP_RUNS, WARMUP_SECONDS)
            samples = time_invokes(runtime, tensor, ROUND_COUNT, ROUND_SECONDS)
            seen = runtime.run_durations_ms()[-len(samples) :]
        if len(seen) < len(samples):
            found = f"expected {len(samples)} model_run events, found {len(seen)}"
            raise RuntimeFailure(f"{artifact.path}: {found}")
        harness_ms.append(summarize(samples).p50_ms)
        tool_ms.append(median(seen))
    sides = (tuple(harness_ms), tuple(tool_ms))
    return HarnessCheck(artifact.name, "onnxruntime", "its own profiler", *sides, same_runs=True)


#: The formats whose engine brings a tool of its own.
CHECKS: dict[Format, Callable[..., HarnessCheck]] = {
    Format.OPENVINO: check_openvino,
    Format.ONNX: check_onnxruntime,
}


def _chosen(bundle: Bundle, names: Sequence[str]) -> list[Artifact]:
    """The artifacts that can be checked, all of them or the named ones.

    Raises:
        BundleError: there is no artifact of that name.
        UsageError: none has an engine that brings a tool, or a named one has not.
    """
    known = " or ".join(CHECKS)
    for artifact in (bundle.artifact(name) for name in names):
        if artifact.record.format not in CHECKS:
            found = f"{artifact.name}: no engine of {artifact.record.format} brings a tool"
            raise UsageError(f"{found}: expected {known}")
    chosen = [bundle.artifact(name) for name in names] or list(bundle.artifacts)
    checked = [artifact for artifact in chosen if artifact.record.format in CHECKS]
    if not checked:
        raise UsageError(f"{bundle.root}: expected artifacts in {known}, found none: nothing to check")
    return checked


def main(arguments: Sequence[str] | None = None) -> int:
    """Check every artifact whose engine brings a tool; return the exit code.

    It is 1 where one differs, and where one stays undecided.
    """
    parser = argparse.ArgumentParser(description="Hold the timing harness against the engines' own tools.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--artifact", action="append", default=[], help="name of an artifact; repeatable")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=MOST_ROUNDS, help="at most so many")
    options = parser.parse_args(arguments)
    agreed = True
    try:
        for name in ("threads", "rounds"):
            if (value := getattr(options, name)) < 1:
                raise UsageError(f"--{name}: expected at least 1, found {value}")
        bundle = Bundle.open(options.bundle)
        for artifact in _chosen(bundle, options.artifact):
            run = CHECKS[artifact.record.format]
            check = run(bundle, artifact, threads=options.threads, rounds=options.rounds)
            print(check, flush=True)
            agreed = agreed and check.verdict == "agrees"
    except NanonetEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return EXIT_OK if agreed else EXIT_VERDICT


if __name__ == "__main__":
    sys.exit(main())
