"""A device while something was measured on it: its states, whether the run counts, the energy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from nanonet_edge.devices.energy import energy_over
from nanonet_edge.devices.state import DeviceState
from nanonet_edge.devices.validity import Validity
from nanonet_edge.figures import Figure
from nanonet_edge.manifest import Record

Scope = Literal["invoke", "frame"]


class EnergyPerInference(Record):
    """What one inference, or one frame, takes by one rail or counter.

    It is the mean power in watts of the states that were read while the scope ran, times the
    scope's duration, by the number of inferences: all that goes through the rail counts, an idle
    board's share too. `meter` is the rail's or counter's name, None where the device has none.
    """

    scope: Scope
    meter: str | None
    watts: Figure
    millijoules: Figure


class WatchedRun(Record):
    """The states before, during (about one a second) and after a run, and what follows from them."""

    before: DeviceState
    samples: tuple[DeviceState, ...]
    after: DeviceState
    validity: Validity
    energy: tuple[EnergyPerInference, ...] = ()

    @property
    def objection(self) -> str | None:
        """Why the run does not count, in one line; None if it does."""
        return None if self.validity.valid else "; ".join(self.validity.reasons)


def energy_per_inference(
    scope: Scope, states: Sequence[DeviceState], window_ns: tuple[int, int] | None, inferences: int
) -> tuple[EnergyPerInference, ...]:
    """Energy by every rail and counter of the device.

    Args:
        scope: what was run.
        states: of the whole run, in order.
        window_ns: when the scope began and ended, on the clock of `time.monotonic_ns`; None if
            its runs were not one after the other.
        inferences: how many there were in that time, one after the other.

    Returns:
        One per rail or counter; a single one with the reason where there is none.
    """
    if not any(state.energy or state.rails for state in states):
        unknown = states[0].unknown if states else {}
        reasons = [unknown[field] for field in ("rails", "energy") if field in unknown]
        return (_missing(scope, None, "; ".join(reasons) or "the device was not read"),)
    if window_ns is None:
        return (_missing(scope, None, "the runs of this scope did not follow each other without a pause"),)
    start, end = window_ns
    within = [state for state in states if start <= state.monotonic_ns <= end]
    if len(within) < 2:
        return (_missing(scope, None, "the scope was over before the device was read twice"),)
    return tuple(_by_meter(scope, within, (end - start) / 1e9 / inferences))


def _by_meter(
    scope: Scope, states: Sequence[DeviceState], seconds_each: float
) -> Iterator[EnergyPerInference]:
    seconds = (states[-1].monotonic_ns - states[0].monotonic_ns) / 1e9
    for energy in energy_over(states):
        if energy.joules is None:
            yield _missing(scope, energy.name, energy.reason or "")
            continue
        watts = energy.joules / seconds
        yield EnergyPerInference(
            scope=scope,
            meter=energy.name,
            watts=Figure(obtained="measured", unit="W", value=watts),
            millijoules=Figure(obtained="measured", unit="mJ", value=1e3 * watts * seconds_each),
        )


def _missing(scope: Scope, meter: str | None, reason: str) -> EnergyPerInference:
    return EnergyPerInference(
        scope=scope,
        meter=meter,
        watts=Figure(obtained="measured", unit="W", reason=reason),
        millijoules=Figure(obtained="measured", unit="mJ", reason=reason),
    )
