"""Runtimes by name: what exists, what is installed, and which one opens an artifact.

A runtime *spec* is ``NAME[:OPTION[,OPTION...]]``: ``litert``, ``litert:no-xnnpack``,
``onnxruntime:CUDAExecutionProvider``, ``openvino:GPU,f16``.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanonet_edge.bundle import Artifact
from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.manifest import Record
from nanonet_edge.runtimes.artifact import ArtifactRuntime
from nanonet_edge.runtimes.litert import LiteRt
from nanonet_edge.runtimes.onnx_runtime import OnnxRuntime
from nanonet_edge.runtimes.openvino import OpenVino
from nanonet_edge.runtimes.tf_lite import TfLite
from nanonet_edge.runtimes.tflite_runtime import TfliteRuntime
from nanonet_edge.variants import Format

RUNTIMES: dict[str, type[ArtifactRuntime]] = {
    runtime.name: runtime for runtime in (LiteRt, TfliteRuntime, TfLite, OnnxRuntime, OpenVino)
}

#: Who opens a format when nobody was asked for, best first. OpenVINO also loads TFLite files,
#: but nobody deploys them so: it does that only by an explicit spec.
PREFERENCE: dict[Format, tuple[str, ...]] = {
    Format.TFLITE: (LiteRt.name, TfliteRuntime.name, TfLite.name),
    Format.ONNX: (OnnxRuntime.name, OpenVino.name),
    Format.OPENVINO: (OpenVino.name,),
}


@dataclass(frozen=True)
class RuntimeSpec:
    """A runtime and its options, as asked for; prints as it is written."""

    name: str
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}:{','.join(self.options)}" if self.options else self.name


class RuntimeListing(Record):
    """One runtime: whether it is installed, what it loads, or why it cannot be used.

    `reason` is empty if it is installed; else it says how to get it. `options` maps each
    option of a spec to what it does.
    """

    name: str
    installed: bool
    version: str | None
    formats: tuple[Format, ...]
    options: dict[str, str]
    reason: str


def parse_spec(text: str) -> RuntimeSpec:
    """Read a runtime spec.

    Raises:
        UsageError: there is no such runtime, or it has no such option; lists what exists.
    """
    name, colon, rest = text.partition(":")
    if name not in RUNTIMES:
        raise UsageError(f"runtime '{name}' is unknown: expected one of {', '.join(RUNTIMES)}")
    options = tuple(rest.split(",")) if colon else ()
    RUNTIMES[name].check_options(options)
    return RuntimeSpec(name, options)


def open_runtime(artifact: Artifact, spec: str | None = None, threads: int = 1) -> ArtifactRuntime:
    """Load an artifact into an engine; close it, or use it as a context manager.

    Args:
        artifact: of an opened bundle.
        spec: which engine; None for the first installed one that loads the format.
        threads: for the engine.

    Raises:
        UsageError: the spec is wrong.
        UnsupportedError: that engine cannot load this format.
        MissingExtraError: the engine is not installed.
        RuntimeFailure: the engine refused the file.
    """
    parsed = parse_spec(default_spec(artifact.record.format) if spec is None else spec)
    return RUNTIMES[parsed.name](artifact, threads, parsed.options)


def runtimes_for(file_format: Format, installed_only: bool = True) -> tuple[str, ...]:
    """The names of the runtimes meant for a format, best first."""
    names = PREFERENCE[file_format]
    return tuple(name for name in names if not installed_only or RUNTIMES[name].obstacle() is None)


def default_spec(file_format: Format) -> str:
    """The runtime that opens a format when none was asked for.

    Raises:
        UsageError: none is installed; the message is that of the best one.
    """
    installed = runtimes_for(file_format)
    if installed:
        return installed[0]
    obstacle = RUNTIMES[PREFERENCE[file_format][0]].obstacle()
    raise obstacle or UnsupportedError(f"no runtime loads {file_format}")


def list_runtimes() -> tuple[RuntimeListing, ...]:
    """Every runtime, installed or not."""
    return tuple(_listing(runtime) for runtime in RUNTIMES.values())


def _listing(runtime: type[ArtifactRuntime]) -> RuntimeListing:
    obstacle = runtime.obstacle()
    return RuntimeListing(
        name=runtime.name,
        installed=obstacle is None,
        version=runtime.version() if obstacle is None else None,
        formats=tuple(sorted(runtime.formats)),
        options=dict(runtime.known_options),
        reason="" if obstacle is None else str(obstacle),
    )
