"""A device profile: what is known of a board or an accelerator, each figure with its source.

Profiles are JSON files, one per device, named after it. A figure is either a value with its
source or the reason why there is none, never a guess and never a zero. Sources are listed once
per profile and named by key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator
from typing_extensions import Self

from nanonet_edge.devices.files import printable
from nanonet_edge.errors import InputError
from nanonet_edge.manifest import Record

PROFILE_SCHEMA_VERSION: Final = 1
PROFILE_SUFFIX: Final = ".json"
_MAX_PROFILE_BYTES = 1 << 20

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
UsbOrPciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Value = TypeVar("Value")


class Source(Record):
    """Where figures were read: a document's title and, where it has one, its address."""

    title: str = Field(min_length=1)
    url: str | None = Field(default=None, pattern=r"^https://\S+$")


class Spec(Record, Generic[Value]):
    """One figure of a device with its source, or the reason why there is none.

    Attributes:
        source: a key of the profile's `sources`.
        derived: computed from other figures of that source; `note` says how.
        note: what a reader must know to use it.
    """

    value: Value | None = None
    source: str | None = None
    derived: bool = False
    note: str | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> Self:
        if (self.value is None) == (self.reason is None):
            raise ValueError("expected either a value or a reason")
        if (self.value is None) != (self.source is None):
            raise ValueError("expected a source with a value, and none without")
        return self


class Cache(Record):
    """One cache: its size, and how many cores share it."""

    kib: PositiveInt
    shared_by: PositiveInt = 1


class Cpu(Record):
    """The processor.

    Attributes:
        isa: architecture level, such as "Armv8.2-A".
        features: the names in the line Features (flags on x86) of /proc/cpuinfo.
        clock_max_mhz: what the fastest core reaches as delivered.
        fp32_gflops, int8_gops: peak over all cores, two operations per multiply-accumulate.
    """

    model: Spec[str]
    cores: Spec[PositiveInt]
    clock_max_mhz: Spec[PositiveFloat]
    isa: Spec[str]
    features: Spec[tuple[str, ...]]
    l1i: Spec[Cache]
    l1d: Spec[Cache]
    l2: Spec[Cache]
    l3: Spec[Cache]
    fp32_gflops: Spec[PositiveFloat]
    int8_gops: Spec[PositiveFloat]


class Memory(Record):
    """Main memory: the sizes it is sold with, and bandwidth in GB/s (10**9 bytes), nominal and measured."""

    ram_mib: Spec[tuple[PositiveInt, ...]]
    bandwidth_peak_gbs: Spec[PositiveFloat]
    bandwidth_measured_gbs: Spec[PositiveFloat]


class Accelerator(Record):
    """A GPU or a TPU. TOPS count two operations per multiply-accumulate; sparse is NVIDIA's 2:4."""

    kind: Literal["gpu", "tpu"]
    name: Spec[str]
    fp32_gflops: Spec[PositiveFloat]
    fp16_gflops: Spec[PositiveFloat]
    int8_tops_dense: Spec[PositiveFloat]
    int8_tops_sparse: Spec[PositiveFloat]
    tops_per_watt: Spec[PositiveFloat]
    sram_mib: Spec[PositiveFloat]


class PowerMode(Record):
    """A mode of nvpmodel.

    `watts` and `clock_max_mhz` are None where it sets no limit, or none is known; `cores_online`
    where that is not known.
    """

    id: int = Field(ge=0)
    name: str
    watts: PositiveFloat | None
    cores_online: PositiveInt | None
    clock_max_mhz: PositiveFloat | None
    source: str


class Rail(Record):
    """A power rail as tegrastats and hwmon name it; `is_total` if all the board's power goes through it."""

    name: str
    is_total: bool = False
    source: str


class Power(Record):
    """Modes and measured rails; `reason` says why there are none."""

    modes: tuple[PowerMode, ...] = ()
    rails: tuple[Rail, ...] = ()
    reason: str | None = None

    @model_validator(mode="after")
    def _something_or_reason(self) -> Self:
        if not (self.modes or self.rails) and self.reason is None:
            raise ValueError("expected modes, rails or a reason")
        return self


class System(Record):
    """An operating system that the device is run with, and what its C library and Python are."""

    name: str
    glibc: str = Field(pattern=r"^\d+\.\d+$")
    python: str = Field(pattern=r"^3\.\d+$")
    source: str


class Runtime(Record):
    """An inference engine that the device can run, and the package that brings it."""

    name: str
    package: str
    note: str | None = None
    source: str


