from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.constraints import Candidate, Constraints, violations
from nanonet_edge.benchmarks.decision import Decision, decide, dominates
from nanonet_edge.errors import UsageError
from nanonet_edge.results import MIB

KIB = 1024


def _maybe(values: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), values, values, values)


@st.composite
def candidate(draw: st.DrawFn, index: int = 0) -> Candidate:
    # Few distinct values, so that ties and domination are common.
    p50 = draw(_maybe(st.sampled_from([5.0, 10.0, 20.0, 40.0])))
    return Candidate(
        artifact=f"artifact{index}",
        runtime=draw(st.sampled_from(["x", "y"])),
        bytes=draw(st.sampled_from([100 * KIB, 200 * KIB, 2 * MIB])),
        frame_p50_ms=p50,
        frame_p90_ms=None if p50 is None else p50 * draw(st.sampled_from([1.0, 1.5, 3.0])),
        fps=None if p50 is None else 1000 / p50,
        memory_mib=draw(_maybe(st.sampled_from([20.0, 50.0, 200.0]))),
        mean_dice=draw(_maybe(st.sampled_from([0.9, 0.97, 0.98, 0.999, 1.0]))),
    )


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    return [draw(candidate(index)) for index in range(draw(st.integers(0, 8)))]


CONSTRAINTS = st.builds(
    Constraints,
    min_dice=_maybe(st.sampled_from([0.95, 0.98, 1.0])),
    max_p90_ms=_maybe(st.sampled_from([6.0, 25.0, 100.0])),
    max_mib=_maybe(st.sampled_from([0.15, 1.0, 10.0])),
    max_memory_mib=_maybe(st.sampled_from([30.0, 100.0])),
)


def satisfies(one: Candidate, constraints: Constraints) -> bool:
    """The constraints, written out once more and independently."""
    if one.frame_p50_ms is None or one.mean_dice is None:
        return False
    limits = [
        (one.frame_p90_ms, constraints.max_p90_ms),
        (one.bytes / MIB, constraints.max_mib),
        (one.memory_mib, constraints.max_memory_mib),
    ]
    within = all(limit is None or (value is not None and value <= limit) for value, limit in limits)
    return within and (constraints.min_dice is None or one.mean_dice >= constraints.min_dice)


@given(candidates(), CONSTRAINTS)
def test_recommended_satisfies_is_in_the_pareto_set_and_is_fastest(
    found: list[Candidate], constraints: Constraints
) -> None:
    decision = decide(found, constraints)
    feasible = [one for one in found if satisfies(one, constraints)]
    assert (decision.recommended is None) == (not feasible)
    if decision.recommended is not None:
        outcome = next(one for one in decision.outcomes if one.candidate == decision.recommended)
        assert outcome.is_feasible
        assert outcome.is_pareto
        assert outcome.reason == ""
        assert decision.recommended.frame_p50_ms == min(one.frame_p50_ms or math.inf for one in feasible)


@given(candidates(), CONSTRAINTS)
def test_pareto_set_is_what_no_feasible_candidate_dominates(
    found: list[Candidate], constraints: Constraints
) -> None:
    feasible = [one for one in found if satisfies(one, constraints)]
    for outcome in decide(found, constraints).outcomes:
        one = outcome.candidate
        assert outcome.is_feasible == (one in feasible)
        beaten = any(
            other.frame_p50_ms <= one.frame_p50_ms
            and other.mean_dice >= one.mean_dice
            and other.bytes <= one.bytes
            and (other.frame_p50_ms, other.mean_dice, other.bytes)
            != (one.frame_p50_ms, one.mean_dice, one.bytes)
            for other in feasible
            if one in feasible
        )
        assert outcome.is_pareto == (one in feasible and not beaten)


@given(candidates(), CONSTRAINTS)
def test_every_loser_has_a_reason(found: list[Candidate], constraints: Constraints) -> None:
    decision = decide(found, constraints)
    assert [outcome.candidate for outcome in decision.outcomes] == found
    for outcome in decision.outcomes:
        assert bool(outcome.reason) == (outcome.candidate != decision.recommended)


@given(candidates(), CONSTRAINTS, st.sampled_from([0, 100 * KIB]), st.sampled_from([0.0, 5.0]), st.data())
def test_adding_a_dominated_candidate_never_changes_the_recommendation(
    found: list[Candidate], constraints: Constraints, larger: int, slower: float, data: st.DataObject
) -> None:
    before = decide(found, constraints).recommended
    feasible = [one for one in found if satisfies(one, constraints)]
    if not feasible:
        return
    model = data.draw(st.sampled_from(feasible))
    assert model.frame_p50_ms is not None
    added = dataclasses.replace(
        model, artifact="added", bytes=model.bytes + larger, frame_p50_ms=model.frame_p50_ms + slower
    )
    if dominates(model, added):
        position = data.draw(st.integers(0, len(found)))
        assert decide([*found[:position], added, *found[position:]], constraints).recommended == before


