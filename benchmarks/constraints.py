"""What an artifact on a runtime is known to be, what it must be, and by how much it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from nanonet_edge.errors import UsageError
from nanonet_edge.results import MIB

#: A Dice of 1 cannot be asked for and measured in relative terms: shortfalls count from here.
_SMALLEST_DICE_BUDGET = 1e-3


@dataclass(frozen=True)
class Candidate:
    """One artifact on one runtime, with what was found out about it.

    Attributes:
        artifact: its name in the bundle.
        runtime: the runtime's spec, with the precision it computed in.
        bytes: size of its files.
        frame_p50_ms, frame_p90_ms: latency from decoded frame to mask.
        fps: 1000 / frame_p50_ms.
        memory_mib: high-water mark above the interpreter's baseline.
        mean_dice: agreement with the reference over the images that were verified.
        missing: why a figure is None, by field name.
        broken: why no figure can make up for it; None if nothing is known against it.
    """

    artifact: str
    runtime: str
    bytes: int
    frame_p50_ms: float | None = None
    frame_p90_ms: float | None = None
    fps: float | None = None
    memory_mib: float | None = None
    mean_dice: float | None = None
    missing: dict[str, str] = field(default_factory=dict, hash=False)
    broken: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells candidates apart."""
        return self.artifact, self.runtime

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{self.artifact} on {self.runtime}"


@dataclass(frozen=True)
class Constraints:
    """What is asked for; None asks for nothing.

    Raises (from the constructor):
        UsageError: a limit that nothing can meet, or that is no number.
    """

    min_dice: float | None = None
    max_p90_ms: float | None = None
    max_mib: float | None = None
    max_memory_mib: float | None = None

    def __post_init__(self) -> None:
        if self.min_dice is not None and not 0.0 <= self.min_dice <= 1.0:
            raise UsageError(f"--min-dice: expected a number from 0 to 1, found {self.min_dice}")
        for name in ("max_p90_ms", "max_mib", "max_memory_mib"):
            limit = getattr(self, name)
            if limit is not None and not 0.0 < limit < math.inf:
                raise UsageError(f"--{name.replace('_', '-')}: expected a positive number, found {limit}")


@dataclass(frozen=True)
class Violation:
    """One constraint that a candidate fails.

    `excess` is by how much, relative to what was allowed (for Dice, to the allowed distance
    from 1), so that violations of different constraints can be compared; infinite where the
    figure is missing or the candidate is broken.
    """

    text: str
    excess: float


def violations(candidate: Candidate, constraints: Constraints) -> tuple[Violation, ...]:
    """Every constraint `candidate` fails; a missing latency or Dice always counts as one."""
    return tuple(_violations(candidate, constraints))


def _violations(candidate: Candidate, constraints: Constraints) -> Iterator[Violation]:
    if candidate.broken is not None:
        yield Violation(candidate.broken, math.inf)
    yield from _required(candidate, "frame_p50_ms", candidate.frame_p50_ms)
    yield from _required(candidate, "mean_dice", candidate.mean_dice)
    least = constraints.min_dice
    if least is not None and candidate.mean_dice is not None and candidate.mean_dice < least:
        budget = max(1.0 - least, _SMALLEST_DICE_BUDGET)
        text = f"mean Dice {candidate.mean_dice:.4f} is {least - candidate.mean_dice:.4f} below {least:g}"
        yield Violation(text, (least - candidate.mean_dice) / budget)
    yield from _at_most("size", candidate.bytes / MIB, constraints.max_mib, "MiB")
    if constraints.max_p90_ms is not None and candidate.frame_p50_ms is not None:
        yield from _required(candidate, "frame_p90_ms", candidate.frame_p90_ms)
        yield from _at_most("p90 frame latency", candidate.frame_p90_ms, constraints.max_p90_ms, "ms")
    if constraints.max_memory_mib is not None:
        yield from _required(candidate, "memory_mib", candidate.memory_mib)
        yield from _at_most("memory", candidate.memory_mib, constraints.max_memory_mib, "MiB")


def _required(candidate: Candidate, name: str, value: float | None) -> Iterator[Violation]:
    if value is None:
        yield Violation(candidate.missing.get(name, f"{name} is not known"), math.inf)


def _at_most(what: str, value: float | None, limit: float | None, unit: str) -> Iterator[Violation]:
    if value is not None and limit is not None and value > limit:
        over = value - limit
        yield Violation(
            f"{what} {value:.2f} {unit} is {over:.2f} {unit} above {limit:g} {unit}", over / limit
        )
