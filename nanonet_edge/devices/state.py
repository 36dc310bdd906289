"""The state of a device that must accompany a measurement: clocks, heat, throttling, power.

It is read from files below any root folder, so that a copy from a board, or a planted tree, is
read in the same way; and from what three commands printed, where they exist: ``vcgencmd
get_throttled`` on a Raspberry Pi, ``nvpmodel -q`` and a line of ``tegrastats`` on a Jetson.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import Field, model_validator
from typing_extensions import Self

from nanonet_edge.devices import sensors
from nanonet_edge.devices.files import DeviceFiles, parse_integer, printable
from nanonet_edge.devices.sensors import Cooling, CoreClock, Counter, EnergyCounter, RailPower, Temperature
from nanonet_edge.devices.tegrastats import TegraSample, parse_tegrastats
from nanonet_edge.devices.throttling import Throttling, decode_throttled, parse_throttled
from nanonet_edge.manifest import Record

#: What is asked of the device beside its files, by name; each prints a line or two and ends.
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "vcgencmd": ("vcgencmd", "get_throttled"),
    "nvpmodel": ("nvpmodel", "-q"),
}
TEGRASTATS: Final = "tegrastats"

_PLATFORM = "sys/devices/platform"
_NVPMODEL_STATUS = "var/lib/nvpmodel/status"
_NVPMODEL_CONFIG = "etc/nvpmodel.conf"
_CONFIG_LIMIT = 1 << 18
_OUTPUT_LIMIT = 1 << 16
_ASKED_MODE = re.compile(r"NV Power Mode:[ \t]*(\S{1,64})(?:\s+(\d{1,3})\b)?")
_STORED_MODE = re.compile(r"\bpmode:(\d{1,4})\b")
_NAMED_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d{1,3})\s+NAME=(\S{1,64})\s*>")


class ActiveMode(Record):
    """The power mode that nvpmodel has set; either may be unknown."""

    id: int | None
    name: str | None


class DeviceState(Record):
    """The state of a device at one moment.

    Attributes:
        monotonic_ns: when it was read, on the clock of `time.monotonic_ns`.
        throttling: the firmware's word on a Raspberry Pi.
        undervoltage_alarm: of the kernel's driver there.
        counters: throttle events since boot.
        cooling: devices that slow a processor down.
        rails, energy: power and energy where the device measures them.
        unknown: field name -> why it is None or empty; every such field has a reason.
        troubles: files that are there and could not be used.
    """

    monotonic_ns: int
    cores: tuple[CoreClock, ...] = ()
    temperatures: tuple[Temperature, ...] = ()
    cooling: tuple[Cooling, ...] = ()
    counters: tuple[Counter, ...] = ()
    throttling: Throttling | None = None
    undervoltage_alarm: bool | None = None
    power_mode: ActiveMode | None = None
    tegrastats: TegraSample | None = None
    rails: tuple[RailPower, ...] = ()
    energy: tuple[EnergyCounter, ...] = ()
    unknown: dict[str, str] = Field(default_factory=dict)
    troubles: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _every_gap_has_a_reason(self) -> Self:
        missing = {name for name in REASONS if getattr(self, name) in (None, ())}
        if missing != set(self.unknown):
            raise ValueError(f"expected reasons for {sorted(missing)}, found {sorted(self.unknown)}")
        return self


#: Why a field may be unknown.
REASONS: Final[Mapping[str, str]] = {
    "cores": "the kernel shows no clocks (a virtual machine, or no cpufreq driver)",
    "temperatures": "the kernel shows no thermal zone with a plausible reading",
    "cooling": "the kernel shows no cooling device that slows a processor down",
    "counters": "the kernel counts no throttle events",
    "throttling": "no firmware told: vcgencmd get_throttled is a Raspberry Pi's",
    "undervoltage_alarm": "no rpi_volt sensor: it is a Raspberry Pi's",
    "power_mode": "nvpmodel did not tell: it is a Jetson's",
    "tegrastats": "no line of tegrastats was given: it is a Jetson's",
    "rails": "the device measures no power rail that is known",
    "energy": "no RAPL counter can be read: it is x86's, and often root's alone",
}


def read_state(root: Path | str | DeviceFiles = "/", outputs: Mapping[str, str] | None = None) -> DeviceState:
    """Read the state of the device whose file system lies below `root`; never raises for what it holds.

    Args:
        root: where to look, or the files themselves.
        outputs: what commands printed there, by the keys of `COMMANDS` and "tegrastats" (one
            line); see `ask_commands`. Without one, the files below `root` must do.
    """
    outputs = outputs or {}
    files = root if isinstance(root, DeviceFiles) else DeviceFiles(root)
    tegra = parse_tegrastats(outputs.get(TEGRASTATS, ""))
    found: dict[str, Any] = {
        "cores": sensors.read_clocks(files),
        "temperatures": sensors.read_temperatures(files),
        "cooling": sensors.read_cooling(files),
        "counters": sensors.read_throttle_counters(files),
        "throttling": parse_throttled(outputs.get("vcgencmd", "")) or _stored_throttling(files),
        "undervoltage_alarm": sensors.read_undervoltage_alarm(files),
        "power_mode": parse_nvpmodel(outputs.get("nvpmodel", "")) or _stored_mode(files),
        "tegrastats": tegra,
        "rails": _rails(files, tegra),
        "energy": sensors.read_energy(files),
    }
    unknown = {name: REASONS[name] for name, value in found.items() if value in (None, ())}
    return DeviceState(monotonic_ns=time.monotonic_ns(), unknown=unknown, troubles=files.troubles, **found)


def ask_commands(timeout_s: float = 2.0, names: Iterable[str] = tuple(COMMANDS)) -> dict[str, str]:
    """Run those of `COMMANDS` that are named and installed on this machine; what they printed, by name.

    One that fails or takes longer than `timeout_s` seconds is left out.
    """
    outputs = {}
    for name in names:
        command = COMMANDS[name]
        program = shutil.which(command[0])
        if program is None:
            continue
        try:
            done = subprocess.run(
                [program, *command[1:]],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=timeout_s,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        outputs[name] = done.stdout[:_OUTPUT_LIMIT].decode("utf-8", "replace")
    return outputs


def parse_nvpmodel(text: str) -> ActiveMode | None:
    """Read what ``nvpmodel -q`` printed: a line ``NV Power Mode: MAXN`` and the mode's number."""
    match = _ASKED_MODE.search(text[:_OUTPUT_LIMIT])
    name = printable(match[1]) if match else ""
    return ActiveMode(id=int(match[2]) if match[2] else None, name=name) if match and name else None