class Software(Record):
    """What runs there: architecture as in wheel names, wheel platform tags, systems, engines."""

    architecture: Spec[Literal["x86_64", "aarch64"]]
    wheel_platforms: Spec[tuple[str, ...]]
    systems: tuple[System, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    note: str | None = None


class Emulation(Record):
    """How to emulate the processor: the name that ``qemu -cpu`` takes."""

    qemu_cpu: Spec[str]


class Rules(Record):
    """What tells this device from others.

    Attributes:
        models: how /proc/device-tree/model may begin.
        compatible: whole entries of /proc/device-tree/compatible.
        modules: NVIDIA part numbers such as "p3767-0005" within those entries.
        usb, pci: ids as vendor:device.
        nodes: device nodes, relative to the root.
        architecture: a fallback for any machine of that kind, where nothing better matches.
    """

    models: tuple[str, ...] = ()
    compatible: tuple[str, ...] = ()
    modules: tuple[Annotated[str, Field(pattern=r"^p\d{4}-\d{4}$")], ...] = ()
    usb: tuple[UsbOrPciId, ...] = ()
    pci: tuple[UsbOrPciId, ...] = ()
    nodes: tuple[str, ...] = ()
    architecture: Literal["x86_64", "aarch64"] | None = None
    source: str

    @model_validator(mode="after")
    def _something_to_look_for(self) -> Self:
        if not any(getattr(self, field) for field in type(self).model_fields if field != "source"):
            raise ValueError("expected at least one rule")
        return self


class PublishedLatency(Record):
    """A latency somebody measured on this device, in milliseconds; `threads` None: all cores.

    `on` is "cpu" or the kind of accelerator that ran it.
    """

    model: str
    precision: Literal["fp32", "fp16", "int8"]
    on: Literal["cpu", "gpu", "tpu"]
    threads: PositiveInt | None = None
    ms: PositiveFloat
    note: str | None = None
    source: str


class Profile(Record):
    """Everything known of one device. `cpu` and `memory` are None for what plugs into a host."""

    schema_version: Literal[1] = PROFILE_SCHEMA_VERSION
    name: Name
    title: str = Field(min_length=1)
    family: Name
    kind: Literal["board", "accelerator", "generic"]
    cpu: Cpu | None = None
    memory: Memory | None = None
    accelerators: tuple[Accelerator, ...] = ()
    power: Power
    software: Software
    emulation: Emulation
    detection: Rules
    published: tuple[PublishedLatency, ...] = ()
    sources: dict[str, Source] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_source_is_listed(self) -> Self:
        for where, key in cited(self):
            if key not in self.sources:
                raise ValueError(f"{where} cites {key!r}, which is not among the sources")
        return self

    @model_validator(mode="after")
    def _board_has_a_processor(self) -> Self:
        if self.kind != "accelerator" and (self.cpu is None or self.memory is None):
            raise ValueError(f"expected cpu and memory, as kind is {self.kind!r}")
        if self.kind == "accelerator" and not self.accelerators:
            raise ValueError("expected accelerators, as kind is 'accelerator'")
        return self


def cited(record: BaseModel, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every use of a source in a record: the key that cites, such as "cpu.cores.source", and the source's."""
    for field in type(record).model_fields:
        value = getattr(record, field)
        where = f"{prefix}{field}"
        if field == "source" and isinstance(value, str):
            yield where, value
        elif isinstance(value, BaseModel):
            yield from cited(value, f"{where}.")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from cited(item, f"{where}.{index}.")


def load_profile(path: Path) -> Profile:
    """Read a profile and check it against the schema.

    Raises:
        InputError: no such file, too large, not JSON, a key that is wrong, missing or given twice,
            or another name than the file's; the line names the file and the key, what was expected
            and what was found.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_PROFILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: expected a device profile, found {error.strerror}") from None
    if len(content) > _MAX_PROFILE_BYTES:
        raise InputError(f"{path}: expected a device profile, found more than {_MAX_PROFILE_BYTES} bytes")
    try:
        data: Any = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, found {printable(str(error))}") from None
    try:
        profile = Profile.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from None
    if path.name != profile.name + PROFILE_SUFFIX:
        raise InputError(f"{path}: key 'name': expected {path.stem!r} as the file's, found {profile.name!r}")
    return profile


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"key {key!r} twice")
        seen[key] = value
    return seen


def _first(error: ValidationError) -> str:
    """The first mistake as one line: key, what was expected, what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f"key {key!r}: " if key else ""
    if first["type"] == "missing":
        return f"{where}expected a value, found nothing"
    if first["type"] == "extra_forbidden":
        return f"{where}expected no such key, found {printable(repr(first['input']), 60)}"
    what = first["msg"].removeprefix("Value error, ")
    what = what.replace("Input should be", "expected").replace("String should", "expected text that should")
    if first["type"] == "value_error":
        return f"{where}{what}"
    return f"{where}{what}, found {printable(repr(first['input']), 60)}"
