"""Models and data for accuracy tests that lie in memory: what they answer is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.accuracy_models import OpenModel
from nanonet_edge.benchmarks.accuracy_result import ModelRecord
from nanonet_edge.benchmarks.agreement import labels
from nanonet_edge.benchmarks.agreement_data import DataRecord, Item, VerificationData
from nanonet_edge.errors import NanonetEdgeError
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.variants import Topology
from tests.benchmarks.bench_fakes import runtime_record

Truth = npt.NDArray[np.uint8]
Probability = npt.NDArray[np.float32]


def random_masks(count: int, size: int = 24, seed: int = 0) -> list[Truth]:
    """Noise, (size, size) each, a third of it polyp."""
    noise = np.random.default_rng(seed).random((count, size, size)) < 0.3
    return list(noise.astype(np.uint8))


def in_memory(truths: Sequence[Truth]) -> VerificationData:
    """Black frames of the sizes of these masks, named 0, 1, 2 ..."""
    record = DataRecord(
        source="images", folder="memory", count=len(truths), available=len(truths), seed=0, masks=True,
        digest="0" * 64,
    )  # fmt: skip
    items = [
        Item(str(index), np.zeros((*mask.shape, 3), np.uint8), mask) for index, mask in enumerate(truths)
    ]
    return VerificationData(record, {item.name: lambda item=item: item for item in items})  # type: ignore[misc]


@dataclass
class FakeModel:
    """Answers each image with what it was given: probabilities, an error, or `mask_only` a mask."""

    answers: Sequence[Probability | NanonetEdgeError]
    name: str = "fake"
    mask_only: bool = False
    refuses: NanonetEdgeError | None = None
    record: ModelRecord = field(init=False)
    runtime: RuntimeInfo = field(default_factory=lambda: runtime_record("fake"))

    def __post_init__(self) -> None:
        self.record = ModelRecord(
            name=self.name, kind="artifact", variant="c", topology=Topology.RELEASED, size=64,
            sha256="0" * 64, spec="fake",
        )  # fmt: skip

    @contextmanager
    def open(self, threads: int) -> Iterator[OpenModel]:
        self.runtime = self.runtime.model_copy(update={"threads": threads})
        if self.refuses is not None:
            raise self.refuses
        yield self

    def answer(self, item: Item) -> tuple[Truth, Probability | None]:
        found = self.answers[int(item.name)]
        if isinstance(found, NanonetEdgeError):
            raise found
        return labels(found), None if self.mask_only else found


def certain(masks: Sequence[Truth]) -> list[Probability]:
    """Probabilities of 0 and 1 that give these masks."""
    return [mask.astype(np.float32)[..., np.newaxis] for mask in masks]


def sklearn_scores(truth: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> Mapping[str, float]:
    """What scikit-learn says of the pixels of a mask, as the released code asks it.

    Where a ratio has no denominator scikit-learn is told which value to take.
    """
    from sklearn import metrics

    t, m = truth.reshape(-1) > 0, mask.reshape(-1) > 0
    empty = float(not t.any() and not m.any())
    return {
        "dsc": float(metrics.f1_score(t, m, zero_division=empty)),
        "iou": float(metrics.jaccard_score(t, m, zero_division=empty)),
        "precision": float(metrics.precision_score(t, m, zero_division=empty)),
        "recall": float(metrics.recall_score(t, m, zero_division=empty)),
        "specificity": float(metrics.recall_score(t, m, pos_label=0, zero_division=1.0)),
        "f2": float(metrics.fbeta_score(t, m, beta=2.0, zero_division=empty)),
        "accuracy": float(metrics.accuracy_score(t, m)),
    }
