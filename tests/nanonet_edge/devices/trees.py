"""Planted file systems: what boards show of themselves, as recorded on them or in their device trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nanonet_edge.devices import load_catalogue

A53_CPUINFO = """processor\t: 0
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

Hardware\t: BCM2835
Revision\t: 902120
"""
NANO_CPUINFO = """processor\t: 0
model name\t: ARMv8 Processor rev 1 (v8l)
BogoMIPS\t: 38.40
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd07
"""
X86_CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme sse sse2 ht syscall nx lm avx2\n"
ARMV7_CPUINFO = (
    "processor\t: 0\nFeatures\t: half thumb fastmult vfp edsp neon vfpv3 crc32\nCPU architecture: 7\n"
)

R36 = "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18\n"
R35 = "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n"
R32 = "# R32 (release), REVISION: 7.6, GCID: 38171779, BOARD: t210ref, EABI: aarch64\n"


def tree(model: str, *compatible: str, cpuinfo: str = A53_CPUINFO, **more: str) -> dict[str, bytes]:
    """Files of a board by path; `more` are further files, ``__`` for ``/``."""
    files = {
        "proc/device-tree/model": model.encode() + b"\0",
        "proc/device-tree/compatible": b"".join(entry.encode() + b"\0" for entry in compatible),
        "proc/cpuinfo": cpuinfo.encode(),
    }
    return files | {path.replace("__", "/"): text.encode() for path, text in more.items()}


def usb(identifier: str, port: str = "2-1") -> dict[str, bytes]:
    """A device on the USB."""
    vendor, product = identifier.encode().split(b":")
    folder = f"sys/bus/usb/devices/{port}"
    return {f"{folder}/idVendor": vendor + b"\n", f"{folder}/idProduct": product + b"\n"}


def pci(identifier: str) -> dict[str, bytes]:
    """A device on the PCI bus, with the node that its driver makes."""
    vendor, device = identifier.encode().split(b":")
    folder = "sys/bus/pci/devices/0000:01:00.0"
    return {
        f"{folder}/vendor": b"0x" + vendor + b"\n",
        f"{folder}/device": b"0x" + device + b"\n",
        "dev/apex_0": b"",
    }


def plant(root: Path, files: dict[str, bytes]) -> Path:
    """Write the files below `root`."""
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


def own(folder: Path, name: str, **changes: Any) -> Path:
    """A profile of the user's, made of Raspberry Pi 5's."""
    folder.mkdir(exist_ok=True)
    raw = json.loads(load_catalogue(environment={}).paths["raspberry-pi-5"].read_text(encoding="utf-8"))
    path = folder / f"{name}.json"
    path.write_text(json.dumps(raw | {"name": name} | changes))
    return path


_ORIN = "nvidia,tegra234"

#: What each profile's device shows of itself.
BOARDS: dict[str, dict[str, bytes]] = {
    "raspberry-pi-3b-plus": tree(
        "Raspberry Pi 3 Model B Plus Rev 1.3", "raspberrypi,3-model-b-plus", "brcm,bcm2837"
    ),
    "raspberry-pi-4": tree("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b", "brcm,bcm2711"),
    "raspberry-pi-5": tree("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712"),
    "raspberry-pi-zero-2w": tree(
        "Raspberry Pi Zero 2 W Rev 1.0", "raspberrypi,model-zero-2-w", "brcm,bcm2837"
    ),
    "jetson-nano": tree(
        "NVIDIA Jetson Nano Developer Kit",
        "nvidia,p3449-0000-b00+p3448-0000-b00",
        "nvidia,jetson-nano",
        "nvidia,tegra210",
        cpuinfo=NANO_CPUINFO,
        etc__nv_tegra_release=R32,
    ),
    "jetson-xavier-nx": tree(
        "NVIDIA Jetson Xavier NX Developer Kit",
        "nvidia,p3509-0000+p3668-0001",
        "nvidia,tegra194",
        etc__nv_tegra_release=R35,
    ),
    "jetson-orin-nano": tree(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        "nvidia,p3768-0000+p3767-0005-super",
        _ORIN,
        etc__nv_tegra_release=R36,
    ),
    "jetson-orin-nx": tree(
        "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
        "nvidia,p3768-0000+p3767-0000",
        "nvidia,p3767-0000",
        _ORIN,
        etc__nv_tegra_release=R36,
    ),
    "jetson-agx-orin": tree(
        "NVIDIA Jetson AGX Orin Developer Kit",
        "nvidia,p3737-0000+p3701-0005",
        _ORIN,
        etc__nv_tegra_release=R36,
    ),
    "coral-dev-board": tree("Freescale i.MX8MQ Phanbell", "google,imx8mq-phanbell", "fsl,imx8mq")
    | pci("1ac1:089a"),
    "generic-aarch64": {"proc/cpuinfo": NANO_CPUINFO.encode()},
    "generic-x86-64": {"proc/cpuinfo": X86_CPUINFO.encode()},
}
ACCELERATORS: dict[str, dict[str, bytes]] = {
    "coral-usb": usb("18d1:9302"),
    "coral-pcie": pci("1ac1:089a"),
}
