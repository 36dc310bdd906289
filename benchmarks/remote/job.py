"""What a board is asked to measure: the job, and the files that go with it."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanonet_edge.benchmarks.remote.agent_engines import ENGINES
from nanonet_edge.benchmarks.remote.events import JobEvent
from nanonet_edge.benchmarks.remote.sent_files import MACHINE_FILES, STATE_FILES
from nanonet_edge.benchmarks.watch import SAMPLE_SECONDS
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.devices.state import COMMANDS, TEGRASTATS
from nanonet_edge.errors import BundleError, InputError, UnsupportedError, UsageError
from nanonet_edge.manifest import sha256_file
from nanonet_edge.results import BenchSettings, Skipped
from nanonet_edge.runtimes import parse_spec
from nanonet_edge.variants import Format

#: Who opens a format on a board when nobody was asked for.
DEFAULT_RUNTIMES: Final = {Format.TFLITE: "litert", Format.ONNX: "onnxruntime"}
_FORMATS: Final = {"litert": Format.TFLITE, "tflite-runtime": Format.TFLITE, "onnxruntime": Format.ONNX}

#: Modules of the toolkit that run on a board; plain Python >= 3.9 with NumPy and OpenCV.
AGENT_MODULES: Final = (
    "errors.py",
    "pixels.py",
    "benchmarks/memory.py",
    "benchmarks/timing.py",
    "benchmarks/remote/agent.py",
    "benchmarks/remote/agent_engines.py",
    "benchmarks/remote/agent_looks.py",
    "benchmarks/remote/agent_measure.py",
    "benchmarks/remote/board.py",
    "runtimes/tflite_worker.py",
)
_GOLDEN: Final = "golden.npz"


@dataclass(frozen=True)
class Pair:
    """One artifact on one runtime."""

    artifact: Artifact
    spec: str


@dataclass(frozen=True)
class Payload:
    """A file for the board: its name in the private folder, and its bytes or where they are."""

    name: str
    source: Path | bytes

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @property
    def sha256(self) -> str:
        """Of its bytes, in hex."""
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        return sha256_file(self.source)


@dataclass(frozen=True)
class Job:
    """Everything that a board is to measure, and what of a bundle it cannot."""

    bundle: Bundle
    pairs: tuple[Pair, ...]
    skipped: tuple[Skipped, ...]
    settings: BenchSettings

    @property
    def modules(self) -> frozenset[str]:
        """The engines' modules that the board's Python must find."""
        return frozenset(ENGINES[parse_spec(pair.spec).name][0] for pair in self.pairs)

    @property
    def asked(self) -> JobEvent:
        """What is asked, without the files: results of something else are not results of this."""
        return JobEvent(
            manifest_sha256=self.bundle.manifest_sha256,
            settings=self.settings.model_copy(update={"device": "cpu"}),
            pairs=tuple((pair.artifact.name, pair.spec) for pair in self.pairs),
        )

    def to_json(self, done: frozenset[int] = frozenset(), *, site: str | None = None, root: str = "/") -> str:
        """One line for the agent, without the pairs that are done."""
        pairs = [self._pair(number, pair) for number, pair in enumerate(self.pairs) if number not in done]
        job: dict[str, Any] = {
            "asked": self.asked.model_dump(mode="json"),
            "pairs": pairs,
            "threads": self.settings.threads,
            "min_seconds": self.settings.min_seconds,
            "min_count": self.settings.min_count,
            "golden": _GOLDEN,
            "root": root,
            "site": [site] if site else [],
            "machine_files": MACHINE_FILES,
            "state_files": STATE_FILES,
            "commands": COMMANDS,
            "during": ["vcgencmd"],
            "stream": [TEGRASTATS, "--interval", str(round(1e3 * SAMPLE_SECONDS))],
            "interval_s": SAMPLE_SECONDS,
        }
        return json.dumps(job)

    def _pair(self, number: int, pair: Pair) -> dict[str, Any]:
        spec = parse_spec(pair.spec)
        record = pair.artifact.record
        return {
            "pair": number,
            "runtime": spec.name,
            "options": spec.options,
            "path": _model_name(pair.artifact),
            "input": record.input.model_dump(mode="json"),
            "output": record.output.model_dump(mode="json"),
        }

    def payloads(self) -> tuple[Payload, ...]:
        """The agent and what it measures, without wheels."""
        golden = self.bundle.root / self.bundle.manifest.golden.file.path
        models = {_model_name(pair.artifact): pair.artifact.path for pair in self.pairs}
        return (
            *agent_payloads(),
            Payload(_GOLDEN, golden),
            *(Payload(name, path) for name, path in models.items()),
        )


def _model_name(artifact: Artifact) -> str:
    return f"artifacts/{artifact.record.files[0].sha256[:16]}{artifact.path.suffix}"


def agent_payloads() -> tuple[Payload, ...]:
    """The agent's modules under the names by which they import each other."""
    folders = sorted({str(Path(name).parent) for name in AGENT_MODULES})
    packages = [f"nanonet_edge/{folder}/__init__.py".replace("/./", "/") for folder in folders]
    return (
        *(Payload(name, b"") for name in packages),
        *(Payload(f"nanonet_edge/{name}", _module(name)) for name in AGENT_MODULES),
    )


