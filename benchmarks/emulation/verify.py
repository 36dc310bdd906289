"""Hold an emulated board's engines against the host's and the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.agreement import Progress, Reference, check_golden, labels, shortfalls
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.agreement_result import Thresholds
from nanonet_edge.benchmarks.emulation.compare import Engine, compare_raw, expectation, shortfall
from nanonet_edge.benchmarks.emulation.cpus import known_cores
from nanonet_edge.benchmarks.emulation.emulator import Emulator, Job
from nanonet_edge.benchmarks.emulation.machines import GuestMachine
from nanonet_edge.benchmarks.emulation.result import Emulated, EmulatedResult, EmulatedRow, Frames
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.contract import preprocess, to_mask, to_probability
from nanonet_edge.datasets import frames_digest
from nanonet_edge.devices import Profile
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.machine import read_machine
from nanonet_edge.masks import overlap
from nanonet_edge.metrics import ImageAgreement, image_agreement, summarise_agreement
from nanonet_edge.results import Skipped
from nanonet_edge.runtimes import default_spec, open_runtime
from nanonet_edge.runtimes.registry import RUNTIMES
from nanonet_edge.variants import Head

Array = npt.NDArray[Any]

#: Emulation takes seconds to minutes a frame.
DEFAULT_COUNT: Final = 4


@dataclass(frozen=True)
class Answered:
    """Frames, each (H, W, 3) uint8 BGR, and the reference's probabilities (n, h, w, classes)."""

    record: Frames
    names: tuple[str, ...]
    frames: tuple[Array, ...]
    probability: npt.NDArray[np.float32]


def golden_frames(bundle: Bundle, count: int = DEFAULT_COUNT) -> Answered:
    """The first golden frames of a bundle, whose reference answers it holds: no TensorFlow is needed."""
    golden = bundle.golden()
    frames = tuple(golden.frames[:count])
    record = Frames(
        source="golden",
        description=f"golden frames: {bundle.manifest.golden.source}",
        count=len(frames),
        digest=frames_digest(frames),
    )
    names = tuple(f"golden-{index}" for index in range(len(frames)))
    return Answered(record, names, frames, golden.probability[:count])


def answered_images(bundle: Bundle, data: VerificationData, reference: Reference) -> Answered:
    """Images of the user's, all of them, answered by the reference.

    Raises:
        BundleError: the reference does not reproduce the bundle's golden vectors.
        DatasetError: an image cannot be read.
        UsageError: there are none.
    """
    check_golden(bundle, reference)
    items = list(data)
    if not items:
        raise UsageError("verify: expected at least one image, found none")
    answers = [reference.probability(item.frame[np.newaxis]) for item in items]
    record = Frames(
        source="images",
        description=f"images of {data.record.folder}",
        count=len(items),
        digest=data.record.digest,
    )
    return Answered(
        record,
        tuple(item.name for item in items),
        tuple(item.frame for item in items),
        np.concatenate(answers),
    )


def core_of(profile: Profile, machine: GuestMachine) -> str:
    """The processor to emulate for a device, by QEMU's name.

    Raises:
        UnsupportedError: it cannot be emulated; the profile's reason is in it.
    """
    core = profile.emulation.qemu_cpu
    if core.value is None:
        raise UnsupportedError(f"{profile.name} cannot be emulated: {core.reason}")
    if core.value not in known_cores():
        known = ", ".join(known_cores())
        raise UnsupportedError(
            f"{profile.name} cannot be emulated: expected a core among {known}, found {core.value}"
        )
    return machine.core or core.value


def select_jobs(
    bundle: Bundle, machine: GuestMachine, artifacts: Sequence[str] = (), engines: Sequence[str] = ()
) -> tuple[list[tuple[Artifact, str]], tuple[Skipped, ...]]:
    """Pair artifacts with the machine's engines.

    Args:
        bundle: an opened bundle.
        machine: where they are to run.
        artifacts: names; none for all.
        engines: names; none for every one that loads the format.

    Returns:
        The pairs, and the artifacts that no engine loads.

    Raises:
        BundleError: the bundle has no artifact of that name.
        UnsupportedError: the machine has no such engine, or nothing is left to run.
    """
    machine.check_engines(engines)
    named = [bundle.artifact(name) for name in artifacts] or list(bundle.artifacts)
    pairs: list[tuple[Artifact, str]] = []
    skipped = []
    for artifact in named:
        wanted = engines or tuple(machine.engines)
        fitting = [name for name in wanted if artifact.record.format in machine.engines[name]]
        pairs.extend((artifact, name) for name in fitting)
        if not fitting:
            reason = f"{', '.join(wanted)} on {machine.name} cannot load {artifact.record.format}"
            skipped.append(Skipped(artifact=artifact.name, reason=reason))
    if not pairs:
        raise UnsupportedError(f"{bundle.root}: no artifact that {machine.name} can run")
    return pairs, tuple(skipped)


