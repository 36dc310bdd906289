from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.benchmarks.interleave import duel, judge, take_turns
from nanonet_edge.benchmarks.statistics import ratio_of_medians
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, RoundRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.results import Ratio
from tests.tiny_bundle import make_tiny_bundle

REQUEST = RoundRequest(min_seconds=0.0, min_count=9)


class Machine:
    """A machine whose speed wanders, and on which only one contestant may run at a time."""

    def __init__(self, seed: int, wander: float = 0.05) -> None:
        self.generator = np.random.default_rng(seed)
        self.wander = wander
        self.mood = 1.0
        self.order: list[str] = []


class Contestant:
    """Takes `cost_ms` on a machine in its best mood."""

    def __init__(self, name: str, cost_ms: float, machine: Machine) -> None:
        self.name = name
        self.cost_ms = cost_ms
        self.machine = machine

    def round(self, request: RoundRequest, /) -> tuple[int, ...]:
        machine = self.machine
        machine.order.append(self.name)
        machine.mood = float(np.clip(machine.mood + machine.generator.normal(0, machine.wander), 0.5, 2.0))
        noise = machine.generator.normal(1.0, 0.01, request.min_count)
        return tuple(round(self.cost_ms * 1e6 * machine.mood * value) for value in noise)


def test_rounds_alternate_and_swap_who_goes_first() -> None:
    machine = Machine(0)
    take_turns(Contestant("a", 1, machine), Contestant("b", 1, machine), 4, REQUEST)
    assert "".join(machine.order) == "ab" + "abbaabba"


def test_every_round_of_both_is_kept() -> None:
    machine = Machine(0)
    firsts, seconds = take_turns(Contestant("a", 1, machine), Contestant("b", 2, machine), 6, REQUEST)
    assert [len(samples) for samples in firsts + seconds] == [9] * 12


def _play(cost_a: float, cost_b: float, seed: int) -> str:
    """Judge b against a, after a against itself, on a machine that wanders."""
    machine = Machine(seed)
    a, b = Contestant("a", cost_a, machine), Contestant("b", cost_b, machine)
    noise_floor = ratio_of_medians(*take_turns(a, a, 16, REQUEST))
    return judge(ratio_of_medians(*take_turns(a, b, 16, REQUEST)), noise_floor)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_large_differences_are_found_in_both_directions(seed: int) -> None:
    assert _play(20.0, 10.0, seed) == "faster"
    assert _play(10.0, 20.0, seed) == "slower"


def test_equals_are_seldom_told_apart() -> None:
    verdicts = [_play(10.0, 10.0, seed) for seed in range(200)]
    assert sum(verdict != "no difference shown" for verdict in verdicts) <= 0.08 * len(verdicts)


def _ratio(value: float, low: float, high: float) -> Ratio:
    return Ratio(value=value, low=low, high=high, confidence=0.95)


QUIET = _ratio(1.0, 0.99, 1.01)


@pytest.mark.parametrize(
    ("speedup", "floor", "verdict"),
    [
        (_ratio(1.5, 1.4, 1.6), QUIET, "faster"),
        (_ratio(0.7, 0.6, 0.8), QUIET, "slower"),
        (_ratio(1.2, 0.9, 1.5), QUIET, "no difference shown"),
        # The interval excludes 1, but the baseline differs as much from itself...
        (_ratio(1.05, 1.02, 1.08), _ratio(1.03, 0.98, 1.06), "no difference shown"),
        # ...or did so in the other direction.
        (_ratio(1.05, 1.02, 1.08), _ratio(0.96, 0.94, 1.00), "no difference shown"),
        (_ratio(0.95, 0.93, 0.97), _ratio(1.03, 0.98, 1.06), "no difference shown"),
    ],
)
def test_verdict_needs_the_interval_and_the_noise_floor(speedup: Ratio, floor: Ratio, verdict: str) -> None:
    assert judge(speedup, floor) == verdict


def test_duel_of_two_real_artifacts(tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    requests = [
        LoadRequest(bundle=str(bundle.root), artifact=name, spec="onnxruntime", threads=1)
        for name in ("tiny.fp16.onnx", "tiny.fp32.onnx")
    ]
    result = duel(*requests, rounds=3)
    assert (result.contender, result.baseline) == ("tiny.fp16.onnx", "tiny.fp32.onnx")
    assert result.runtime.name == "onnxruntime"
    assert len(result.contender_rounds_ns) == len(result.baseline_rounds_ns) == result.rounds == 3
    again = ratio_of_medians(result.baseline_rounds_ns, result.contender_rounds_ns)
    assert again == result.speedup
    assert result.verdict == judge(result.speedup, result.noise_floor)
