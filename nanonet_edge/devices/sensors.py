"""Clocks, temperatures, power and throttle counters as the Linux kernel shows them in sysfs.

Each function reads one kind from `DeviceFiles` and gives an empty tuple where there is none.
Units are in the field names; paths and their units are those of the kernel's documentation
(admin-guide/pm/cpufreq, driver-api/thermal, hwmon/sysfs-interface, power/powercap).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nanonet_edge.devices.files import DeviceFiles, printable
from nanonet_edge.manifest import Record

_CPUS = "sys/devices/system/cpu"
_THERMAL = "sys/class/thermal"
_HWMON = "sys/class/hwmon"
_POWERCAP = "sys/class/powercap"
_JETPACK4_INA = "sys/bus/i2c/drivers/ina3221x"

#: Beyond these a sensor is broken or switched off.
_PLAUSIBLE_CELSIUS = (-55.0, 200.0)
#: Cooling devices that slow a processor down; fans and displays do not.
_SLOWS_DOWN = re.compile(r"cpufreq|devfreq|processor|throttle", re.IGNORECASE)


class CoreClock(Record):
    """One core: the governor and clocks in MHz; None where the kernel does not show them.

    `limit_mhz` is what the governor may use at present, `hardware_max_mhz` what the core can do.
    """

    core: int
    governor: str | None
    current_mhz: float | None
    limit_mhz: float | None
    hardware_max_mhz: float | None


class Temperature(Record):
    """One thermal zone."""

    zone: str
    celsius: float


class Cooling(Record):
    """A cooling device that slows a processor down: 0 is off, `max_state` the slowest."""

    device: str
    state: int
    max_state: int | None


class Counter(Record):
    """How often something happened since boot: thermal throttling, an over-current event."""

    name: str
    count: int


class RailPower(Record):
    """The power through one rail at one moment."""

    name: str
    milliwatts: float


class EnergyCounter(Record):
    """A counter of energy that starts again at 0 above `range_microjoules` (None: unknown)."""

    name: str
    microjoules: int
    range_microjoules: int | None


def read_clocks(files: DeviceFiles) -> tuple[CoreClock, ...]:
    """Governor and clocks of every core that has them."""
    cores = []
    for name in files.entries(_CPUS):
        folder = f"{_CPUS}/{name}/cpufreq"
        if not re.fullmatch(r"cpu\d{1,5}", name) or not files.exists(folder):
            continue
        cores.append(
            CoreClock(
                core=int(name.removeprefix("cpu")),
                governor=_word(files, f"{folder}/scaling_governor"),
                current_mhz=_scaled(files, f"{folder}/scaling_cur_freq", 1e3),
                limit_mhz=_scaled(files, f"{folder}/scaling_max_freq", 1e3),
                hardware_max_mhz=_scaled(files, f"{folder}/cpuinfo_max_freq", 1e3),
            )
        )
    return tuple(cores)


def read_temperatures(files: DeviceFiles) -> tuple[Temperature, ...]:
    """All thermal zones whose reading is plausible."""
    found = []
    for folder in _folders(files, _THERMAL, "thermal_zone"):
        celsius = _scaled(files, f"{folder}/temp", 1e3)
        if celsius is not None and _PLAUSIBLE_CELSIUS[0] <= celsius <= _PLAUSIBLE_CELSIUS[1]:
            zone = _word(files, f"{folder}/type") or folder.rpartition("/")[2]
            found.append(Temperature(zone=zone, celsius=celsius))
    return tuple(found)


def read_cooling(files: DeviceFiles) -> tuple[Cooling, ...]:
    """The cooling devices that slow a processor down."""
    found = []
    for folder in _folders(files, _THERMAL, "cooling_device"):
        device, state = _word(files, f"{folder}/type"), files.integer(f"{folder}/cur_state")
        if device is not None and state is not None and _SLOWS_DOWN.search(device):
            found.append(Cooling(device=device, state=state, max_state=files.integer(f"{folder}/max_state")))
    return tuple(found)


def read_throttle_counters(files: DeviceFiles) -> tuple[Counter, ...]:
    """Thermal throttle events of x86 cores, over-current events of Jetsons."""
    found = []
    for name in files.entries(_CPUS):
        if re.fullmatch(r"cpu\d{1,5}", name):
            for kind in ("core", "package"):
                count = files.integer(f"{_CPUS}/{name}/thermal_throttle/{kind}_throttle_count")
                if count is not None:
                    found.append(Counter(name=f"{name} {kind} thermal throttle", count=count))
    for folder in _folders(files, _HWMON, "hwmon"):
        for entry in files.entries(folder):
            if match := re.fullmatch(r"(oc\d)_event_cnt", entry):
                count = files.integer(f"{folder}/{entry}")
                if count is not None:
                    found.append(Counter(name=f"over-current event {match[1]}", count=count))
    return tuple(found)


def read_undervoltage_alarm(files: DeviceFiles) -> bool | None:
    """Whether a Raspberry Pi's voltage alarm is on; None without its driver (raspberrypi-hwmon)."""
    for folder in _folders(files, _HWMON, "hwmon"):
        if _word(files, f"{folder}/name") == "rpi_volt":
            alarm = files.integer(f"{folder}/in0_lcrit_alarm")
            return None if alarm is None else alarm != 0
    return None