def board_program() -> bytes:
    """The text of `board`, which is handed to the board's Python."""
    return _module("benchmarks/remote/board.py")


def _module(name: str) -> bytes:
    *folders, file = name.split("/")
    package = ".".join(["nanonet_edge", *folders])
    return importlib.resources.files(package).joinpath(file).read_bytes()


def wheel_payload(path: Path, python: str) -> Payload:
    """A wheel where the agent looks for those of a Python version, "3.11"."""
    return Payload(f"wheels/cp{python.replace('.', '')}/{path.name}", path)


def make_job(
    bundle: Bundle,
    settings: BenchSettings,
    runtimes: Sequence[str] | None = None,
    artifacts: Sequence[str] | None = None,
) -> Job:
    """Pair artifacts with the engines that the agent drives.

    Args:
        runtimes: specs of litert, tflite-runtime or onnxruntime; each runs every artifact that it loads.
            None: LiteRT for TFLite files, ONNX Runtime for ONNX files; others are skipped.
        artifacts: names; none for all.

    Raises:
        UsageError: a spec is wrong, or nothing is left to run.
        UnsupportedError: a runtime, or a paced or sustained run, which the agent does not do.
        BundleError: there is no artifact of that name.
    """
    _check_settings(settings)
    chosen = tuple(bundle.artifact(name) for name in artifacts) if artifacts else bundle.artifacts
    skipped: list[Skipped] = []
    pairs: list[Pair] = []
    if runtimes:
        for spec in dict.fromkeys(runtimes):
            file_format = _check_spec(spec)
            pairs += [Pair(artifact, spec) for artifact in chosen if artifact.record.format is file_format]
    else:
        for artifact in chosen:
            if runtime := DEFAULT_RUNTIMES.get(artifact.record.format):
                pairs.append(Pair(artifact, runtime))
            else:
                reason = (
                    f"the agent drives {', '.join(ENGINES)}, none of which loads {artifact.record.format}"
                )
                skipped.append(Skipped(artifact=artifact.name, reason=reason))
    if not pairs:
        found = ", ".join(sorted({artifact.record.format for artifact in chosen})) or "none"
        raise UsageError(f"{bundle.root}: expected artifacts that a board can run, found formats: {found}")
    return Job(bundle, tuple(pairs), tuple(skipped), settings)


def job_that_asked(bundle: Bundle, asked: JobEvent, source: str) -> Job:
    """The job that a file's first line tells of.

    Raises:
        InputError: it was another bundle, or asks for what cannot be asked; names `source`.
    """
    if asked.manifest_sha256 != bundle.manifest_sha256:
        raise InputError(
            f"{source}: expected results of {bundle.root} (manifest {bundle.manifest_sha256[:12]}…), "
            f"found those of another bundle ({asked.manifest_sha256[:12]}…)"
        )
    try:
        pairs = tuple(Pair(bundle.artifact(name), spec) for name, spec in asked.pairs)
        _check_settings(asked.settings)
        for pair in pairs:
            _check_pair(pair)
    except (UsageError, BundleError) as error:
        raise InputError(f"{source}: {error}") from None
    return Job(bundle, pairs, (), asked.settings)


def _check_pair(pair: Pair) -> None:
    if _check_spec(pair.spec) is not pair.artifact.record.format:
        raise UsageError(f"{pair.spec} does not run {pair.artifact.name}")


def _check_settings(settings: BenchSettings) -> None:
    if settings.fps is not None or settings.sustained_minutes is not None:
        raise UnsupportedError(
            "runs on a clock and sustained runs are not measured from afar: run bench there"
        )


def _check_spec(text: str) -> Format:
    spec = parse_spec(text)
    if spec.name not in ENGINES:
        raise UnsupportedError(
            f"runtime '{text}' is not driven from afar: expected one of {', '.join(ENGINES)}"
        )
    if spec.name == "onnxruntime" and spec.options:
        raise UnsupportedError(f"runtime '{text}': from afar onnxruntime runs on the CPU only")
    return _FORMATS[spec.name]
