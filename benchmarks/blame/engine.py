"""The artifact in its own engine: what the simulation is held against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nanonet_edge import masks
from nanonet_edge.benchmarks.agreement import answer
from nanonet_edge.benchmarks.agreement_data import Item
from nanonet_edge.benchmarks.blame.result import EngineCheck
from nanonet_edge.benchmarks.full_precision import FULL_PRECISION
from nanonet_edge.bundle import Artifact
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes import default_spec, open_runtime

Probability = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class EngineRun:
    """What an engine answered: masks (H, W), and probabilities (H, W, classes)."""

    spec: str
    runtime: RuntimeInfo
    labels: list[Labels]
    probabilities: list[Probability]

    def check(
        self, labels: Sequence[Labels], probabilities: Sequence[Probability], unit: float
    ) -> EngineCheck:
        """Hold a simulation's answers against the engine's; `unit` is that of stored probabilities."""
        apart = np.stack(
            [np.abs(a - b) / unit for a, b in zip(probabilities, self.probabilities, strict=True)]
        )
        dice = [masks.overlap(a, b).dice for a, b in zip(self.labels, labels, strict=True)]
        return EngineCheck(
            spec=self.spec,
            runtime=self.runtime,
            lsb=unit,
            max_lsb=float(apart.max()),
            # Half a unit of tolerance: units are whole, float32 arithmetic is not.
            share_beyond_lsb=float(np.mean(apart > 1.5)),
            mean_dice=float(np.mean(dice)),
        )


def run_engine(artifact: Artifact, items: Iterable[Item]) -> EngineRun:
    """Run an artifact in the usual engine of its format; what is float in it, in true fp32.

    Raises:
        MissingExtraError: the engine is not installed.
        RuntimeFailure: it refused the file.
    """
    usual = default_spec(artifact.record.format)
    spec = FULL_PRECISION.get(usual, usual)
    with open_runtime(artifact, spec) as engine:
        answers = [answer(engine, item) for item in items]
        return EngineRun(
            spec, engine.info, [a[0] for a in answers], [a[1] for a in answers if a[1] is not None]
        )
