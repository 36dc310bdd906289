"""Which artifact to ship: a pure function of candidates and constraints.

A candidate is an artifact on a runtime. Those that satisfy every constraint compete; among
them the Pareto set is marked (bytes, median frame latency and mean Dice: none beats it in all
three), and the fastest is recommended. Ties go to the better Dice, then the smaller file.
Every other candidate gets the reason why it lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanonet_edge.benchmarks.constraints import Candidate, Constraints, Violation, violations


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate; `reason` is one line, empty for the recommended one."""

    candidate: Candidate
    is_feasible: bool
    is_pareto: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """The recommended candidate, or the one that came nearest.

    Attributes:
        outcomes: one per candidate, in their order.
        recommended: None where no candidate satisfies the constraints.
        nearest: then, the one whose worst violation is the smallest; None otherwise.
    """

    outcomes: tuple[Outcome, ...]
    recommended: Candidate | None
    nearest: Candidate | None


def decide(candidates: Sequence[Candidate], constraints: Constraints) -> Decision:
    """Choose among candidates whose (artifact, runtime) pairs are distinct."""
    violated = {candidate.key: violations(candidate, constraints) for candidate in candidates}
    feasible = [candidate for candidate in candidates if not violated[candidate.key]]
    recommended = min(feasible, key=_preference, default=None)
    pareto = {candidate.key for candidate in feasible if not _dominators(candidate, feasible)}
    outcomes = tuple(
        Outcome(
            candidate=candidate,
            is_feasible=not violated[candidate.key],
            is_pareto=candidate.key in pareto,
            reason=_reason(candidate, violated[candidate.key], feasible, recommended),
        )
        for candidate in candidates
    )
    nearest = None
    if recommended is None:
        nearest = min(candidates, key=lambda one: _distance(one, violated[one.key]), default=None)
    return Decision(outcomes, recommended, nearest)


def dominates(first: Candidate, second: Candidate) -> bool:
    """Whether `first` is nowhere worse than `second` and somewhere better, all figures known."""
    a, b = _objectives(first), _objectives(second)
    if a is None or b is None:
        return False
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _objectives(candidate: Candidate) -> tuple[float, float, float] | None:
    """(milliseconds, -Dice, bytes): smaller is better; None where a figure is missing."""
    if candidate.frame_p50_ms is None or candidate.mean_dice is None:
        return None
    return candidate.frame_p50_ms, -candidate.mean_dice, float(candidate.bytes)


def _preference(candidate: Candidate) -> tuple[float, float, float, str, str]:
    objectives = _objectives(candidate)
    if objectives is None:  # `violations` lets no incomplete candidate through
        raise ValueError(f"{candidate.label}: expected a candidate with all figures")
    return (*objectives, *candidate.key)


def _dominators(candidate: Candidate, others: Sequence[Candidate]) -> list[Candidate]:
    return sorted((other for other in others if dominates(other, candidate)), key=_preference)


def _distance(candidate: Candidate, violated: Sequence[Violation]) -> tuple[float, float, tuple[str, str]]:
    excesses = [violation.excess for violation in violated]
    return max(excesses), sum(excesses), candidate.key


def _reason(
    candidate: Candidate,
    violated: Sequence[Violation],
    feasible: Sequence[Candidate],
    recommended: Candidate | None,
) -> str:
    if violated:
        return "; ".join(violation.text for violation in violated)
    if recommended is None or candidate.key == recommended.key:
        return ""
    if dominators := _dominators(candidate, feasible):
        best = dominators[0]
        return f"dominated by {best.label}: {_advantages(best, candidate)}"
    return f"behind {recommended.label}: {_advantages(recommended, candidate)}" + _consolation(
        candidate, recommended
    )


def _advantages(winner: Candidate, loser: Candidate) -> str:
    """In what `winner` is better, figure by figure."""
    parts = _better(winner, loser)
    return ", ".join(parts) if parts else "equal in every figure, first by name"


def _consolation(loser: Candidate, winner: Candidate) -> str:
    parts = _better(loser, winner)
    return f" (but this one is {', '.join(parts)})" if parts else ""


def _better(one: Candidate, other: Candidate) -> list[str]:
    parts = []
    if (
        one.frame_p50_ms is not None
        and other.frame_p50_ms is not None
        and one.frame_p50_ms < other.frame_p50_ms
    ):
        saved = other.frame_p50_ms - one.frame_p50_ms
        parts.append(f"faster by {saved:.2f} ms ({other.frame_p50_ms / one.frame_p50_ms:.2f}x)")
    if one.mean_dice is not None and other.mean_dice is not None and one.mean_dice > other.mean_dice:
        parts.append(f"better in Dice by {one.mean_dice - other.mean_dice:.4f}")
    if one.bytes < other.bytes:
        parts.append(f"smaller by {(other.bytes - one.bytes) / 1024:.0f} KiB")
    return parts
