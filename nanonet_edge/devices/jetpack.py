"""Jetson Linux releases: which JetPack and TensorRT a board has, from /etc/nv_tegra_release."""

from __future__ import annotations

import re

from nanonet_edge.manifest import Record

#: Jetson Linux -> JetPack, from jetson_stats and jetson-containers (November 2026).
_JETPACK = {
    "39.2": "7.2",
    "38.4": "7.1",
    "38.2": "7.0",
    "36.5": "6.2.2",
    "36.4.7": "6.2.1",
    "36.4.4": "6.2.1",
    "36.4.3": "6.2",
    "36.4": "6.1",
    "36.3": "6.0",
    "35.6.4": "5.1.6",
    "32.7.6": "4.6.6",
}
#: The beginning of a Jetson Linux release -> TensorRT, the longest that fits; same sources.
_TENSORRT = {"32.": "8.2", "35.": "8.5", "36.3": "8.6", "36.4": "10.3", "36.5": "10.3"}

_RELEASE = re.compile(r"#\s*R(\d{1,3})\s*\(release\),\s*REVISION:\s*(\d{1,3}(?:\.\d{1,3}){0,2})")


class JetsonLinux(Record):
    """A release such as "36.4.7"; JetPack and TensorRT are None where the tables do not have it."""

    release: str
    jetpack: str | None
    tensorrt: str | None


def parse_tegra_release(text: str) -> JetsonLinux | None:
    """Read the first line of /etc/nv_tegra_release: ``# R36 (release), REVISION: 4.7, ...``."""
    match = _RELEASE.match(text.strip())
    if match is None:
        return None
    release = f"{match[1]}.{match[2]}"
    short = release.removesuffix(".0")
    fitting = [begin for begin in _TENSORRT if f"{short}.".startswith(begin)]
    return JetsonLinux(
        release=release,
        jetpack=_JETPACK.get(short),
        tensorrt=_TENSORRT[max(fitting, key=len)] if fitting else None,
    )
