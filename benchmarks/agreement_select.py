"""Which artifact is held against the reference on which runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import BundleError, UnsupportedError
from nanonet_edge.runtimes import parse_spec, runtimes_for
from nanonet_edge.runtimes.registry import PREFERENCE, RUNTIMES
from nanonet_edge.variants import Format, Precision

#: OpenVINO would compute in bfloat16 where the processor can: fp32 is compared with fp32.
_FLOAT_SPECS = {Format.OPENVINO: "openvino:f32"}
_FLOAT_PRECISIONS = (Precision.FP32, Precision.FP16)


@dataclass(frozen=True)
class Contender:
    """An artifact and the runtime spec it is to run on."""

    artifact: Artifact
    spec: str


def select_contenders(
    bundle: Bundle, artifacts: Sequence[str] = (), runtimes: Sequence[str] = ()
) -> tuple[Contender, ...]:
    """Pair artifacts with runtime specs, as `verify` describes.

    Raises:
        BundleError: the bundle has no artifact of that name, or none at all.
        UsageError: a spec is wrong.
        UnsupportedError: no artifact can run on the specs, or a named one cannot.
    """
    named = [bundle.artifact(name) for name in artifacts] or list(bundle.artifacts)
    if not named:
        raise BundleError(f"{bundle.root}: expected artifacts, found none")
    if not runtimes:
        return tuple(Contender(artifact, _usual_spec(artifact)) for artifact in named)
    loads = [(spec, RUNTIMES[parse_spec(spec).name].formats) for spec in runtimes]
    chosen: list[Contender] = []
    for artifact in named:
        fitting = [spec for spec, formats in loads if artifact.record.format in formats]
        if artifacts and not fitting:
            wanted = ", ".join(runtimes)
            raise UnsupportedError(f"{artifact.path}: {wanted} cannot load {artifact.record.format}")
        chosen.extend(Contender(artifact, spec) for spec in fitting)
    if not chosen:
        raise UnsupportedError(f"{bundle.root}: {', '.join(runtimes)} can load none of its artifacts")
    return tuple(chosen)


def _usual_spec(artifact: Artifact) -> str:
    record = artifact.record
    if record.precision in _FLOAT_PRECISIONS and record.format in _FLOAT_SPECS:
        return _FLOAT_SPECS[record.format]
    # With none installed the best is named: opening it says how to install it.
    return (runtimes_for(record.format) or PREFERENCE[record.format])[0]
