"""Which device is this: from the files in which it describes itself, below any root folder.

The rules are data, in each profile's `detection`; what is found is returned with the file that
said so. Content is never trusted: see `nanonet_edge.devices.files`.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from nanonet_edge.devices.catalogue import Catalogue, load_catalogue
from nanonet_edge.devices.files import DeviceFiles, printable
from nanonet_edge.devices.jetpack import JetsonLinux, parse_tegra_release
from nanonet_edge.devices.profile import Profile
from nanonet_edge.manifest import Record

#: high: an identifier of this device alone, and nothing speaks against it. medium: only a name
#: that software wrote, or something contradicts. low: only the processor's architecture.
Confidence = Literal["high", "medium", "low"]

_MODEL: Final = "proc/device-tree/model"
_COMPATIBLE: Final = "proc/device-tree/compatible"
_CPUINFO: Final = "proc/cpuinfo"
_TEGRA_RELEASE: Final = "etc/nv_tegra_release"
_USB: Final = "sys/bus/usb/devices"
_PCI: Final = "sys/bus/pci/devices"
#: A server with hundreds of cores has a long one.
_CPUINFO_LIMIT = 4 << 20

#: A part number in an entry of `compatible`. NVIDIA lets a big module pose as a small one,
#: "...+p3701-0000-as-p3767-0004": what counts is the module that is there.
_MODULE = re.compile(r"(?<!-as-)\bp\d{4}-\d{4}(?!\d)")

#: How much each kind of evidence says: a part number more than a name.
_WEIGHT = {"module": 4, "compatible": 3, "model": 2, "cpuinfo": 1}


class Evidence(Record):
    """What one file said: its path below the root, the words, and what they mean."""

    file: str
    said: str
    means: str


class Match(Record):
    """One device that was found, by the name of its profile."""

    profile: str
    title: str
    confidence: Confidence
    evidence: tuple[Evidence, ...]


class Detection(Record):
    """What is known of the machine below a root folder.

    Attributes:
        board: the machine itself; None if not even its architecture could be told.
        accelerators: what is plugged into it.
        jetson_linux: the system's release, on a Jetson.
        conflicts: evidence that speaks for another device, one line each.
        troubles: files that are there and could not be used, one line each.
    """

    board: Match | None
    accelerators: tuple[Match, ...] = ()
    jetson_linux: JetsonLinux | None = None
    conflicts: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The profiles found, the board's first."""
        board = () if self.board is None else (self.board.profile,)
        return board + tuple(match.profile for match in self.accelerators)


def detect(root: Path | str | DeviceFiles = "/", catalogue: Catalogue | None = None) -> Detection:
    """Recognise the machine whose file system lies below `root`; never raises for what it holds.

    `root` may also be the files themselves, as those that another machine has sent.
    """
    files = root if isinstance(root, DeviceFiles) else DeviceFiles(root)
    profiles = list((catalogue or load_catalogue()).profiles.values())
    boards = [profile for profile in profiles if profile.kind == "board"]
    found = {profile.name: list(_identify(profile, files)) for profile in boards}
    ranked = sorted(boards, key=lambda profile: -_score(found[profile.name]))
    best = ranked[0] if ranked and found[ranked[0].name] else None
    conflicts = tuple(
        f"{evidence.file} says {evidence.said!r}: {evidence.means}"
        for other in ranked[1:]
        for _, evidence in found[other.name]
    )
    if best is None:
        board = _by_architecture(profiles, files, is_here=_is_here(root))
    else:
        evidence = found[best.name]
        is_sure = any(kind != "cpuinfo" for kind, _ in evidence) and not conflicts
        board = _match(best, "high" if is_sure else "medium", [item for _, item in evidence])
    release = files.text(_TEGRA_RELEASE)
    return Detection(
        board=board,
        accelerators=tuple(_plugged_in(profiles, best, files)),
        jetson_linux=parse_tegra_release(release) if release else None,
        conflicts=conflicts,
        troubles=files.troubles,
    )


def _is_here(root: Path | str | DeviceFiles) -> bool:
    return not isinstance(root, DeviceFiles) and os.path.abspath(root) == os.sep


def _match(profile: Profile, confidence: Confidence, evidence: Iterable[Evidence]) -> Match:
    return Match(profile=profile.name, title=profile.title, confidence=confidence, evidence=tuple(evidence))


def _score(found: list[tuple[str, Evidence]]) -> int:
    return sum(_WEIGHT[kind] for kind, _ in found)