def _stored_mode(files: DeviceFiles) -> ActiveMode | None:
    """The mode as nvpmodel keeps it: ``pmode:0002``, with its name in the configuration."""
    match = _STORED_MODE.search(files.text(_NVPMODEL_STATUS) or "")
    if match is None:
        return None
    number = int(match[1])
    config = files.text(_NVPMODEL_CONFIG, _CONFIG_LIMIT) or ""
    names = {int(key): printable(name) for key, name in _NAMED_MODE.findall(config)}
    return ActiveMode(id=number, name=names.get(number) or None)


def _stored_throttling(files: DeviceFiles) -> Throttling | None:
    """The word that Raspberry Pi's kernel shows in hexadecimal, below soc or soc@107c000000."""
    for soc in files.entries(_PLATFORM):
        if not soc.startswith("soc"):
            continue
        for name in files.entries(f"{_PLATFORM}/{soc}"):
            if name.endswith(":firmware"):
                text = files.text(f"{_PLATFORM}/{soc}/{name}/get_throttled")
                word = parse_integer(text, 16) if text else None
                if word is not None and 0 <= word < 1 << 32:
                    return decode_throttled(word)
    return None


def _rails(files: DeviceFiles, tegra: TegraSample | None) -> tuple[RailPower, ...]:
    """The rails that the kernel shows, else those of tegrastats."""
    shown = sensors.read_rails(files)
    if shown or tegra is None:
        return shown
    return tuple(RailPower(name=rail.name, milliwatts=rail.milliwatts) for rail in tegra.rails)
