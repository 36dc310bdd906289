"""Which of two artifacts is faster, told apart from the noise of the machine.

Both are loaded in processes of their own and take turns in short rounds, never two at once,
so a slow minute of the machine hits both. First the baseline runs against a second copy of
itself: that ratio's interval is the noise floor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from nanonet_edge.benchmarks.statistics import excludes_one, ratio_of_medians
from nanonet_edge.benchmarks.timing import WARMUP_RUNS, WARMUP_SECONDS
from nanonet_edge.benchmarks.worker_process import Worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest, RoundRequest
from nanonet_edge.results import Duel, Ratio

DEFAULT_ROUNDS = 16
ROUND_SECONDS = 0.15
ROUND_COUNT = 5

Rounds = tuple[tuple[int, ...], ...]


class Contestant(Protocol):
    """Something that can be timed for a round."""

    def round(self, request: RoundRequest, /) -> tuple[int, ...]:
        """Durations in nanoseconds."""


def take_turns(
    first: Contestant, second: Contestant, rounds: int, request: RoundRequest
) -> tuple[Rounds, Rounds]:
    """Time two contestants in alternating rounds: first-second, second-first, and so on.

    Reversing every other pair cancels a steady drift of the machine. Each is warmed up before
    its first round.
    """
    warm_up = request.model_copy(update={"min_seconds": WARMUP_SECONDS, "min_count": WARMUP_RUNS})
    for contestant in (first, second):
        contestant.round(warm_up)
    firsts: list[tuple[int, ...]] = []
    seconds: list[tuple[int, ...]] = []
    pair = ((first, firsts), (second, seconds))
    for index in range(rounds):
        for contestant, samples in pair if index % 2 == 0 else reversed(pair):
            samples.append(contestant.round(request))
    return tuple(firsts), tuple(seconds)


def judge(speedup: Ratio, noise_floor: Ratio) -> Literal["faster", "slower", "no difference shown"]:
    """The verdict on a contender whose speed-up over the baseline is `speedup`.

    It differs only if the interval excludes 1 and the ratio is farther from 1 than any ratio,
    upwards or downwards, that the baseline's interval against itself reaches.
    """
    reach = max(noise_floor.high, 1.0 / noise_floor.low, 1.0)
    if not excludes_one(speedup) or 1.0 / reach <= speedup.value <= reach:
        return "no difference shown"
    return "faster" if speedup.value > 1.0 else "slower"


def duel(
    contender: LoadRequest,
    baseline: LoadRequest,
    *,
    rounds: int = DEFAULT_ROUNDS,
    start: Callable[[LoadRequest], Worker] = Worker,
) -> Duel:
    """Compare two artifacts on the same runtime.

    Args:
        contender: the artifact that is claimed to be faster.
        baseline: what it is compared with.
        rounds: per artifact, at least 2; the noise floor is taken with as many.
        start: how to start a worker.

    Raises:
        RuntimeFailure: an engine refused an artifact or a process died.
    """
    request = RoundRequest(min_seconds=ROUND_SECONDS, min_count=ROUND_COUNT)
    with start(baseline) as reference:
        reference.load()
        with start(baseline) as copy:
            copy.load()
            originals, copies = take_turns(reference, copy, rounds, request)
        with start(contender) as challenger:
            challenger.load()
            baseline_rounds, contender_rounds = take_turns(reference, challenger, rounds, request)
            runtime = challenger.describe()
    noise_floor = ratio_of_medians(originals, copies)
    speedup = ratio_of_medians(baseline_rounds, contender_rounds)
    return Duel(
        obtained="measured",
        contender=contender.subject,
        baseline=baseline.subject,
        spec=contender.spec,
        runtime=runtime,
        noise_floor=noise_floor,
        speedup=speedup,
        verdict=judge(speedup, noise_floor),
        rounds=rounds,
        contender_rounds_ns=contender_rounds,
        baseline_rounds_ns=baseline_rounds,
    )
