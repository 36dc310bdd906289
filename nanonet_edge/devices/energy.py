"""Energy between states of a device: from counters that wrap around, or from the power of rails."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import model_validator
from typing_extensions import Self

from nanonet_edge.devices.sensors import EnergyCounter
from nanonet_edge.devices.state import DeviceState
from nanonet_edge.manifest import Record


class Energy(Record):
    """The energy through one counter or rail in joules, or the reason why it cannot be told."""

    name: str
    joules: float | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _joules_or_reason(self) -> Self:
        if (self.joules is None) == (self.reason is None):
            raise ValueError("expected either joules or a reason")
        return self


def energy_over(states: Sequence[DeviceState]) -> tuple[Energy, ...]:
    """The energy from the first state to the last, by counter and by rail.

    Counters are exact, if no two neighbours are further apart than one turn of the counter (tens
    of minutes at full power). Rails are integrated by the trapezoid rule over all the states:
    the more of them, the better.
    """
    counted = [_counted(name, states) for name in _names(states, "energy")]
    integrated = [_integrated(name, states) for name in _names(states, "rails")]
    return (*counted, *integrated)


def _names(states: Sequence[DeviceState], field: str) -> list[str]:
    return list(dict.fromkeys(item.name for state in states for item in getattr(state, field)))


def _counted(name: str, states: Sequence[DeviceState]) -> Energy:
    readings = [next((one for one in state.energy if one.name == name), None) for state in states]
    total = 0
    for earlier, later in pairwise(readings):
        if earlier is None or later is None:
            return Energy(name=name, reason="the counter could not be read every time")
        step = _microjoules(earlier, later)
        if step is None:
            return Energy(name=name, reason="the counter went back, and its range is unknown")
        total += step
    return _measured(name, total / 1e6, states)


def _microjoules(earlier: EnergyCounter, later: EnergyCounter) -> int | None:
    """What was counted between two readings of one counter; None if it went back inexplicably."""
    step = later.microjoules - earlier.microjoules
    if step >= 0:
        return step
    turn = earlier.range_microjoules
    if turn is None or turn < earlier.microjoules:
        return None
    return step + turn


def _integrated(name: str, states: Sequence[DeviceState]) -> Energy:
    powers = [next((rail.milliwatts for rail in state.rails if rail.name == name), None) for state in states]
    joules = 0.0
    for (earlier, power), (later, next_power) in pairwise(zip(states, powers, strict=True)):
        if power is None or next_power is None:
            return Energy(name=name, reason="the rail could not be read every time")
        seconds = (later.monotonic_ns - earlier.monotonic_ns) / 1e9
        joules += seconds * (power + next_power) / 2 / 1e3
    return _measured(name, joules, states)


def _measured(name: str, joules: float, states: Sequence[DeviceState]) -> Energy:
    if len(states) < 2:
        return Energy(name=name, reason="expected at least two states")
    return Energy(name=name, joules=joules)