def _identify(profile: Profile, files: DeviceFiles) -> Iterator[tuple[str, Evidence]]:
    """All that speaks for a board, with its kind."""
    rules = profile.detection
    means = f"a {profile.title}"
    model = " ".join(files.strings(_MODEL))
    if _begins_with(model, rules.models):
        yield "model", Evidence(file=_MODEL, said=printable(model), means=means)
    for entry in files.strings(_COMPATIBLE):
        if set(_MODULE.findall(entry)) & set(rules.modules):
            yield "module", Evidence(file=_COMPATIBLE, said=printable(entry), means=f"a module of {means}")
        elif entry in rules.compatible:
            yield "compatible", Evidence(file=_COMPATIBLE, said=printable(entry), means=means)
    # Where the device tree is hidden, as in a container, the kernel still writes the model here.
    named = dict(_cpuinfo(files)).get("Model", "")
    if _begins_with(named, rules.models):
        yield "cpuinfo", Evidence(file=_CPUINFO, said=printable(f"Model: {named}"), means=means)


def _begins_with(text: str, beginnings: tuple[str, ...]) -> bool:
    """Whether `text` begins with one of these, up to the end of a word."""
    return any(
        text.startswith(begin) and not text[len(begin) : len(begin) + 1].isalnum() for begin in beginnings
    )


def _cpuinfo(files: DeviceFiles) -> Iterator[tuple[str, str]]:
    for line in (files.text(_CPUINFO, _CPUINFO_LIMIT) or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def _plugged_in(profiles: list[Profile], board: Profile | None, files: DeviceFiles) -> Iterator[Match]:
    """Accelerators, except those that are part of the board."""
    usb, pci = list(_usb_ids(files)), list(_pci_ids(files))
    for profile in profiles:
        rules = profile.detection
        if profile.kind != "accelerator":
            continue
        is_part = board is not None and set(rules.pci) & set(board.detection.pci)
        if is_part:
            continue
        means = f"a {profile.title}"
        evidence = [Evidence(file=file, said=said, means=means) for file, said in usb if said in rules.usb]
        evidence += [Evidence(file=file, said=said, means=means) for file, said in pci if said in rules.pci]
        present = filter(files.exists, rules.nodes)
        nodes = [Evidence(file=node, said="exists", means=means) for node in present]
        if evidence or nodes:
            yield _match(profile, "high" if evidence else "medium", [*evidence, *nodes])


def _usb_ids(files: DeviceFiles) -> Iterator[tuple[str, str]]:
    for name in files.entries(_USB):
        vendor, product = (files.text(f"{_USB}/{name}/{what}") for what in ("idVendor", "idProduct"))
        if vendor and product:
            yield f"{_USB}/{name}", printable(f"{vendor}:{product}".lower(), 40)


def _pci_ids(files: DeviceFiles) -> Iterator[tuple[str, str]]:
    for name in files.entries(_PCI):
        vendor, device = (files.text(f"{_PCI}/{name}/{what}") for what in ("vendor", "device"))
        if vendor and device:
            said = f"{vendor.lower().removeprefix('0x')}:{device.lower().removeprefix('0x')}"
            yield f"{_PCI}/{name}", printable(said, 40)


def _by_architecture(profiles: list[Profile], files: DeviceFiles, *, is_here: bool) -> Match | None:
    """A machine of no known kind: the profile for its architecture, where that can be told."""
    evidence = _architecture(files)
    if evidence is None and is_here:
        machine = platform.machine()
        evidence = Evidence(file="uname", said=machine, means=_ARCHITECTURES.get(machine, machine))
    for profile in profiles:
        if evidence is not None and profile.detection.architecture == evidence.means:
            means = f"the architecture is {evidence.means}"
            return _match(profile, "low", [evidence.model_copy(update={"means": means})])
    return None


#: As systems write it -> as wheels do.
_ARCHITECTURES = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def _architecture(files: DeviceFiles) -> Evidence | None:
    """What the first processor's lines say, with the architecture as `means`."""
    for key, value in _cpuinfo(files):
        words = value.split()
        if key == "flags" and "lm" in words:  # long mode: 64-bit x86
            return Evidence(file=_CPUINFO, said="flags: lm", means="x86_64")
        if key == "Features" and "asimd" in words:  # 32-bit kernels call it neon
            return Evidence(file=_CPUINFO, said="Features: asimd", means="aarch64")
    return None
