"""Which artifact is measured on which runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nanonet_edge.benchmarks.worker_protocol import LoadRequest
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.results import Skipped
from nanonet_edge.runtimes import list_runtimes, obstacle_to, parse_spec, spec_for
from nanonet_edge.variants import Precision


@dataclass(frozen=True)
class Job:
    """One artifact to be measured on one runtime."""

    artifact: Artifact
    spec: str

    def load_request(self, bundle: Bundle, threads: int) -> LoadRequest:
        """What the measuring process is asked to load."""
        return LoadRequest(
            bundle=str(bundle.root), artifact=self.artifact.name, spec=self.spec, threads=threads
        )


@dataclass(frozen=True)
class Plan:
    """What will be measured, and what cannot be because its engine is not installed.

    `may_add_full_precision` is whether an engine that turns out to compute in bfloat16 is
    measured in true fp32 as well: not where the user named the runtimes.
    """

    jobs: tuple[Job, ...]
    skipped: tuple[Skipped, ...]
    may_add_full_precision: bool


def make_plan(
    bundle: Bundle,
    runtimes: Sequence[str] | None,
    artifacts: Sequence[str] | None,
    also: Sequence[str] = (),
) -> Plan:
    """Pair artifacts with runtimes, as `bench` describes.

    With the specs of `also` the fp32 artifacts are paired too: what they name makes its own lower
    precisions of those.

    Raises:
        UsageError: a spec is wrong, its engine is not installed, or nothing is left to run.
        BundleError: there is no artifact of that name.
    """
    chosen = tuple(bundle.artifact(name) for name in artifacts) if artifacts else bundle.artifacts
    if runtimes:
        return Plan(tuple(_named_jobs(chosen, runtimes)), (), may_add_full_precision=False)
    jobs: list[Job] = []
    skipped: list[Skipped] = []
    for artifact in chosen:
        try:
            jobs.append(Job(artifact, spec_for(artifact)))
        except UsageError as error:
            skipped.append(Skipped(artifact=artifact.name, reason=str(error)))
    if also:
        floats = [artifact for artifact in chosen if artifact.record.precision is Precision.FP32]
        jobs += [job for job in _named_jobs(floats, also) if job not in jobs]
    if not jobs:
        reasons = sorted({one.reason for one in skipped})
        raise UsageError("; ".join(reasons) or f"{bundle.root}: expected artifacts to bench, found none")
    return Plan(tuple(jobs), tuple(skipped), may_add_full_precision=True)


def _named_jobs(artifacts: Sequence[Artifact], specs: Sequence[str]) -> Iterator[Job]:
    listings = {listing.name: listing for listing in list_runtimes()}
    for spec in dict.fromkeys(specs):
        listing = listings[parse_spec(spec).name]
        if (obstacle := obstacle_to(spec)) is not None:
            raise obstacle
        jobs = [Job(artifact, spec) for artifact in artifacts if artifact.record.format in listing.formats]
        if not jobs:
            loads = ", ".join(listing.formats)
            found = ", ".join(sorted({artifact.record.format for artifact in artifacts}))
            raise UnsupportedError(f"{spec} loads {loads}, found artifacts in {found}")
        yield from jobs
