"""The machines that can be emulated, and what is put into each: pinned, with digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.variants import Format

SUITE: Final = "bookworm"
MIRROR: Final = "http://deb.debian.org/debian"
#: Debian 12's Python, which the wheels must fit.
PYTHON: Final = "3.11"


@dataclass(frozen=True)
class Wheel:
    """One wheel: `name` and `version` as the package index has them, the file's name and SHA-256."""

    name: str
    version: str
    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class GuestMachine:
    """An architecture that is emulated.

    Attributes:
        name: as the user types it.
        architecture: Debian's name for it.
        emulators: QEMU's programs that run its binaries, the preferred one first.
        counting_emulator: the one that takes plugins, None where counting is not supported.
        packages: of Debian, with what they depend on.
        wheels: unpacked beside them.
        engines: runtime name -> the formats that it loads.
        core: what ``-cpu`` is given, None for the device's own.
    """

    name: str
    architecture: str
    emulators: tuple[str, ...]
    counting_emulator: str | None
    packages: tuple[str, ...]
    wheels: tuple[Wheel, ...]
    engines: Mapping[str, frozenset[Format]]
    core: str | None = None

    def check_engines(self, names: Sequence[str]) -> None:
        """Refuse engines that it does not have.

        Raises:
            UnsupportedError: lists the ones it has.
        """
        for name in names:
            if name not in self.engines:
                known = ", ".join(self.engines)
                raise UnsupportedError(
                    f"runtime '{name}' is not set up on {self.name}: expected one of {known}"
                )


_TFLITE = frozenset({Format.TFLITE})
_PACKAGES = ("python3", "libstdc++6", "libgomp1", "libatomic1")

AARCH64: Final = GuestMachine(
    name="aarch64",
    architecture="arm64",
    emulators=("qemu-aarch64-static", "qemu-aarch64"),
    counting_emulator="qemu-aarch64",
    packages=_PACKAGES,
    wheels=(
        # The last NumPy that the old tflite-runtime runs with; the other engines take it as well.
        Wheel(
            "numpy",
            "1.26.4",
            "numpy-1.26.4-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
            "7ab55401287bfec946ced39700c053796e7cc0e3acbef09993a9ad2adba6ca6e",
        ),
        Wheel(
            "ai-edge-litert",
            "2.3.0",
            "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_aarch64.whl",
            "853fc608f96da87bd5f3458465dfb9abbf18d5ae6b94eceacead407146f175ae",
        ),
        Wheel(
            "onnxruntime",
            "1.32.0",
            "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_aarch64.whl",
            "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
        ),
        Wheel(
            "tflite-runtime",
            "2.14.0",
            "tflite_runtime-2.14.0-cp311-cp311-manylinux_2_34_aarch64.whl",
            "ce9fa5d770a9725c746dcbf6f59f3178233b3759f09982e8b2db8d2234c333b0",
        ),
    ),
    engines={"litert": _TFLITE, "onnxruntime": frozenset({Format.ONNX}), "tflite-runtime": _TFLITE},
)

ARMV7: Final = GuestMachine(
    name="armv7",
    architecture="armhf",
    emulators=("qemu-arm-static", "qemu-arm"),
    counting_emulator=None,
    # No wheel of NumPy exists for it: Debian's.
    packages=(*_PACKAGES, "python3-numpy"),
    wheels=(
        Wheel(
            "tflite-runtime",
            "2.14.0",
            "tflite_runtime-2.14.0-cp311-cp311-manylinux_2_34_armv7l.whl",
            "c4e66a74165b18089c86788400af19fa551768ac782d231a9beae2f6434f7949",
        ),
    ),
    engines={"tflite-runtime": _TFLITE},
    # QEMU has no 32-bit mode of the boards' own cores in user emulation.
    core="max",
)

MACHINES: Final = {machine.name: machine for machine in (AARCH64, ARMV7)}


def find_machine(name: str) -> GuestMachine:
    """The machine of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in MACHINES:
        raise UsageError(f"machine '{name}' cannot be emulated: expected one of {', '.join(MACHINES)}")
    return MACHINES[name]