def describe(emulator: Emulator, device: str) -> Emulated:
    """The emulated machine, for results."""
    return Emulated(
        device=device,
        machine=emulator.place.machine.name,
        core=emulator.core,
        qemu=emulator.version,
        contents=emulator.place.contents(),
        host=read_machine(),
    )


def verify_emulated(
    bundle: Bundle,
    answered: Answered,
    emulator: Emulator,
    *,
    device: str,
    artifacts: Sequence[str] = (),
    engines: Sequence[str] = (),
    thresholds: Thresholds | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> EmulatedResult:
    """Run artifacts in an emulated machine and on this host, and compare.

    Raw outputs are held against those of the same engine on this host, or where that is not
    installed against the format's usual one; masks against the host's and the reference's. One thread.

    Args:
        bundle: an opened bundle.
        answered: frames with the reference's answers.
        emulator: the emulated machine.
        device: the profile's name, for the result.
        artifacts: names; none for all that can run there.
        engines: of the emulated machine; none for all that load an artifact.
        thresholds: for masks against the reference; None for the defaults.
        seed: of the bootstrap.
        progress: called with (artifact and engine, frames done, frames).

    Raises:
        BundleError, UnsupportedError: see `select_jobs`.
        MissingExtraError: no engine on this host loads an artifact.
    """
    pairs, skipped = select_jobs(bundle, emulator.place.machine, artifacts, engines)
    limits = thresholds or Thresholds()
    rows = []
    for artifact, engine in pairs:
        report = _reporter(progress, f"{artifact.name} on {engine}", len(answered.frames))
        rows.append(_row(artifact, engine, answered, emulator, limits, seed, report))
    return EmulatedResult(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        emulated=describe(emulator, device),
        frames=answered.record,
        thresholds=limits,
        rows=tuple(rows),
        skipped=skipped,
        passed=all(row.passed for row in rows),
    )


def host_spec(artifact: Artifact, engine: str) -> str:
    """What runs an artifact on this host to compare with: the same engine where it is installed."""
    return engine if RUNTIMES[engine].obstacle() is None else default_spec(artifact.record.format)


def _reporter(progress: Progress | None, stage: str, total: int) -> Callable[[int], None]:
    def report(done: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    report(0)
    return report


def _row(
    artifact: Artifact,
    engine: str,
    answered: Answered,
    emulator: Emulator,
    thresholds: Thresholds,
    seed: int,
    report: Callable[[int], None],
) -> EmulatedRow:
    record = artifact.record
    base: dict[str, Any] = {
        "artifact": record.name,
        "format": record.format,
        "precision": record.precision,
        "engine": engine,
    }
    tensors = np.stack([preprocess(frame, record.input) for frame in answered.frames])
    spec = host_spec(artifact, engine)
    try:
        with open_runtime(artifact, spec) as runtime:
            host = np.stack([runtime.invoke(tensor) for tensor in tensors])
            version = runtime.info.version
        outputs, info = emulator.outputs(Job(artifact, engine, tensors), report)
    except RuntimeFailure as error:
        return EmulatedRow(**base, passed=False, reasons=(str(error),), failure=str(error))
    raw = compare_raw(host, outputs)
    expected = expectation(record.precision, Engine(engine, info.engine), Engine(spec, version))
    agreements = list(_agreements(artifact, answered, outputs))
    summary = summarise_agreement(agreements, seed)
    missed = shortfall(raw, expected)
    reasons = (*((missed,) if missed else ()), *shortfalls(summary, agreements, thresholds))
    return EmulatedRow(
        **base,
        guest=info,
        host_spec=spec,
        host_version=version,
        raw=raw,
        expectation=expected,
        host_dice=tuple(
            overlap(to_mask(one, record.output), to_mask(other, record.output)).dice
            for one, other in zip(host, outputs, strict=True)
        ),
        summary=summary,
        passed=not reasons,
        reasons=reasons,
    )


def _agreements(artifact: Artifact, answered: Answered, outputs: Array) -> Iterator[ImageAgreement]:
    """The guest's masks against the reference's."""
    contract = artifact.record.output
    for name, reference, output in zip(answered.names, answered.probability, outputs, strict=True):
        probability = None if contract.kind is Head.MASK else to_probability(output, contract)
        yield image_agreement(name, labels(reference), to_mask(output, contract), reference, probability)
