"""The machine's description from what a board has sent: the `Machine` that it would give of itself."""

from __future__ import annotations

import re

from nanonet_edge.benchmarks.remote.events import MachineEvent
from nanonet_edge.benchmarks.remote.sent_files import SentFiles
from nanonet_edge.devices.files import DeviceFiles, printable
from nanonet_edge.machine import Machine

_CPU = "sys/devices/system/cpu"
_CPUINFO_LIMIT = 1 << 18
_PRETTY_NAME = re.compile(r"^PRETTY_NAME=[\"']?([^\"'\n]{1,200})", re.MULTILINE)


def describe_board(sent: MachineEvent) -> Machine:
    """The record that `nanonet_edge.machine.read_machine` would make there."""
    files, facts = SentFiles(sent.files), sent.facts
    cpuinfo = _cpuinfo(files)
    flags = cpuinfo.get("flags")
    readings = {
        "cpu_model": (_cpu_model(files, cpuinfo), "the processor does not name itself to this system"),
        "physical_cores": (_physical_cores(files), "the system does not tell cores from threads"),
        "logical_cores": (facts.logical_cores, "the system does not tell"),
        "governor": (_governor(files), "the kernel shows no frequency governor"),
        "frequency_min_mhz": (_megahertz(files, "cpuinfo_min_freq"), "the kernel shows no frequency range"),
        "frequency_max_mhz": (_megahertz(files, "cpuinfo_max_freq"), "the kernel shows no frequency range"),
        "virtualised": (
            None if flags is None else "hypervisor" in flags.split(),
            "only the flags of an x86 processor tell",
        ),
    }
    return Machine.model_validate(
        {
            **{name: value for name, (value, _) in readings.items()},
            "usable_cores": facts.usable_cores,
            "memory_bytes": facts.memory_bytes,
            "os": _os_name(files),
            "kernel": facts.kernel,
            "architecture": facts.architecture,
            "python": facts.python,
            "load_average": facts.load_average,
            "unknown": {name: reason for name, (value, reason) in readings.items() if value is None},
        }
    )


def _cpuinfo(files: DeviceFiles) -> dict[str, str]:
    """The first value of each key."""
    found: dict[str, str] = {}
    for line in (files.text("proc/cpuinfo", _CPUINFO_LIMIT) or "").splitlines():
        key, _, value = line.partition(":")
        if value.strip():
            found.setdefault(key.strip(), value.strip())
    return found


def _cpu_model(files: DeviceFiles, cpuinfo: dict[str, str]) -> str | None:
    # On Arm boards the device tree's model is the best name there is.
    named = (cpuinfo.get(key) for key in ("model name", "Model", "Hardware"))
    name = next(filter(None, named), None) or " ".join(files.strings("proc/device-tree/model"))
    return printable(name) or None


def _physical_cores(files: DeviceFiles) -> int | None:
    found = set()
    for name in files.entries(_CPU):
        core = files.integer(f"{_CPU}/{name}/topology/core_id")
        if core is not None:
            found.add((files.integer(f"{_CPU}/{name}/topology/physical_package_id"), core))
    return len(found) or None


def _governor(files: DeviceFiles) -> str | None:
    text = files.text(f"{_CPU}/cpu0/cpufreq/scaling_governor")
    return printable(text, 64) if text else None


def _megahertz(files: DeviceFiles, name: str) -> float | None:
    kilohertz = files.integer(f"{_CPU}/cpu0/cpufreq/{name}")
    return None if kilohertz is None else kilohertz / 1000.0


def _os_name(files: DeviceFiles) -> str:
    match = _PRETTY_NAME.search(files.text("etc/os-release") or "")
    return printable(match[1]) if match else "unknown"
