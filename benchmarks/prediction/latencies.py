"""Latencies that others published, as data: what the model is fitted on and judged by."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from nanonet_edge.benchmarks.prediction.costs import Arithmetic
from nanonet_edge.benchmarks.prediction.networks import NETWORKS
from nanonet_edge.benchmarks.prediction.rates import CpuRates, Sourced, cpu_rates, read_rates
from nanonet_edge.devices import Profile, load_catalogue
from nanonet_edge.devices.profile import Source
from nanonet_edge.manifest import Record

_FILE = Path(__file__).with_name("published_latencies.json")

Unit = Literal["cpu", "gpu", "tpu"]


class PublishedFigure(Record):
    """One latency in milliseconds: what ran where, in what arithmetic, on which engine."""

    network: str
    device: str
    unit: Unit
    arithmetic: Arithmetic
    threads: PositiveInt | None = None
    engine: Literal["xnnpack", "tflite-builtin", "tensorrt", "edgetpu"]
    ms: PositiveFloat
    source: str

    @property
    def label(self) -> str:
        """It in a few words."""
        threads = "" if self.threads is None else f", {self.threads} threads"
        return f"{self.network} {self.arithmetic}{threads} on {self.device}"

    @property
    def run(self) -> str:
        """What it shares with its siblings at other thread counts: they are left out together."""
        return f"{self.network} {self.arithmetic} {self.device} {self.engine}"

    @property
    def family(self) -> str:
        """The architecture, whatever its size and its head.

        Of "YOLOv8n-640" it is "YOLOv8"; what is built on a MobileNet counts as that MobileNet.
        """
        first, *others = self.network.split("-")
        backbone = next((part for part in others if part.startswith("MobileNet")), None)
        return backbone or first.rstrip("nsm")


class Processor(Record):
    """A processor that has published figures but no device profile."""

    core: str
    cores: PositiveInt
    clock_mhz: PositiveFloat
    memory_gbs: PositiveFloat
    cache_kib: PositiveInt
    source: str

    @property
    def rates(self) -> CpuRates:
        """What it could do at most."""
        return CpuRates(
            core=read_rates().cores[self.core],
            cores=self.cores,
            clock_hz=self.clock_mhz * 1e6,
            memory_bytes_per_s=self.memory_gbs * 1e9,
            cache_bytes=self.cache_kib << 10,
        )


class PublishedLatencies(Record):
    """The whole of `published_latencies.json`.

    Attributes:
        left_out: which known figures are not used, and why.
        clocks: of devices, in MHz, whose figures were taken below what their profile says.
    """

    schema_version: Literal[1]
    left_out: tuple[str, ...]
    sources: dict[str, Source]
    processors: dict[str, Processor]
    clocks: dict[str, Sourced]
    latencies: tuple[PublishedFigure, ...]

    @model_validator(mode="after")
    def _everything_is_known(self) -> Self:
        for one in self.latencies:
            if one.network not in NETWORKS or one.source not in self.sources:
                raise ValueError(f"{one.label}: no such network, or no such source as {one.source!r}")
        return self


@cache
def read_latencies() -> PublishedLatencies:
    """The figures of `published_latencies.json`."""
    return PublishedLatencies.model_validate_json(_FILE.read_text(encoding="utf-8"))


@cache
def shipped_profile(device: str) -> Profile:
    """The profile of a device that ships: a user's own must not change what is fitted."""
    return load_catalogue(environment={}).get(device)


@cache
def published_rates(device: str) -> CpuRates:
    """What the processor could do at most that a device's published figures were taken on."""
    published = read_latencies()
    known, clock = published.processors.get(device), published.clocks.get(device)
    if known is not None:
        return known.rates
    rates = cpu_rates(shipped_profile(device))
    return rates if clock is None else replace(rates, clock_hz=clock.value * 1e6)
