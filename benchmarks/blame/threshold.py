"""How much of the lost agreement a better cut-off gives back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.blame.result import ThresholdFit

Probability = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]

#: Cut-offs that are tried: every one that 8-bit probabilities can tell apart.
CUTOFFS: Final = np.arange(1, 256, dtype=np.float64) / 256
_DEFAULT: Final = 127


def fit_threshold(
    outputs: Sequence[Probability], references: Sequence[Labels], source: Literal["engine", "simulation"]
) -> ThresholdFit | None:
    """Fit one cut-off for all frames, crosswise: on every other frame, judged on those between.

    Args:
        outputs: probabilities (H, W, 1) of the artifact.
        references: masks (H, W) of the reference.
        source: whose outputs they are.

    Returns:
        None where there is more than one class, or fewer than two frames.
    """
    if len(outputs) < 2 or outputs[0].shape[-1] != 1:
        return None
    scores = np.stack([dice_by_cutoff(p[..., 0], m) for p, m in zip(outputs, references, strict=True)])
    halves = (scores[0::2], scores[1::2])
    fitted = [
        judged[:, best_cutoff(fitted_on)].sum() for fitted_on, judged in (halves, (halves[1], halves[0]))
    ]
    default, after = float(scores[:, _DEFAULT].mean()), float(sum(fitted) / len(scores))
    return ThresholdFit(
        source=source,
        default=float(CUTOFFS[_DEFAULT]),
        threshold=float(CUTOFFS[best_cutoff(scores)]),
        dice_default=default,
        dice_fitted=after,
        offset=after - default,
        structural=1.0 - after,
    )


def dice_by_cutoff(probability: Probability, reference: Labels) -> Scores:
    """Dice of ``probability > cutoff`` with a mask of the same shape, for every cut-off.

    Two empty masks count as 1.
    """
    above = np.searchsorted(CUTOFFS, probability.reshape(-1), side="left")
    positive = reference.reshape(-1) != 0
    found, hits = (_beyond(above), _beyond(above[positive]))
    whole = found + np.count_nonzero(positive)
    return np.where(whole == 0, 1.0, 2 * hits / np.maximum(whole, 1))


def _beyond(above: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """For each cut-off, how many values lie above it; `above` is how many cut-offs lie below a value."""
    counts = np.bincount(above, minlength=len(CUTOFFS) + 1)
    return np.asarray(counts[::-1].cumsum()[::-1][1:], np.int64)


def best_cutoff(scores: Scores) -> int:
    """The index of the best cut-off of (frames, cut-offs); of equal ones that nearest to the default."""
    means = scores.mean(axis=0)
    best = np.flatnonzero(means >= means.max() - 1e-12)
    return int(best[np.argmin(np.abs(best - _DEFAULT))])
