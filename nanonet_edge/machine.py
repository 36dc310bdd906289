"""The machine that figures were obtained on, and its clocks and temperature while they were.

What cannot be read is None, and `unknown` says why: a missing figure carries a reason, never
a zero.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import psutil
from pydantic import Field, model_validator
from typing_extensions import Self

from nanonet_edge.manifest import Record

_CPUINFO = Path("/proc/cpuinfo")
_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
#: Sensors that sit in or on the processor, the best first (x86, AMD, Arm boards).
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")


class _Explained(Record):
    """A record whose None fields are explained in `unknown` (field name -> reason)."""

    unknown: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _every_gap_has_a_reason(self) -> Self:
        missing = {name for name in type(self).model_fields if getattr(self, name) is None}
        if missing != set(self.unknown):
            raise ValueError(f"expected reasons for {sorted(missing)}, found {sorted(self.unknown)}")
        return self


class Machine(_Explained):
    """What ran the benchmark.

    Attributes:
        cpu_model: as the processor names itself.
        physical_cores, logical_cores: of the whole machine.
        usable_cores: those this process may run on (affinity, container).
        governor: the frequency governor of the first core.
        frequency_min_mhz, frequency_max_mhz: the range that governor may choose from.
        memory_bytes: installed memory.
        virtualised: whether a hypervisor announces itself, which it does on x86 only.
        load_average: over one minute, when the record was made.
    """

    cpu_model: str | None
    physical_cores: int | None
    logical_cores: int | None
    usable_cores: int | None
    governor: str | None
    frequency_min_mhz: float | None
    frequency_max_mhz: float | None
    memory_bytes: int
    os: str
    kernel: str
    architecture: str
    python: str
    virtualised: bool | None
    load_average: float | None


class Conditions(_Explained):
    """Clock and temperature of the processor at one moment (MHz averaged over cores, Celsius)."""

    frequency_mhz: float | None
    temperature_c: float | None


def read_machine() -> Machine:
    """Describe the machine this process runs on."""
    readings = {
        "cpu_model": (_cpu_model(), "the processor does not name itself to this system"),
        "physical_cores": (psutil.cpu_count(logical=False), "the system does not tell cores from threads"),
        "logical_cores": (psutil.cpu_count(), "the system does not tell"),
        "usable_cores": (_usable_cores(), "the system has no processor affinity"),
        "governor": (_read_text(_CPUFREQ / "scaling_governor"), "the kernel shows no frequency governor"),
        "frequency_min_mhz": (_frequency("cpuinfo_min_freq"), "the kernel shows no frequency range"),
        "frequency_max_mhz": (_frequency("cpuinfo_max_freq"), "the kernel shows no frequency range"),
        "virtualised": (_is_virtualised(), "only the flags of an x86 processor tell"),
        "load_average": (_load_average(), "the system has no load average"),
    }
    return Machine.model_validate(
        {
            **{name: value for name, (value, _) in readings.items()},
            "memory_bytes": psutil.virtual_memory().total,
            "os": _os_name(),
            "kernel": f"{platform.system()} {platform.release()}",
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "unknown": {name: reason for name, (value, reason) in readings.items() if value is None},
        }
    )


def read_conditions() -> Conditions:
    """Read the processor's clock and temperature now."""
    readings = {
        "frequency_mhz": (_current_frequency(), "the kernel shows no current frequency"),
        "temperature_c": (_temperature(), "no processor temperature sensor can be read"),
    }
    return Conditions.model_validate(
        {
            **{name: value for name, (value, _) in readings.items()},
            "unknown": {name: reason for name, (value, reason) in readings.items() if value is None},
        }
    )


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpuinfo(*keys: str) -> str | None:
    """The first value of any of `keys` in /proc/cpuinfo."""
    lines = (_read_text(_CPUINFO) or "").splitlines()
    pairs = [line.partition(":") for line in lines]
    for key in keys:
        for name, _, value in pairs:
            if name.strip() == key and value.strip():
                return value.strip()
    return None


def _cpu_model() -> str | None:
    # On Arm boards the device tree's model is the best name there is.
    return (
        _cpuinfo("model name", "Model", "Hardware")
        or _read_text(Path("/proc/device-tree/model"))
        or platform.processor()
        or None
    )


def _is_virtualised() -> bool | None:
    # Arm's list is called Features, and a hypervisor is not in it.
    flags = _cpuinfo("flags")
    return None if flags is None else "hypervisor" in flags.split()


def _usable_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _frequency(name: str) -> float | None:
    text = _read_text(_CPUFREQ / name)
    return float(text) / 1000.0 if text and text.isdigit() else None


def _current_frequency() -> float | None:
    texts = (_read_text(path) for path in _CPUFREQ.parent.parent.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    clocks = [float(text) / 1000.0 for text in texts if text and text.isdigit()]
    return sum(clocks) / len(clocks) if clocks else None


def _temperature() -> float | None:
    """The hottest reading of the best processor sensor."""
    read = getattr(psutil, "sensors_temperatures", None)
    sensors = read() if read else {}
    for name in _CPU_SENSORS:
        if sensors.get(name):
            return max(float(sensor.current) for sensor in sensors[name])
    return None


def _load_average() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _os_name() -> str:
    if sys.platform.startswith("linux"):
        try:
            return platform.freedesktop_os_release()["PRETTY_NAME"]
        except (OSError, KeyError):
            return platform.system()
    return f"{platform.system()} {platform.version()}"
