"""Which artifact is held against the reference on which runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanonet_edge.benchmarks.full_precision import FULL_PRECISION
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import BundleError, UnsupportedError
from nanonet_edge.runtimes import parse_spec, runtimes_for
from nanonet_edge.runtimes.registry import PREFERENCE, RUNTIMES
from nanonet_edge.variants import Precision

_FLOAT_PRECISIONS = (Precision.FP32, Precision.FP16)


@dataclass(frozen=True)
class Contender:
    """An artifact and the runtime spec it is to run on.

    `beside` is the spec whose arithmetic this one may share; it is then left out. `judged` is
    whether the verdict counts.
    """

    artifact: Artifact
    spec: str
    beside: str | None = None
    judged: bool = True


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
        return tuple(contender for artifact in named for contender in _usual_contenders(artifact))
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


def _usual_contenders(artifact: Artifact) -> tuple[Contender, ...]:
    """The format's usual engine, and the same one in true fp32 where it may compute in less.

    A float artifact is judged in true fp32: that its engine silently computes in bfloat16 is no
    fault of the artifact.
    """
    record = artifact.record
    # With none installed the best is named: opening it says how to install it.
    usual = (runtimes_for(record.format) or PREFERENCE[record.format])[0]
    full = FULL_PRECISION.get(usual)
    if full is None:
        return (Contender(artifact, usual),)
    if record.precision in _FLOAT_PRECISIONS:
        return Contender(artifact, full), Contender(artifact, usual, beside=full, judged=False)
    return Contender(artifact, usual), Contender(artifact, full, beside=usual)
