"""The vocabulary of the networks: variants, topologies, precisions, formats, heads.

Widths and parameter counts: Jha et al., "NanoNet: Real-Time Polyp Segmentation in
Video Capsule Endoscopy and Colonoscopy", CBMS 2021, and its released code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from nanonet_edge.errors import UsageError

_Found = TypeVar("_Found")


class Name(str, Enum):
    """An enumeration whose members print as their value (StrEnum, which Python 3.10 lacks)."""

    def __str__(self) -> str:
        return str(self.value)


class Topology(Name):
    """Which shortcut the modified residual blocks have."""

    RELEASED = "released"  #: BN(main path), as the released code computes it
    DESCRIBED = "described"  #: BN(1x1 conv(block input)), as the paper's text has it


class Precision(Name):
    """How weights and activations are stored and computed."""

    FP32 = "fp32"
    FP16 = "fp16"
    DYNAMIC_WI8 = "dynamic_wi8"
    STATIC_WI8_AI8 = "static_wi8_ai8"
    STATIC_WI8_AI16 = "static_wi8_ai16"
    MIXED = "mixed"  #: static_wi8_ai8 with some layers left in fp32

    @property
    def is_float(self) -> bool:
        """Whether nothing is stored in integers."""
        return self in (Precision.FP32, Precision.FP16)

    @property
    def is_static(self) -> bool:
        """Whether all activations are quantized with ranges from a calibration."""
        return self in (Precision.STATIC_WI8_AI8, Precision.STATIC_WI8_AI16)

    @property
    def has_integer_activations(self) -> bool:
        """Whether activations are quantized with such ranges, all of them or some."""
        return self.is_static or self is Precision.MIXED


class Format(Name):
    """The file format of an artifact."""

    TFLITE = "tflite"
    ONNX = "onnx"
    OPENVINO = "openvino"


class Target(Name):
    """Accelerators that an artifact can be rewritten for, and whose compiler's rules are known."""

    CORAL = "coral"


class Head(Name):
    """What an artifact puts out."""

    PROBABILITY = "probability"
    LOGIT = "logit"
    MASK = "mask"


@dataclass(frozen=True)
class Variant:
    """One NanoNet.

    Attributes:
        name: "a", "b" or "c".
        alpha: width multiplier of the MobileNetV2 encoder.
        bridge: channels of the bridge's residual block.
        decoder: channels of the three decoder stages, deep to shallow.
        parameters: published parameter count (released topology, one class).
        parameters_described: the same with the shortcut of the paper's text.
    """

    name: str
    alpha: float
    bridge: int
    decoder: tuple[int, int, int]
    parameters: int
    parameters_described: int

    @property
    def title(self) -> str:
        """As people write it."""
        return f"NanoNet-{self.name.upper()}"

    @property
    def stem(self) -> str:
        """What its bundles and files are named after."""
        return f"nanonet-{self.name}"

    def expected_parameters(self, topology: Topology) -> int:
        """The parameter count for one class (batch-norm statistics included)."""
        return self.parameters if topology is Topology.RELEASED else self.parameters_described


@dataclass(frozen=True)
class Comparator:
    """A network that the paper compares NanoNet with; see `nanonet_edge.comparators`.

    Attributes:
        name: such as "resunet++".
        title: as its authors write it.
        parameters: count for one class, batch-norm statistics included.
    """

    name: str
    title: str
    parameters: int

    @property
    def stem(self) -> str:
        """What its bundles and files are named after."""
        return self.name


VARIANTS: dict[str, Variant] = {
    "a": Variant("a", 0.50, 192, (128, 64, 32), 235_425, 310_593),
    "b": Variant("b", 0.35, 128, (96, 64, 32), 132_049, 179_473),
    "c": Variant("c", 0.35, 48, (32, 24, 16), 36_561, 45_833),
}

COMPARATORS: dict[str, Comparator] = {
    "resunet": Comparator("resunet", "ResUNet", 8_227_393),
    "resunet++": Comparator("resunet++", "ResUNet++", 4_070_385),
    "unet": Comparator("unet", "U-Net", 7_771_873),
    "doubleunet": Comparator("doubleunet", "DoubleU-Net", 29_297_570),
}

#: What `--variant` can name.
Network = Variant | Comparator
NETWORKS: dict[str, Network] = {**VARIANTS, **COMPARATORS}

DEFAULT_SIZE = 256
SIZE_MULTIPLE = 32


def get_variant(name: str) -> Variant:
    """Look a NanoNet up by name, in any case; `get_network` knows the others too.

    Raises:
        UsageError: there is no such variant.
    """
    return _look_up(VARIANTS, name)


def get_network(name: str) -> Network:
    """Look a NanoNet or one of the networks it is compared with up by name, in any case.

    Raises:
        UsageError: there is no such network.
    """
    return _look_up(NETWORKS, name)


def _look_up(known: Mapping[str, _Found], name: str) -> _Found:
    try:
        return known[name.lower()]
    except KeyError:
        raise UsageError(f"variant '{name}' is unknown: expected one of {', '.join(known)}") from None


def topology_of(network: Network, asked: Topology | None = None) -> Topology | None:
    """The topology to build: what was asked for, `released` by default, none but for a NanoNet.

    Raises:
        UsageError: one was asked for and the network has none.
    """
    if isinstance(network, Variant):
        return asked or Topology.RELEASED
    if asked is not None:
        raise UsageError(f"{network.title} has no topologies, as NanoNet has: drop --topology")
    return None


def check_size(size: int) -> int:
    """Return `size` if NanoNet can take a square input of that many pixels.

    Raises:
        UsageError: it is not a positive multiple of 32.
    """
    if size <= 0 or size % SIZE_MULTIPLE:
        raise UsageError(f"input size {size} cannot be used: expected a positive multiple of {SIZE_MULTIPLE}")
    return size
