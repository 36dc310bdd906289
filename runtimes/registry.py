"""Runtimes by name: what exists, what is installed, and which one opens an artifact.

A runtime *spec* is ``NAME[:OPTION[,OPTION...]]``: ``litert``, ``litert:no-xnnpack``,
``onnxruntime:CUDAExecutionProvider``, ``openvino:GPU,f16``.

The reference, ``keras`` or ``keras:predict``, is a runtime like the others, but opens a bundle's
reference weights and no artifact.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.manifest import Record
from nanonet_edge.runtimes._edgetpu import is_compiled
from nanonet_edge.runtimes.artifact import ArtifactRuntime
from nanonet_edge.runtimes.engine import EngineRuntime
from nanonet_edge.runtimes.keras_reference import KerasRuntime
from nanonet_edge.runtimes.litert import LiteRt
from nanonet_edge.runtimes.onnx_runtime import OnnxRuntime
from nanonet_edge.runtimes.openvino import OpenVino
from nanonet_edge.runtimes.tensorrt import TensorRt
from nanonet_edge.runtimes.tf_lite import TfLite
from nanonet_edge.runtimes.tflite_runtime import TfliteRuntime
from nanonet_edge.variants import Format

RUNTIMES: dict[str, type[ArtifactRuntime]] = {
    runtime.name: runtime for runtime in (LiteRt, TfliteRuntime, TfLite, OnnxRuntime, OpenVino, TensorRt)
}

#: How the paper measured its frame rate: the unrewritten Keras model, image by image.
PAPER_SPEC = f"{KerasRuntime.name}:predict"

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


@dataclass(frozen=True)
class AcceleratedSpec:
    """A spec that uses an accelerator: which kind, and the format that it loads."""

    spec: str
    kind: Literal["gpu", "tpu"]
    format: Format


#: What a device with an accelerator is measured with, beside the engines of its processor. Those of
#: a GPU take the fp32 file, those in int8 the ranges of the static int8 one as well.
ACCELERATED = (
    AcceleratedSpec("onnxruntime:cuda", "gpu", Format.ONNX),
    AcceleratedSpec("onnxruntime:tensorrt", "gpu", Format.ONNX),
    AcceleratedSpec("onnxruntime:tensorrt,fp16", "gpu", Format.ONNX),
    AcceleratedSpec("tensorrt", "gpu", Format.ONNX),
    AcceleratedSpec("tensorrt:fp16", "gpu", Format.ONNX),
    AcceleratedSpec("tensorrt:int8", "gpu", Format.ONNX),
    AcceleratedSpec("litert:edgetpu", "tpu", Format.TFLITE),
)


class RuntimeListing(Record):
    """One runtime: whether it is installed, what it loads, or why it cannot be used.

    `formats` is empty for the reference, which loads a bundle's reference weights. `reason` is
    empty if it is installed; else it says how to get it. `options` maps each option of a spec
    to what it does, `unavailable` those that cannot be used on this machine to the reason.
    """

    name: str
    installed: bool
    version: str | None
    formats: tuple[Format, ...]
    options: dict[str, str]
    unavailable: dict[str, str] = Field(default_factory=dict)
    reason: str


def parse_spec(text: str) -> RuntimeSpec:
    """Read the spec of a runtime that opens artifacts.

    Raises:
        UsageError: there is no such runtime, it opens no artifacts, or it has no such option;
            lists what exists.
    """
    spec = _split(text)
    names = ", ".join(RUNTIMES)
    if spec.name == KerasRuntime.name:
        raise UsageError(f"runtime '{spec.name}' runs the reference, no artifact: expected one of {names}")
    if spec.name not in RUNTIMES:
        raise UsageError(f"runtime '{spec.name}' is unknown: expected one of {names}")
    RUNTIMES[spec.name].check_options(spec.options)
    return spec


def _split(text: str) -> RuntimeSpec:
    name, colon, rest = text.partition(":")
    return RuntimeSpec(name, tuple(rest.split(",")) if colon else ())


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
    parsed = parse_spec(spec_for(artifact) if spec is None else spec)
    return RUNTIMES[parsed.name](artifact, threads, parsed.options)


def builds_engine(spec: str) -> bool:
    """Whether opening an artifact with a spec may take minutes, since an engine is built first."""
    return "tensorrt" in spec.lower()


def obstacle_to(spec: str) -> UsageError | None:
    """Why a spec cannot be used on this machine, or None if it can.

    Raises:
        UsageError: the spec is wrong.
    """
    parsed = parse_spec(spec)
    runtime = RUNTIMES[parsed.name]
    if (obstacle := runtime.obstacle()) is not None:
        return obstacle
    unavailable = runtime.unavailable_options()
    # An option's key names it with what it needs before it, as in "cuda,fp32".
    for option in (",".join(parsed.options), *parsed.options):
        if option in unavailable:
            return UnsupportedError(f"{spec}: {unavailable[option]}")
    return None


def open_reference(bundle: Bundle, spec: str = KerasRuntime.name, threads: int = 1) -> KerasRuntime:
    """Load a bundle's reference weights; close it, or use it as a context manager.

    Args:
        bundle: an opened bundle.
        spec: ``keras`` or ``keras:predict``.
        threads: for TensorFlow, which takes the number once per process.

    Raises:
        UsageError: the spec is wrong.
        MissingExtraError: TensorFlow is not installed.
        UnsupportedError: TensorFlow already runs in this process with another number of threads.
        CheckpointError, RuntimeFailure: the weights cannot be loaded.
    """
    parsed = _split(spec)
    if parsed.name != KerasRuntime.name:
        raise UsageError(f"'{parsed.name}' is not the reference: expected {KerasRuntime.name}")
    return KerasRuntime(bundle, threads, parsed.options)


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


def spec_for(artifact: Artifact) -> str:
    """The spec that opens an artifact when none was asked for: by its format, or what it was compiled for.

    Raises:
        UsageError: that cannot be used here.
    """
    if artifact.record.format is Format.TFLITE and is_compiled(artifact.path):
        spec = f"{LiteRt.name}:edgetpu"
        if (obstacle := obstacle_to(spec)) is not None:
            raise obstacle
        return spec
    return default_spec(artifact.record.format)


def accelerated_specs(kinds: Collection[str]) -> tuple[tuple[AcceleratedSpec, ...], tuple[str, ...]]:
    """The specs that use accelerators of these kinds ("gpu", "tpu") here, and why the others cannot."""
    usable, reasons = [], []
    for one in ACCELERATED:
        if one.kind in kinds:
            obstacle = obstacle_to(one.spec)
            if obstacle is None:
                usable.append(one)
            else:
                reasons.append(str(obstacle))
    return tuple(usable), tuple(dict.fromkeys(reasons))


def list_runtimes() -> tuple[RuntimeListing, ...]:
    """Every runtime, installed or not; the reference is the last."""
    artifacts = (_listing(runtime, tuple(sorted(runtime.formats))) for runtime in RUNTIMES.values())
    return (*artifacts, _listing(KerasRuntime, ()))


def _listing(runtime: type[EngineRuntime], formats: tuple[Format, ...]) -> RuntimeListing:
    obstacle = runtime.obstacle()
    unavailable = runtime.unavailable_options() if obstacle is None else {}
    return RuntimeListing(
        name=runtime.name,
        installed=obstacle is None,
        version=runtime.version() if obstacle is None else None,
        formats=formats,
        options={name: does for name, does in runtime.known_options.items() if name not in unavailable},
        unavailable=dict(unavailable),
        reason="" if obstacle is None else str(obstacle),
    )
