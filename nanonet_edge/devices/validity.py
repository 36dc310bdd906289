"""Whether a measurement counts: not if the device was throttled or undervolted while it ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nanonet_edge.devices.state import DeviceState
from nanonet_edge.manifest import Record

#: A clock below this share of its highest, under a governor that holds it there, was taken away.
_LOST_CLOCK = 0.9
#: Governors that hold the highest clock whatever the load.
_FIXED_GOVERNORS = frozenset({"performance"})


class Validity(Record):
    """The verdict on a run.

    Attributes:
        reasons: why it does not count, one line each; empty if `valid`.
        warnings: what does not invalidate it but should be said beside its figures.
        watched: what was watched; a run that could not be watched at all is valid, with a warning.
    """

    valid: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    watched: tuple[str, ...]


def judge(before: DeviceState, samples: Sequence[DeviceState], after: DeviceState) -> Validity:
    """Judge a run by the device's state before it, while it ran, and after it."""
    states = (before, *samples, after)
    found = (*_firmware(states), *_heat(states), *_settings(states), *_clocks(samples))
    reasons = tuple(dict.fromkeys(found))
    watched = _watched(states)
    warnings = tuple(dict.fromkeys(_warnings(before, states, watched)))
    return Validity(valid=not reasons, reasons=reasons, warnings=warnings, watched=watched)


def _firmware(states: Sequence[DeviceState]) -> Iterator[str]:
    """Undervoltage and throttling as a Raspberry Pi's firmware and kernel tell."""
    words = [state.throttling for state in states if state.throttling is not None]
    for word in words:
        for condition in word.now:
            yield f"{condition} (get_throttled 0x{word.word:x})"
    if words:
        for condition in words[-1].since_boot:
            is_new = condition not in words[0].since_boot
            if is_new and not any(condition in word.now for word in words):
                yield f"{condition} between two looks (get_throttled 0x{words[-1].word:x})"
    if any(state.undervoltage_alarm for state in states):
        yield "undervoltage (alarm of the sensor rpi_volt)"


def _heat(states: Sequence[DeviceState]) -> Iterator[str]:
    """Events that were counted while it ran, and cooling devices that were on."""
    first = {counter.name: counter.count for counter in states[0].counters}
    for counter in states[-1].counters:
        risen = counter.count - first.get(counter.name, counter.count)
        if risen > 0:
            yield f"{counter.name}: {risen} while it ran"
    for state in states:
        for cooling in state.cooling:
            if cooling.state > 0:
                yield f"slowed down against heat by the cooling device {cooling.device}"


def _settings(states: Sequence[DeviceState]) -> Iterator[str]:
    """Settings that were not the same all the time."""
    governors = [_governors(state) for state in states if state.cores]
    if any(found != governors[0] for found in governors[1:]):
        yield "the frequency governor was changed while it ran"
    modes = [state.power_mode for state in states if state.power_mode is not None]
    if any(mode != modes[0] for mode in modes[1:]):
        yield "the power mode was changed while it ran"
    limits = [{core.core: core.limit_mhz for core in state.cores} for state in states if state.cores]
    if any(limit != limits[0] for limit in limits[1:]):
        yield "the clocks' upper limit was changed while it ran"


def _clocks(samples: Sequence[DeviceState]) -> Iterator[str]:
    """A clock that fell while it ran, although the governor holds it up."""
    fastest = [clock for clock in map(_fastest, samples) if clock is not None]
    if fastest and min(fastest) < _LOST_CLOCK * max(fastest):
        yield f"the fastest core fell from {max(fastest):.0f} to {min(fastest):.0f} MHz while it ran"


def _fastest(state: DeviceState) -> float | None:
    """The highest clock of the cores whose governor holds it; idle cores of x86 show a low one."""
    clocks = [core.current_mhz for core in state.cores if core.governor in _FIXED_GOVERNORS]
    return max((clock for clock in clocks if clock is not None), default=None)


def _watched(states: Sequence[DeviceState]) -> tuple[str, ...]:
    """What could be read in every state."""
    names = ("throttling", "undervoltage_alarm", "counters", "cooling", "cores", "power_mode")
    return tuple(name for name in names if all(name not in state.unknown for state in states))


def _warnings(before: DeviceState, states: Sequence[DeviceState], watched: Sequence[str]) -> Iterator[str]:
    if not {"throttling", "undervoltage_alarm", "counters", "cooling"} & set(watched):
        yield "throttling could not be watched on this device"
    if before.throttling is not None and before.throttling.since_boot:
        yield f"since boot, before the run: {', '.join(before.throttling.since_boot)}"
    loose = sorted(_governors(before) - _FIXED_GOVERNORS)
    if loose:
        yield f"the frequency governor is {', '.join(loose)}: clocks follow the load"
    limits = [(core.limit_mhz, core.hardware_max_mhz) for core in before.cores]
    for limit, most in dict.fromkeys(limits):
        if limit is not None and most is not None and limit < most:
            yield f"clocks are limited to {limit:.0f} of {most:.0f} MHz"
    if any(state.troubles for state in states):
        yield "some files of the device could not be read"


def _governors(state: DeviceState) -> frozenset[str]:
    return frozenset(core.governor for core in state.cores if core.governor is not None)
