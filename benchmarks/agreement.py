"""Hold every artifact of a bundle against the reference, image by image.

Images pass through once: each is decoded, the reference and every artifact answer, figures are
kept and pixels dropped. Memory does not grow with the number of images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Protocol

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.agreement_data import Item, VerificationData
from nanonet_edge.benchmarks.agreement_result import (
    AgreementRow,
    ImageResult,
    ReferenceRecord,
    Thresholds,
    VerifyResult,
)
from nanonet_edge.benchmarks.agreement_select import Contender, select_contenders
from nanonet_edge.bundle import Bundle
from nanonet_edge.contract import PROBABILITY_THRESHOLD, preprocess, to_mask, to_probability
from nanonet_edge.datasets import resize_mask
from nanonet_edge.errors import BundleError, MissingExtraError, NanonetEdgeError, UsageError
from nanonet_edge.machine import read_machine
from nanonet_edge.metrics import (
    NOT_FINITE,
    AgreementSummary,
    ImageAccuracy,
    ImageAgreement,
    image_accuracy,
    image_agreement,
    summarise_accuracy,
    summarise_agreement,
    summarise_small_polyps,
)
from nanonet_edge.results import RuntimeInfo, Skipped
from nanonet_edge.runtimes import ArtifactRuntime, open_runtime
from nanonet_edge.variants import Head

Probability = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

GOLDEN_TOLERANCE = 1e-4
#: Frames that wait together for the reference: few enough to be small even at 4K.
_BATCH = 8
_BATCH_BYTES = 64 << 20


class Reference(Protocol):
    """What masks are held against."""

    def probability(self, frames: npt.NDArray[np.uint8], /) -> Probability:
        """Answer frames (n, H, W, 3) uint8 BGR with probabilities (n, size, size, classes)."""


class Progress(Protocol):
    """Called with a stage, how much of it is done, and how much there is."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Report progress."""


@dataclass
class _Run:
    """What is gathered of one contender."""

    contender: Contender
    engine: ArtifactRuntime | None = None
    runtime: RuntimeInfo | None = None
    failure: NanonetEdgeError | None = None
    images: list[ImageResult] = field(default_factory=list)


