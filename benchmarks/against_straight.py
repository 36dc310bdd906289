"""Every rewritten artifact against the straight graph of the same format and precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanonet_edge.benchmarks.interleave import duel
from nanonet_edge.benchmarks.plan import Job
from nanonet_edge.benchmarks.watch import DeviceProbe, Watch
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import RuntimeFailure, UsageError
from nanonet_edge.results import BenchRow, Duel, FailedDuel


def fight_all(
    bundle: Bundle,
    straight: Bundle,
    rows: Sequence[BenchRow],
    threads: int,
    report: Callable[[str, int, int], None],
    start: Callable[[LoadRequest], Worker],
    probe: DeviceProbe,
) -> tuple[tuple[Duel, ...], tuple[FailedDuel, ...]]:
    """Compare every rewritten artifact that ran with its straight counterpart, on the same runtime.

    A duel on a device that was throttled meanwhile has failed.
    """
    duels: list[Duel] = []
    failed: list[FailedDuel] = []
    contenders = [row for row in rows if row.graph == "rewritten" and row.measurement is not None]
    for done, row in enumerate(contenders):
        report("against straight", done, len(contenders))
        counterpart = straight_counterpart(bundle.artifact(row.artifact), straight)
        if counterpart is None:
            failure = (
                f"{row.artifact}: {straight.root} holds no straight {row.format} artifact in {row.precision}"
            )
            failed.append(FailedDuel(contender=row.artifact, spec=row.spec, baseline=None, failure=failure))
            continue
        contender = Job(bundle.artifact(row.artifact), row.spec).load_request(bundle, threads)
        baseline = Job(counterpart, row.spec).load_request(straight, threads)
        try:
            with Watch(probe) as watch:
                fought = duel(contender, baseline, start=start)
            watch.require_valid(f"{row.artifact} on {row.spec}: the duel")
            duels.append(fought)
        except RuntimeFailure as error:
            failed.append(
                FailedDuel(
                    contender=row.artifact, spec=row.spec, baseline=counterpart.name, failure=str(error)
                )
            )
    report("against straight", len(contenders), len(contenders))
    return tuple(duels), tuple(failed)


def require_counterpart(straight: Bundle, artifacts: Sequence[Artifact]) -> None:
    """Refuse to begin where there is nothing to compare.

    Raises:
        UsageError: no artifact is rewritten, or none has a straight counterpart.
    """
    rewritten = [artifact for artifact in artifacts if artifact.record.graph == "rewritten"]
    if not rewritten:
        raise UsageError("against the straight graph: expected a rewritten artifact to bench, found none")
    if not any(straight_counterpart(artifact, straight) for artifact in rewritten):
        wanted = ", ".join(sorted({f"{one.record.format} in {one.record.precision}" for one in rewritten}))
        raise UsageError(f"{straight.root}: expected a straight artifact ({wanted}), found none")


def straight_counterpart(artifact: Artifact, straight: Bundle) -> Artifact | None:
    """The artifact of the same format and precision whose graph was not rewritten, if there is one."""
    wanted = (artifact.record.format, artifact.record.precision)
    for other in straight.artifacts:
        if other.record.graph == "straight" and (other.record.format, other.record.precision) == wanted:
            return other
    return None
