from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.pacing import (
    judge_drift,
    judge_pacing,
    judge_sustained,
    run_back_to_back,
    run_paced,
)
from nanonet_edge.machine import Conditions

MS = 1_000_000
COOL = Conditions(frequency_mhz=1000.0, temperature_c=40.0)


class World:
    """Time that passes by working and sleeping only; the cost of frame n is `costs(n)` ms."""

    def __init__(self, *costs_ms: float) -> None:
        self.now = 17 * MS
        self.frame = 0
        self.costs_ms = costs_ms

    def clock(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += max(1, round(seconds * 1e9))

    def work(self) -> None:
        self.now += round(self.costs_ms[self.frame % len(self.costs_ms)] * MS)
        self.frame += 1


def test_frames_in_time_miss_nothing() -> None:
    world = World(10.0)
    trace = run_paced(world.work, fps=25, seconds=2, clock=world.clock, sleep=world.sleep, probe=lambda: COOL)
    pacing = judge_pacing(trace, 25)
    assert (pacing.frames, pacing.missed, pacing.missed_ratio, pacing.worst_lateness_ms) == (50, 0, 0.0, 0.0)
    assert pacing.latency.p50_ms == pytest.approx(10.0)


def test_one_slow_frame_delays_the_ones_behind_it() -> None:
    world = World(*[10.0] * 4, 100.0, *[10.0] * 5)
    trace = run_paced(
        world.work, fps=25, seconds=0.4, clock=world.clock, sleep=world.sleep, probe=lambda: COOL
    )
    # Frame 4 takes 100 ms; 5 waits 60 and 6 waits 30 before their own 10; 7 is back in time.
    expected = [10, 10, 10, 10, 100, 70, 40, 10, 10, 10]
    assert [round(value / MS) for value in trace.latencies] == expected
    pacing = judge_pacing(trace, 25)
    assert (pacing.missed, pacing.worst_lateness_ms) == (2, pytest.approx(60.0))


def test_hopelessly_slow_engine_misses_all_and_lags_ever_more() -> None:
    world = World(50.0)
    trace = run_paced(world.work, fps=25, seconds=4, clock=world.clock, sleep=world.sleep, probe=lambda: COOL)
    pacing = judge_pacing(trace, 25)
    assert pacing.missed_ratio == 1.0
    # 100 frames arrive in 4 s, of which 80 are served; the run is not prolonged for the others.
    assert (pacing.frames, pacing.missed, pacing.unserved) == (100, 100, 20)
    assert trace.finished[-1] == 4000 * MS
    assert (np.diff(trace.latencies) == 10 * MS).all()


@given(cost=st.floats(0.1, 200.0), fps=st.floats(1.0, 200.0), seconds=st.floats(0.1, 5.0))
def test_a_constant_cost_misses_all_or_nothing(cost: float, fps: float, seconds: float) -> None:
    world = World(cost)
    trace = run_paced(
        world.work, fps=fps, seconds=seconds, clock=world.clock, sleep=world.sleep, probe=lambda: COOL
    )
    pacing = judge_pacing(trace, fps)
    assert pacing.frames == max(1, int(seconds * fps))
    period = 1000.0 / fps
    if cost < period - 0.001:
        assert pacing.missed == 0
    elif cost > period + 0.001:
        assert pacing.missed == pacing.frames


def test_back_to_back_runs_for_the_time_asked() -> None:
    world = World(30.0)
    trace = run_back_to_back(world.work, seconds=3.0, clock=world.clock, probe=lambda: COOL)
    assert len(trace.arrived) == 100
    assert trace.finished[-1] == 3000 * MS


def test_buckets_hold_their_own_frames_and_conditions() -> None:
    world = World(100.0)
    temperatures = iter([40.0, 50.0, 60.0, 70.0])
    trace = run_back_to_back(
        world.work,
        seconds=3.0,
        bucket_seconds=1.0,
        clock=world.clock,
        probe=lambda: Conditions(frequency_mhz=900.0, temperature_c=next(temperatures)),
    )
    sustained = judge_sustained(trace, minutes=0.05, fps=None, bucket_seconds=1.0)
    assert [bucket.summary.n for bucket in sustained.buckets] == [10, 10, 10]
    assert [bucket.start_s for bucket in sustained.buckets] == [0.0, 1.0, 2.0]
    assert [bucket.conditions.temperature_c for bucket in sustained.buckets] == [40.0, 50.0, 60.0]
    assert len(sustained.samples_ns) == 30


def test_frame_belongs_to_the_bucket_in_which_it_was_done() -> None:
    # Frames arrive every 100 ms and take 300: those that arrived in the first second take three.
    world = World(300.0)
    temperatures = iter([40.0, 50.0, 60.0, 70.0])
    trace = run_paced(
        world.work,
        fps=10,
        seconds=3.0,
        bucket_seconds=1.0,
        clock=world.clock,
        sleep=world.sleep,
        probe=lambda: Conditions(frequency_mhz=900.0, temperature_c=next(temperatures)),
    )
    sustained = judge_sustained(trace, minutes=0.05, fps=10, bucket_seconds=1.0)
    assert [bucket.summary.n for bucket in sustained.buckets] == [3, 3, 4]
    assert [bucket.conditions.temperature_c for bucket in sustained.buckets] == [40.0, 50.0, 60.0]


def test_frame_that_outlasts_the_run_opens_no_bucket() -> None:
    world = World(700.0)
    trace = run_back_to_back(
        world.work, seconds=2.0, bucket_seconds=1.0, clock=world.clock, probe=lambda: COOL
    )
    sustained = judge_sustained(trace, minutes=2.0 / 60, fps=None, bucket_seconds=1.0)
    assert [bucket.summary.n for bucket in sustained.buckets] == [1, 2]


def test_a_stub_of_a_bucket_is_shown_but_not_judged() -> None:
    # 2.2 buckets: the last 20 frames are ten times slower, which is too short to call a drift.
    world = World(*[1.0] * 2000, *[10.0] * 20)
    trace = run_back_to_back(
        world.work, seconds=2.2, bucket_seconds=1.0, clock=world.clock, probe=lambda: COOL
    )
    sustained = judge_sustained(trace, minutes=2.2 / 60, fps=None, bucket_seconds=1.0)
    assert len(sustained.buckets) == 3
    assert sustained.drift.verdict == "steady"


def _bucket(generator: np.random.Generator, median_ms: float) -> np.ndarray:
    return np.asarray(generator.normal(median_ms, 0.01 * median_ms, 600) * MS, np.int64)


@pytest.mark.parametrize(
    ("last_ms", "verdict"),
    [(10.0, "steady"), (10.1, "steady"), (13.0, "slower"), (30.0, "slower"), (8.0, "faster")],
)
def test_drift_verdict(last_ms: float, verdict: str) -> None:
    generator = np.random.default_rng(0)
    drift = judge_drift([_bucket(generator, 10.0), _bucket(generator, 11.0), _bucket(generator, last_ms)])
    assert drift.verdict == verdict
    assert drift.ratio is not None
    assert drift.ratio.value == pytest.approx(last_ms / 10.0, rel=0.01)


def test_noise_that_is_larger_than_the_change_is_no_drift() -> None:
    generator = np.random.default_rng(1)

    def rough(median_ms: float) -> np.ndarray:
        moods = np.repeat(generator.normal(1.0, 0.2, 12), 50)
        return np.asarray(median_ms * moods * MS, np.int64)

    assert judge_drift([rough(10.0), rough(10.5)]).verdict == "steady"


@pytest.mark.parametrize(("buckets", "reason"), [(1, "shorter than two buckets"), (2, "at least 24 frames")])
def test_too_little_to_judge_gives_a_reason(buckets: int, reason: str) -> None:
    drift = judge_drift([np.full(10, 10 * MS)] * buckets)
    assert drift.verdict is None
    assert reason in (drift.reason or "")


def test_every_frame_of_a_trace_reaches_the_result() -> None:
    world = World(7.0)
    trace = run_paced(world.work, fps=50, seconds=1, clock=world.clock, sleep=world.sleep, probe=lambda: COOL)
    assert judge_pacing(trace, 50).latencies_ns == tuple(7 * MS for _ in range(50))
