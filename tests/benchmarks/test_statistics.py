from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nanonet_edge.benchmarks.statistics import excludes_one, ratio_of_medians, summarize
from nanonet_edge.results import Ratio

LATENCIES = st.lists(st.integers(1, 10**11), min_size=1, max_size=300)


@given(LATENCIES)
def test_summary_agrees_with_independent_computations(samples: list[int]) -> None:
    summary = summarize(samples)
    ms = [sample / 1e6 for sample in samples]
    close = pytest.approx
    assert summary.n == len(samples)
    assert summary.min_ms == close(min(ms))
    assert summary.mean_ms == close(statistics.fmean(ms))
    assert summary.p50_ms == close(statistics.median(ms))
    for percent, value in ((90, summary.p90_ms), (95, summary.p95_ms)):
        assert value == close(_percentile(ms, percent))
    assert summary.fps == close(1000 / statistics.median(ms))
    if len(ms) > 1:
        assert summary.variation == close(float(stats.variation(ms, ddof=1)), abs=1e-12)


def _percentile(values: list[float], percent: float) -> float:
    """Linear interpolation between order statistics, written out."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


@given(LATENCIES)
def test_p99_only_from_100_samples(samples: list[int]) -> None:
    p99 = summarize(samples).p99_ms
    assert (p99 is None) == (len(samples) < 100)
    if p99 is not None:
        assert p99 == pytest.approx(_percentile([sample / 1e6 for sample in samples], 99))


@given(LATENCIES, st.randoms(use_true_random=False))
def test_order_does_not_matter_and_percentiles_are_ordered(samples: list[int], random: object) -> None:
    summary = summarize(samples)
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert summarize(shuffled).p90_ms == summary.p90_ms
    assert summary.min_ms <= summary.p50_ms <= summary.p90_ms <= summary.p95_ms
    assert summary.p99_ms is None or summary.p95_ms <= summary.p99_ms


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        summarize([])


@pytest.mark.parametrize(("spread", "warned"), [(0.02, False), (0.03, True)])
def test_warning_above_two_and_a_half_percent(spread: float, warned: bool) -> None:
    # Two equally frequent values at 1 -+ spread have a standard deviation of `spread`.
    samples = [round(1e7 * (1 - spread)), round(1e7 * (1 + spread))] * 500
    warning = summarize(samples).warning
    assert (warning is not None) == warned
    assert warning is None or "2.5%" in warning


def _rounds(generator: np.random.Generator, median_ns: float, count: int) -> list[list[int]]:
    """Rounds that share a mood each: +-3 % between rounds, +-1 % within."""
    moods = generator.normal(1.0, 0.03, count)
    return [[round(median_ns * mood * noise) for noise in generator.normal(1.0, 0.01, 20)] for mood in moods]


@given(factor=st.floats(0.2, 5.0), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_exact_multiple_gives_exact_ratio(factor: float, seed: int) -> None:
    base = [[float(value) for value in samples] for samples in _rounds(np.random.default_rng(seed), 1e7, 8)]
    scaled = [[value * factor for value in samples] for samples in base]
    ratio = ratio_of_medians(
        [np.asarray(samples) for samples in scaled], [np.asarray(samples) for samples in base]
    )
    assert ratio.value == pytest.approx(factor)
    # Paired rounds: what slows both cancels, but for resampled medians of even counts.
    assert ratio.low == pytest.approx(factor)
    assert ratio.high == pytest.approx(factor)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    truth = 1.2
    covered = 0
    runs = 200
    for index in range(runs):
        upper, lower = _rounds(generator, 1.2e7, 16), _rounds(generator, 1e7, 16)
        ratio = ratio_of_medians(upper, lower, paired=False, seed=index)
        covered += ratio.low <= truth <= ratio.high
    assert 0.88 <= covered / runs <= 1.0


def test_interval_agrees_with_scipy() -> None:
    generator = np.random.default_rng(1)
    upper, lower = _rounds(generator, 1.1e7, 30), _rounds(generator, 1e7, 30)
    ours = ratio_of_medians(upper, lower)

    def ratio(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(np.median(a, axis=axis) / np.median(b, axis=axis))

    sides = [np.array([np.median(samples) for samples in side]) for side in (upper, lower)]
    theirs = stats.bootstrap(
        sides, ratio, paired=True, vectorized=True, method="percentile", n_resamples=4000, rng=2
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_same_rounds_give_the_same_interval() -> None:
    rounds = _rounds(np.random.default_rng(2), 1e7, 10)
    assert ratio_of_medians(rounds, rounds[::-1]) == ratio_of_medians(rounds, rounds[::-1])


@pytest.mark.parametrize(
    ("upper", "lower", "message"),
    [
        ([[1]], [[1]], "at least two rounds"),
        ([[1], [1]], [[1], [1], [1]], "as many rounds"),
        ([[1], [0]], [[1], [1]], "positive latencies"),
    ],
)
def test_rounds_that_give_no_ratio_are_refused(
    upper: list[list[int]], lower: list[list[int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_of_medians(upper, lower)


@pytest.mark.parametrize(
    ("low", "high", "excluded"), [(1.01, 1.2, True), (0.8, 0.99, True), (0.9, 1.1, False), (1.0, 1.2, False)]
)
def test_interval_excludes_one(low: float, high: float, excluded: bool) -> None:
    assert excludes_one(Ratio(value=(low + high) / 2, low=low, high=high, confidence=0.95)) is excluded