def read_rails(files: DeviceFiles) -> tuple[RailPower, ...]:
    """Rails measured by Texas Instruments' INA chips, as on Jetsons."""
    found = []
    for folder in _folders(files, _HWMON, "hwmon"):
        chip = _word(files, f"{folder}/name") or ""
        if chip.startswith("ina"):
            found += list(_ina_rails(files, folder, chip))
    for bus in files.entries(_JETPACK4_INA):
        for device in files.entries(f"{_JETPACK4_INA}/{bus}"):
            if device.startswith("iio:device"):
                found += list(_jetpack4_rails(files, f"{_JETPACK4_INA}/{bus}/{device}"))
    return tuple(found)


def read_energy(files: DeviceFiles) -> tuple[EnergyCounter, ...]:
    """Intel's and AMD's RAPL counters; since Linux 5.10 only root may read them."""
    found = []
    for name in files.entries(_POWERCAP):
        if not re.fullmatch(r"intel-rapl(:\d{1,3}){1,2}", name):
            continue
        folder = f"{_POWERCAP}/{name}"
        energy = files.integer(f"{folder}/energy_uj")
        if energy is not None and energy >= 0:
            label = _word(files, f"{folder}/name") or name
            found.append(
                EnergyCounter(
                    name=f"{name} {label}",
                    microjoules=energy,
                    range_microjoules=_positive(files.integer(f"{folder}/max_energy_range_uj")),
                )
            )
    return tuple(found)


def _ina_rails(files: DeviceFiles, folder: str, chip: str) -> Iterator[RailPower]:
    """Channels 1 to 3: power in microwatts where the driver has it, else millivolts times milliamperes."""
    for channel in (1, 2, 3):
        label = _word(files, f"{folder}/in{channel}_label") or _word(files, f"{folder}/power{channel}_label")
        power = _scaled(files, f"{folder}/power{channel}_input", 1e3)
        if power is None and label not in (None, "NC"):
            volts, current = (files.integer(f"{folder}/{what}{channel}_input") for what in ("in", "curr"))
            power = volts * current / 1e3 if volts is not None and current is not None else None
        if power is not None and label != "NC":
            yield RailPower(name=label or f"{chip} {folder.rpartition('/')[2]} {channel}", milliwatts=power)


def _jetpack4_rails(files: DeviceFiles, folder: str) -> Iterator[RailPower]:
    for channel in (0, 1, 2):
        label = _word(files, f"{folder}/rail_name_{channel}")
        power = files.integer(f"{folder}/in_power{channel}_input")
        if label and power is not None:
            yield RailPower(name=label, milliwatts=float(power))


def _folders(files: DeviceFiles, parent: str, prefix: str) -> Iterator[str]:
    for name in files.entries(parent):
        if re.fullmatch(rf"{prefix}\d{{1,5}}", name):
            yield f"{parent}/{name}"


def _word(files: DeviceFiles, path: str) -> str | None:
    text = files.text(path)
    return printable(text, 64) if text else None


def _scaled(files: DeviceFiles, path: str, divisor: float) -> float | None:
    number = files.integer(path)
    return None if number is None else number / divisor


def _positive(number: int | None) -> int | None:
    return number if number is not None and number > 0 else None
