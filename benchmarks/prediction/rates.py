"""What a device could do at most: operations and bytes a second, from its profile.

What a profile leaves open (operations a cycle of a core, nominal bandwidth of a memory) comes from
`rates.json`, each figure with its source or the word "assumed".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from nanonet_edge.devices import Profile
from nanonet_edge.manifest import Record

_FILE = Path(__file__).with_name("rates.json")
_MIB = 1 << 20
#: How /proc/cpuinfo names an int8 dot product, on Arm and x86; and how a calibration does.
_DOT_PRODUCTS = frozenset({"asimddp", "avx_vnni", "avx512_vnni", "dot-product"})


class Unpredictable(Exception):  # noqa: N818
    """Nothing can be said about a device or a network; the text is the reason that is shown."""


class CoreRate(Record):
    """Peak operations per cycle of one core, two per multiply-accumulate; null without a dot product.

    `assumed` where no source gives them and no published latency of such a core corrects them.
    """

    fp32_flop_per_cycle: PositiveFloat
    int8_op_per_cycle: PositiveFloat
    int8_dot_op_per_cycle: PositiveFloat | None
    in_order: bool
    assumed: bool = False
    source: str


class Sourced(Record):
    """One figure and where it is from."""

    value: PositiveFloat
    source: str


class EngineFactor(Record):
    """An engine's time over that of LiteRT with XNNPACK, and the factor by which that may be off."""

    fp32: PositiveFloat
    int8: PositiveFloat
    spread: PositiveFloat
    source: str


class GpuRatios(Record):
    """Peak rates of tensor cores where only the int8 rate is published."""

    fp16_over_int8: Sourced
    fp32_over_fp16: Sourced


class Rates(Record):
    """The whole of `rates.json`: see its sources."""

    schema_version: Literal[1]
    cores: dict[str, CoreRate]
    memory_gbs: dict[str, Sourced]
    engines: dict[str, EngineFactor]
    gpu: GpuRatios
    link_mbs: dict[str, Sourced]


@dataclass(frozen=True)
class CpuRates:
    """A processor: clock in Hz, operations per cycle and core, nominal bytes a second, cache in bytes."""

    core: CoreRate
    cores: int
    clock_hz: float
    memory_bytes_per_s: float
    cache_bytes: int


@dataclass(frozen=True)
class GpuRates:
    """A GPU: operations and nominal bytes a second; None where it does not compute in that type."""

    fp32: float
    fp16: float
    int8: float | None
    memory_bytes_per_s: float


@dataclass(frozen=True)
class TpuRates:
    """An Edge TPU: operations a second, bytes on the chip, bytes a second of its link."""

    int8: float
    sram_bytes: int
    link_bytes_per_s: float


@cache
def read_rates() -> Rates:
    """The figures of `rates.json`."""
    return Rates.model_validate_json(_FILE.read_text(encoding="utf-8"))


def cpu_rates(profile: Profile) -> CpuRates:
    """The processor of a device.

    Raises:
        Unpredictable: it has none, or a figure that is needed is known neither to the profile nor here.
    """
    rates = read_rates()
    if profile.cpu is None or profile.memory is None:
        raise Unpredictable(f"{profile.title} has no processor of its own: its host runs this")
    model, cores, clock = profile.cpu.model.value, profile.cpu.cores.value, profile.cpu.clock_max_mhz
    if cores is None or model is None:
        raise Unpredictable(f"{profile.title}: it differs from machine to machine; --device cpu is this one")
    if clock.value is None:
        raise Unpredictable(f"the profile of {profile.name} has no clock: {clock.reason}")
    core = rates.cores.get(model) or _core_of(profile, cores * clock.value * 1e6)
    if core is None:
        raise Unpredictable(
            f"neither its profile nor a source here gives the fp32 and int8 rates of the {model}"
        )
    last = profile.cpu.l3.value or profile.cpu.l2.value
    return CpuRates(
        core=core,
        cores=cores,
        clock_hz=clock.value * 1e6,
        memory_bytes_per_s=_bandwidth(profile),
        cache_bytes=0 if last is None else last.kib << 10,
    )


def _core_of(profile: Profile, cycles_per_s: float) -> CoreRate | None:
    """The rates of a core from the peaks of a profile of the user's own; `cycles_per_s` of all cores."""
    cpu = profile.cpu
    if cpu is None or cpu.fp32_gflops.value is None or cpu.int8_gops.value is None:
        return None
    per_cycle = cpu.int8_gops.value * 1e9 / cycles_per_s
    has_dot = bool(_DOT_PRODUCTS & set(cpu.features.value or ()))
    return CoreRate(
        fp32_flop_per_cycle=cpu.fp32_gflops.value * 1e9 / cycles_per_s,
        # Without the dot product as much as half of it is usual: two pipes, or none at all.
        int8_op_per_cycle=per_cycle / 2 if has_dot else per_cycle,
        int8_dot_op_per_cycle=per_cycle if has_dot else None,
        in_order=False,
        source=f"the profile: {profile.sources[cpu.fp32_gflops.source or ''].title}",
    )


def gpu_rates(profile: Profile) -> GpuRates:
    """The GPU of a device.

    Raises:
        Unpredictable: it has none, or neither its fp16 nor its int8 rate is known.
    """
    rates = read_rates()
    gpu = next((unit for unit in profile.accelerators if unit.kind == "gpu"), None)
    if gpu is None:
        raise Unpredictable(f"{profile.title} has no GPU")
    int8 = None if gpu.int8_tops_dense.value is None else gpu.int8_tops_dense.value * 1e12
    fp16 = None if gpu.fp16_gflops.value is None else gpu.fp16_gflops.value * 1e9
    if fp16 is None:
        if int8 is None:
            raise Unpredictable(f"neither the fp16 nor the int8 rate of {profile.title} is known")
        fp16 = int8 * rates.gpu.fp16_over_int8.value
    fp32 = gpu.fp32_gflops.value
    return GpuRates(
        fp32=fp16 * rates.gpu.fp32_over_fp16.value if fp32 is None else fp32 * 1e9,
        fp16=fp16,
        int8=int8,
        memory_bytes_per_s=_bandwidth(profile),
    )


def tpu_rates(profile: Profile) -> TpuRates:
    """The Edge TPU of a device.

    Raises:
        Unpredictable: it has none, or what links it to its host is not known.
    """
    tpu = next((unit for unit in profile.accelerators if unit.kind == "tpu"), None)
    link = read_rates().link_mbs.get(profile.name)
    if tpu is None or tpu.int8_tops_dense.value is None:
        raise Unpredictable(f"{profile.title} has no Edge TPU")
    if link is None or tpu.sram_mib.value is None:
        raise Unpredictable(f"no figure for the link or the memory of {profile.title}")
    return TpuRates(tpu.int8_tops_dense.value * 1e12, int(tpu.sram_mib.value * _MIB), link.value * 1e6)


def _bandwidth(profile: Profile) -> float:
    nominal = None if profile.memory is None else profile.memory.bandwidth_peak_gbs.value
    if nominal is not None:
        return nominal * 1e9
    known = read_rates().memory_gbs.get(profile.name)
    if known is None:
        raise Unpredictable(f"no memory bandwidth is known for {profile.title}")
    return known.value * 1e9
