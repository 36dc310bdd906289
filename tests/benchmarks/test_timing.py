from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.scopes import FrameLoop
from nanonet_edge.benchmarks.timing import (
    CAMERA_HEIGHT,
    CAMERA_WIDTH,
    WARMUP_RUNS,
    camera_frames,
    run_until,
    timed,
    warm_up,
)
from nanonet_edge.bundle import Bundle
from nanonet_edge.contract import Array, InputContract, OutputContract, preprocess
from nanonet_edge.runtimes import Runtime, RuntimeInfo
from tests.tiny_bundle import make_tiny_bundle

MS = 1_000_000


class FakeTime:
    """A clock that moves only when work is done."""

    def __init__(self) -> None:
        self.now = 0
        self.calls = 0

    def clock(self) -> int:
        return self.now

    def work(self, nanoseconds: int) -> None:
        self.now += nanoseconds
        self.calls += 1


def test_every_sample_is_what_the_clock_says() -> None:
    time = FakeTime()
    costs = iter([3, 1, 4, 1, 5, 9, 2, 6])
    sample = timed(lambda: time.work(next(costs) * MS), time.clock)
    samples = run_until(sample, min_seconds=0.0, min_count=8, clock=time.clock)
    assert samples == tuple(cost * MS for cost in (3, 1, 4, 1, 5, 9, 2, 6))


@given(
    cost_ms=st.integers(1, 500),
    min_ms=st.integers(0, 3000),
    min_count=st.integers(1, 200),
)
def test_both_the_duration_and_the_count_are_reached_and_no_more(
    cost_ms: int, min_ms: int, min_count: int
) -> None:
    time = FakeTime()
    sample = timed(lambda: time.work(cost_ms * MS), time.clock)
    samples = run_until(sample, min_seconds=min_ms / 1000, min_count=min_count, clock=time.clock)
    needed = max(min_count, -(-min_ms // cost_ms))
    assert len(samples) == needed
    assert set(samples) == {cost_ms * MS}


def test_no_outlier_is_trimmed() -> None:
    time = FakeTime()
    costs = iter([1, 1, 1, 1000, 1])
    sample = timed(lambda: time.work(next(costs) * MS), time.clock)
    assert max(run_until(sample, min_seconds=0.0, min_count=5, clock=time.clock)) == 1000 * MS


@pytest.mark.parametrize(("cost_ms", "runs"), [(1, 200), (40, 5), (100, WARMUP_RUNS), (1000, WARMUP_RUNS)])
def test_warm_up_lasts_200_ms_and_5_runs(cost_ms: int, runs: int) -> None:
    time = FakeTime()
    assert warm_up(timed(lambda: time.work(cost_ms * MS), time.clock), time.clock) == runs
    assert time.calls == runs


def test_at_least_one_sample_is_taken() -> None:
    time = FakeTime()
    sample = timed(lambda: time.work(MS), time.clock)
    assert run_until(sample, min_seconds=0.0, min_count=0, clock=time.clock) == (MS,)


def test_camera_frames_are_golden_frames_at_vga(tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    frames, source = camera_frames(bundle)
    assert len(frames) == source.count == bundle.manifest.golden.count
    assert {(frame.shape, frame.dtype) for frame in frames} == {
        ((CAMERA_HEIGHT, CAMERA_WIDTH, 3), np.dtype(np.uint8))
    }
    assert "64x64" in source.description
    assert "640x480" in source.description


class FakeRuntime(Runtime):
    """Remembers its inputs and answers with zeros."""

    def __init__(self) -> None:
        contract = InputContract(name="x", shape=(1, 32, 32, 3))
        super().__init__("fake", contract, OutputContract(name="y", shape=(1, 32, 32, 1)))
        self.seen: list[Array] = []

    def _invoke(self, x: Array) -> Array:
        self.seen.append(x)
        return np.zeros(self.output.shape, np.float32)

    def _describe(self) -> RuntimeInfo:
        raise NotImplementedError

    def _release(self) -> None:
        self.seen.clear()


def test_frame_scope_preprocesses_each_frame_in_turn() -> None:
    frames = [np.full((48, 64, 3), level, np.uint8) for level in (0, 100, 200)]
    runtime = FakeRuntime()
    loop = FrameLoop(runtime, frames)
    for _ in range(4):
        assert loop.sample() > 0
    assert loop.note is None
    expected = [preprocess(frames[index], runtime.input) for index in (0, 1, 2, 0)]
    assert all(np.array_equal(seen, want) for seen, want in zip(runtime.seen, expected, strict=True))