@given(candidates(), CONSTRAINTS, st.randoms(use_true_random=False))
def test_order_of_the_candidates_does_not_matter(
    found: list[Candidate], constraints: Constraints, random: object
) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before, after = decide(found, constraints), decide(shuffled, constraints)
    assert (before.recommended, before.nearest) == (after.recommended, after.nearest)


@given(candidates(), CONSTRAINTS)
def test_removing_any_loser_keeps_the_recommendation(
    found: list[Candidate], constraints: Constraints
) -> None:
    recommended = decide(found, constraints).recommended
    if recommended is None:
        return
    for loser in found:
        if loser != recommended:
            rest = [one for one in found if one != loser]
            assert decide(rest, constraints).recommended == recommended


@given(candidates(), CONSTRAINTS)
def test_relaxing_every_constraint_never_slows_the_recommendation(
    found: list[Candidate], constraints: Constraints
) -> None:
    strict, relaxed = decide(found, constraints).recommended, decide(found, Constraints()).recommended
    if strict is not None:
        assert relaxed is not None
        assert (relaxed.frame_p50_ms or math.inf) <= (strict.frame_p50_ms or math.inf)


@given(candidates(), CONSTRAINTS)
def test_nearest_miss_exists_only_without_a_recommendation(
    found: list[Candidate], constraints: Constraints
) -> None:
    decision = decide(found, constraints)
    assert (decision.nearest is not None) == (decision.recommended is None and bool(found))


@given(candidates(), candidates())
def test_domination_is_a_strict_order(first: list[Candidate], second: list[Candidate]) -> None:
    for one in first:
        assert not dominates(one, one)
        for other in second:
            assert not (dominates(one, other) and dominates(other, one))


def _known(name: str, p50: float, dice: float, kib: int, **more: float) -> Candidate:
    fields = {"frame_p90_ms": p50 * 1.1, "memory_mib": 30.0, "fps": 1000 / p50, **more}
    return Candidate(artifact=name, runtime="x", bytes=kib * KIB, frame_p50_ms=p50, mean_dice=dice, **fields)


def _reasons(decision: Decision) -> dict[str, str]:
    return {outcome.candidate.artifact: outcome.reason for outcome in decision.outcomes}


def test_reasons_name_the_winner_the_figures_and_the_misses() -> None:
    found = [
        _known("fast", 5.0, 0.99, 100),
        _known("worse", 10.0, 0.985, 200),
        _known("precise", 8.0, 1.0, 300),
        _known("vague", 2.0, 0.9, 50),
        Candidate("broken", "x", 10, missing={"frame_p50_ms": "it crashed", "mean_dice": "not verified"}),
    ]
    decision = decide(found, Constraints(min_dice=0.98))
    assert decision.recommended == found[0]
    assert _reasons(decision) == {
        "fast": "",
        "worse": (
            "dominated by fast on x: faster by 5.00 ms (2.00x), better in Dice by 0.0050, smaller by 100 KiB"
        ),
        "precise": (
            "behind fast on x: faster by 3.00 ms (1.60x), smaller by 200 KiB "
            "(but this one is better in Dice by 0.0100)"
        ),
        "vague": "mean Dice 0.9000 is 0.0800 below 0.98",
        "broken": "it crashed; not verified",
    }


def test_nearest_miss_is_the_smallest_relative_one() -> None:
    found = [
        _known("slow", 60.0, 1.0, 100, frame_p90_ms=60.0),  # 50 % too slow
        _known("vague", 5.0, 0.9757, 100),  # a fifth more disagreement than allowed
        _known("large", 5.0, 1.0, 3 * 1024),  # three times too large
    ]
    decision = decide(found, Constraints(min_dice=0.98, max_p90_ms=40, max_mib=1))
    assert decision.recommended is None
    assert decision.nearest == found[1]
    assert _reasons(decision)["slow"] == "p90 frame latency 60.00 ms is 20.00 ms above 40 ms"
    assert _reasons(decision)["large"] == "size 3.00 MiB is 2.00 MiB above 1 MiB"


def test_missing_memory_fails_a_memory_constraint_only() -> None:
    one = dataclasses.replace(_known("a", 5.0, 1.0, 10), memory_mib=None, missing={"memory_mib": "not told"})
    assert violations(one, Constraints()) == ()
    (violation,) = violations(one, Constraints(max_memory_mib=10))
    assert (violation.text, violation.excess) == ("not told", math.inf)


def test_broken_candidate_is_never_recommended_nor_nearest() -> None:
    broken = dataclasses.replace(_known("broken", 1.0, 1.0, 10), broken="NaN")
    sound = _known("sound", 60.0, 0.99, 100)
    assert decide([broken, sound], Constraints()).recommended == sound
    decision = decide([broken, sound], Constraints(max_p90_ms=1))
    assert decision.nearest == sound
    assert _reasons(decision)["broken"].startswith("NaN")


@pytest.mark.parametrize(
    "limits",
    [
        {"min_dice": 1.1},
        {"min_dice": math.nan},
        {"max_p90_ms": 0.0},
        {"max_mib": -1.0},
        {"max_memory_mib": math.inf},
    ],
)
def test_impossible_constraints_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"--(min-dice|max-p90-ms|max-mib|max-memory-mib): expected"):
        Constraints(**limits)
