"""What an emulated processor says of itself in /proc and /sys.

QEMU shows the guest the host's /proc/cpuinfo. On an x86 one LiteRT and onnxruntime crash; on that
of another Arm core they would choose another core's kernels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: QEMU's name -> (part number, variant, revision) of Arm's core, as its MIDR_EL1 has them.
_CORES: Final[dict[str, tuple[int, int, int]]] = {
    "cortex-a53": (0xD03, 0, 4),
    "cortex-a57": (0xD07, 1, 0),
    "cortex-a72": (0xD08, 0, 3),
    "cortex-a76": (0xD0B, 4, 1),
}
_ARM = 0x41
_ARMV8_0 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARMV8_2 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
)
_ARMV7 = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm"
#: As many cores as all the boards have, the fastest Jetsons aside.
_COUNT: Final = 4


def known_cores() -> tuple[str, ...]:
    """The 64-bit cores that can be described, by QEMU's names."""
    return tuple(_CORES)


def cpuinfo(core: str) -> str:
    """/proc/cpuinfo of four cores of a kind.

    Args:
        core: QEMU's name; "max" for a 32-bit system, described as a Cortex-A72 in its 32-bit mode.
    """
    part, variant, revision = _CORES["cortex-a72" if core == "max" else core]
    features = _ARMV7 if core == "max" else _ARMV8_2 if core == "cortex-a76" else _ARMV8_0
    fields = {
        "BogoMIPS": "108.00",
        "Features": features,
        "CPU implementer": f"{_ARM:#x}",
        "CPU architecture": "7" if core == "max" else "8",
        "CPU variant": f"{variant:#x}",
        "CPU part": f"{part:#05x}",
        "CPU revision": str(revision),
    }
    lines = "".join(f"{name}\t: {value}\n" for name, value in fields.items())
    return "".join(f"processor\t: {number}\n{lines}\n" for number in range(_COUNT))


def make_prefix(root: Path, folder: Path, core: str) -> None:
    """Fill a folder for ``qemu -L``: links into `root`, and the processor's own files.

    `root` stays as it is: several emulations of different processors may use it at a time.
    """
    for entry in root.iterdir():
        (folder / entry.name).symlink_to(entry.resolve())
    planted = {"proc/cpuinfo": cpuinfo(core)}
    for name in ("possible", "present", "online"):
        planted[f"sys/devices/system/cpu/{name}"] = f"0-{_COUNT - 1}\n"
    for name, text in planted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