def verify(
    bundle: Bundle,
    data: VerificationData,
    *,
    reference: Reference,
    artifacts: Sequence[str] = (),
    runtimes: Sequence[str] = (),
    thresholds: Thresholds | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> VerifyResult:
    """Compare artifacts with the reference on images, and judge them.

    An artifact that its engine refuses fails the verdict and says why; the others go on. One
    whose engine is not installed is skipped.

    Args:
        bundle: an opened bundle.
        data: the images, with masks or without.
        reference: the Keras model at fp32, or what stands in for it.
        artifacts: names; none for all.
        runtimes: runtime specs; each artifact runs on each one that loads its format. None for
            the default of each format: OpenVINO then judges float artifacts in true fp32, and
            where it computes in bfloat16 by itself it shows them in that as well, unjudged.
        thresholds: None for the defaults.
        threads: for each engine.
        seed: of the bootstrap.
        progress: called with ("verify", images done, images).

    Raises:
        BundleError: the reference does not reproduce the golden vectors, or an artifact is unknown.
        DatasetError: an image cannot be read.
        UsageError: a spec is wrong, no artifact fits it, or there are no images.
        MissingExtraError: no artifact could be run, for want of an engine.
    """
    if len(data) == 0:
        raise UsageError("verify: expected at least one image, found none")
    chosen = select_contenders(bundle, artifacts, runtimes)
    golden_delta = check_golden(bundle, reference)
    runs = [_Run(contender) for contender in chosen]
    with contextlib.ExitStack() as stack:
        for run in runs:
            _open(run, threads, stack)
        runs = _distinct(runs)
        runs, skipped = _without_missing(runs)
        done = 0
        for batch in _batches(data):
            probabilities = reference.probability(np.stack([item.frame for item in batch]))
            for item, probability in zip(batch, probabilities, strict=True):
                _compare(runs, item, probability)
                done += 1
                if progress is not None:
                    progress("verify", done, len(data))
    limits = thresholds or Thresholds()
    rows = tuple(_row(run, limits, data, seed) for run in runs)
    return VerifyResult(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        machine=read_machine(),
        data=data.record,
        reference=ReferenceRecord(
            name=str(getattr(reference, "name", type(reference).__name__)),
            version=getattr(reference, "version", None),
            golden_count=bundle.manifest.golden.count,
            golden_max_delta_p=golden_delta,
        ),
        thresholds=limits,
        passed=all(row.passed for row in rows if row.judged),
        artifacts=rows,
        skipped=skipped,
    )


def check_golden(bundle: Bundle, reference: Reference) -> float:
    """The largest distance in probability between the reference and the bundle's golden vectors.

    Raises:
        BundleError: it is above 1e-4: the weights or the reference are not those of the export.
    """
    golden = bundle.golden()
    found = reference.probability(golden.frames)
    path = bundle.root / bundle.manifest.golden.file.path
    if found.shape != golden.probability.shape:
        raise BundleError(f"{path}: expected golden outputs {found.shape}, found {golden.probability.shape}")
    delta = float(np.abs(found - golden.probability).max())
    if not delta <= GOLDEN_TOLERANCE:  # NaN is refused as well
        raise BundleError(
            f"{path}: expected the reference to reproduce the golden outputs within {GOLDEN_TOLERANCE:g}, "
            f"found a difference of {delta:.3g}: weights or preprocessing differ from the export's"
        )
    return delta


def labels(probability: Probability) -> Labels:
    """The mask of probabilities: (H, W, classes) float32 -> (H, W) uint8."""
    if probability.shape[-1] == 1:
        return np.asarray(probability[..., 0] > PROBABILITY_THRESHOLD, np.uint8)
    return np.asarray(probability.argmax(axis=-1), np.uint8)


def answer(engine: ArtifactRuntime, item: Item) -> tuple[Labels, Probability | None]:
    """An artifact's mask and, unless its head is a mask, its probabilities, from one run."""
    output = engine.invoke(preprocess(item.frame, engine.input))
    probability = None if engine.output.kind is Head.MASK else to_probability(output, engine.output)
    return to_mask(output, engine.output), probability


def _open(run: _Run, threads: int, stack: contextlib.ExitStack) -> None:
    try:
        engine = stack.enter_context(open_runtime(run.contender.artifact, run.contender.spec, threads))
        run.runtime = engine.info
    except NanonetEdgeError as error:
        run.failure = error
        return
    run.engine = engine


def _distinct(runs: Sequence[_Run]) -> list[_Run]:
    """Leave out an artifact on a second spec that does not run, or computes as the first one does."""
    # The precision is that of the convolutions; what the rest is computed in is among the options.
    computed = {
        (run.contender.artifact.name, run.contender.spec): (
            run.runtime.computed_precision,
            run.runtime.options,
        )
        for run in runs
        if run.runtime is not None
    }

    def is_distinct(contender: Contender) -> bool:
        if contender.beside is None:
            return True
        name = contender.artifact.name
        found = computed.get((name, contender.spec))
        return found is not None and found != computed.get((name, contender.beside))

    return [run for run in runs if is_distinct(run.contender)]


def _without_missing(runs: Sequence[_Run]) -> tuple[list[_Run], tuple[Skipped, ...]]:
    """Separate what cannot run for want of an engine.

    Raises:
        MissingExtraError: that is all of them.
    """
    missing = [(run, run.failure) for run in runs if isinstance(run.failure, MissingExtraError)]
    if len(missing) == len(runs):
        raise missing[0][1]
    skipped = tuple(Skipped(artifact=run.contender.artifact.name, reason=str(why)) for run, why in missing)
    return [run for run in runs if not isinstance(run.failure, MissingExtraError)], skipped


def _batches(data: VerificationData) -> Iterator[list[Item]]:
    """Successive images of one size, up to a number and a weight."""
    batch: list[Item] = []
    for item in data:
        full = len(batch) == _BATCH or (len(batch) + 1) * item.frame.nbytes > _BATCH_BYTES
        if batch and (full or item.frame.shape != batch[0].frame.shape):
            yield batch
            batch = []
        batch.append(item)
    yield batch


def _compare(runs: Sequence[_Run], item: Item, reference_p: Probability) -> None:
    reference = labels(reference_p)
    truth: Labels | None = None
    reference_accuracy: ImageAccuracy | None = None
    if item.mask is not None:
        truth = resize_mask(item.mask, (reference.shape[0], reference.shape[1]))
        reference_accuracy = image_accuracy(truth, reference)
    for run in runs:
        if run.engine is None or run.failure is not None:
            continue
        try:
            mask, probability = answer(run.engine, item)
        except NanonetEdgeError as error:
            run.failure = error
            continue
        agreement = image_agreement(item.name, reference, mask, reference_p, probability)
        accuracy = None if truth is None else image_accuracy(truth, mask)
        run.images.append(
            ImageResult(
                agreement=agreement, artifact_accuracy=accuracy, reference_accuracy=reference_accuracy
            )
        )


def _row(run: _Run, thresholds: Thresholds, data: VerificationData, seed: int) -> AgreementRow:
    record = run.contender.artifact.record
    agreements = [] if run.failure else [image.agreement for image in run.images]
    summary = summarise_agreement(agreements, seed) if agreements else None
    reasons = shortfalls(summary, agreements, thresholds) if summary else (str(run.failure),)
    ours = [image.artifact_accuracy for image in run.images if image.artifact_accuracy is not None]
    theirs = [image.reference_accuracy for image in run.images if image.reference_accuracy is not None]
    notes = []
    if record.calibration is not None and record.calibration.digest == data.record.digest:
        notes.append("calibrated on the very images it is verified on: agreement may look too good")
    unjudged = None
    if not run.contender.judged and run.runtime is not None:
        unjudged = f"computed in {run.runtime.computed_precision}; judged on {run.contender.beside}"
    return AgreementRow(
        artifact=record.name,
        format=record.format,
        precision=record.precision,
        spec=run.contender.spec,
        runtime=run.runtime,
        summary=summary,
        small_polyps=summarise_small_polyps(agreements, seed=seed) if summary else None,
        accuracy=summarise_accuracy(theirs, ours, seed) if summary and ours else None,
        passed=not reasons,
        judged=unjudged is None,
        unjudged_reason=unjudged,
        reasons=reasons,
        notes=tuple(notes),
        failure=None if summary else str(run.failure),
        images=tuple(run.images) if summary else (),
    )


def shortfalls(
    summary: AgreementSummary, images: Sequence[ImageAgreement], thresholds: Thresholds
) -> tuple[str, ...]:
    """The thresholds that agreement missed, in words; none where it passes."""
    reasons = []
    if summary.mean_dice < thresholds.mean_dice:
        reasons.append(f"mean Dice {summary.mean_dice:.4f} is below {thresholds.mean_dice:g}")
    if summary.p5_dice < thresholds.p5_dice:
        reasons.append(f"5th percentile of Dice {summary.p5_dice:.4f} is below {thresholds.p5_dice:g}")
    broken = [image.name for image in images if image.missing.get("max_delta_p") == NOT_FINITE]
    if broken:
        reasons.append(f"NaN or infinite output on {len(broken)} images, the first {broken[0]}")
    return tuple(reasons)
