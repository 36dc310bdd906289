"""Statistics of latencies: percentiles over all samples, and intervals for ratios of medians."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nanonet_edge.results import LatencySummary, Ratio

#: Below this count the 99th percentile is an extrapolation from a single sample.
P99_MIN_COUNT = 100
#: Above this coefficient of variation a machine is not quiet enough to trust small differences.
STABLE_VARIATION = 0.025
BOOTSTRAP_RESAMPLES = 4000
CONFIDENCE = 0.95

Samples = Sequence[int] | npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def summarize(samples_ns: Samples) -> LatencySummary:
    """Summarise latencies given in nanoseconds; nothing is trimmed.

    Percentiles interpolate linearly between order statistics; the coefficient of variation
    uses the sample standard deviation (n - 1).

    Raises:
        ValueError: there are no samples.
    """
    values = np.asarray(samples_ns, np.float64) / 1e6
    if values.size == 0:
        raise ValueError("expected at least one sample, found none")
    p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
    mean = float(values.mean())
    variation = float(values.std(ddof=1) / mean) if values.size > 1 and mean > 0 else 0.0
    return LatencySummary(
        n=int(values.size),
        min_ms=float(values.min()),
        mean_ms=mean,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99 if values.size >= P99_MIN_COUNT else None,
        variation=variation,
        fps=1000.0 / max(p50, 1e-6),
        warning=_variation_warning(variation),
    )


def _variation_warning(variation: float) -> str | None:
    if variation <= STABLE_VARIATION:
        return None
    return (
        f"coefficient of variation {variation:.1%} is above {STABLE_VARIATION:.1%}: the machine is not quiet"
    )


def ratio_of_medians(
    numerator: Sequence[Samples], denominator: Sequence[Samples], *, paired: bool = True, seed: int = 0
) -> Ratio:
    """The ratio of two medians with a bootstrap percentile interval over rounds.

    Each side is a list of rounds. A round stands for its median: samples within a round
    share the machine's mood of that moment and are not independent, so rounds are what is
    resampled. The ratio is the median of the numerator's rounds over the median of the
    denominator's.

    Args:
        numerator: rounds of samples.
        denominator: the same of the other side.
        paired: round i of both sides was taken side by side, so they are drawn together.
        seed: of the resampling, so that the same rounds give the same interval.

    Raises:
        ValueError: fewer than two rounds, or paired sides of different lengths.
    """
    upper, lower = _round_medians(numerator), _round_medians(denominator)
    if paired and len(upper) != len(lower):
        raise ValueError(f"expected as many rounds on both sides, found {len(upper)} and {len(lower)}")
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, len(upper), (BOOTSTRAP_RESAMPLES, len(upper)))
    other = draws if paired else generator.integers(0, len(lower), (BOOTSTRAP_RESAMPLES, len(lower)))
    ratios = np.median(upper[draws], axis=1) / np.median(lower[other], axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(ratios, (tail, 100 - tail))
    return Ratio(
        value=float(np.median(upper) / np.median(lower)),
        low=float(low),
        high=float(high),
        confidence=CONFIDENCE,
    )


def _round_medians(rounds: Sequence[Samples]) -> Floats:
    if len(rounds) < 2:
        raise ValueError(f"expected at least two rounds, found {len(rounds)}")
    medians = np.array([np.median(np.asarray(samples, np.float64)) for samples in rounds])
    if not (medians > 0).all():
        raise ValueError("expected positive latencies in every round")
    return medians


def excludes_one(ratio: Ratio) -> bool:
    """Whether a ratio's interval lies wholly above or wholly below 1."""
    return ratio.low > 1.0 or ratio.high < 1.0
