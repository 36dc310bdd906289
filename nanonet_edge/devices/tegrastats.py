"""Lines of NVIDIA's tegrastats: load, clocks, temperatures and power rails of a Jetson.

The format differs from release to release and from module to module, and is documented in part
(NVIDIA, "tegrastats Utility"): everything is optional, and what is not understood is left out.
"""

from __future__ import annotations

import re

from pydantic import Field

from nanonet_edge.manifest import Record

_MAX_LINE = 8192
#: What tegrastats prints for a sensor whose unit is switched off.
_OFF_CELSIUS = -256.0

_RAM = re.compile(r"\bRAM (\d{1,7})/(\d{1,7})MB")
_CPU = re.compile(r"\bCPU \[([^\]]{0,2000})\]")
_CORE = re.compile(r"(\d{1,3})%@(\d{1,5})")
_LOAD = r"\b{} (\d{{1,3}})%(?:@\[?(\d{{1,5}}(?:,\d{{1,5}})*)\]?)?"
_EMC = re.compile(_LOAD.format("EMC_FREQ"))
_GPU = re.compile(_LOAD.format("GR3D_FREQ"))
_TEMPERATURE = re.compile(r"\b([A-Za-z][A-Za-z0-9_]{0,31})@(-?\d{1,3}(?:\.\d{1,6})?)C\b")
#: "VDD_IN 3913mW/3922mW" today, "POM_5V_IN 2545/2547" on JetPack 4; not "RAM 1766/3964MB".
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]{1,31}) (\d{1,7})(?:mW)?/(\d{1,7})(?:mW)?(?=\s|$)")


class TegraCore(Record):
    """One core that is online: its load in percent of its present clock."""

    load_percent: int
    mhz: int


class TegraRail(Record):
    """One power rail in milliwatts: now, and the mean since tegrastats was started."""

    name: str
    milliwatts: int
    mean_milliwatts: int


class TegraSample(Record):
    """What one line said; None and empty stand for what it did not say.

    `cores` has None for a core that is switched off. `gpu_mhz` has one clock per cluster of the
    GPU. `temperatures_c` leaves out sensors of units that are switched off.
    """

    ram_used_mib: int | None = None
    ram_total_mib: int | None = None
    cores: tuple[TegraCore | None, ...] = ()
    memory_load_percent: int | None = None
    memory_mhz: int | None = None
    gpu_load_percent: int | None = None
    gpu_mhz: tuple[int, ...] = ()
    temperatures_c: dict[str, float] = Field(default_factory=dict)
    rails: tuple[TegraRail, ...] = ()


def parse_tegrastats(line: str) -> TegraSample | None:
    """Read one line; None if it is none of tegrastats'."""
    line = line[:_MAX_LINE]
    ram, cpu = _RAM.search(line), _CPU.search(line)
    if ram is None or cpu is None:
        return None
    emc, gpu = _EMC.search(line), _GPU.search(line)
    readings = {name: float(value) for name, value in _TEMPERATURE.findall(line)}
    return TegraSample(
        ram_used_mib=int(ram[1]),
        ram_total_mib=int(ram[2]),
        cores=tuple(_core(part) for part in cpu[1].split(",")) if cpu[1].strip() else (),
        memory_load_percent=int(emc[1]) if emc else None,
        memory_mhz=next(iter(_clocks(emc)), None),
        gpu_load_percent=int(gpu[1]) if gpu else None,
        gpu_mhz=_clocks(gpu),
        temperatures_c={name: value for name, value in readings.items() if value > _OFF_CELSIUS},
        rails=tuple(
            TegraRail(name=name, milliwatts=int(now), mean_milliwatts=int(mean))
            for name, now, mean in _RAIL.findall(line)
        ),
    )


def _core(text: str) -> TegraCore | None:
    match = _CORE.fullmatch(text.strip())
    return TegraCore(load_percent=int(match[1]), mhz=int(match[2])) if match else None


def _clocks(match: re.Match[str] | None) -> tuple[int, ...]:
    return tuple(int(mhz) for mhz in match[2].split(",")) if match and match[2] else ()
