"""From what a user typed after ``--device`` to one profile: a name, or a family and which member."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from nanonet_edge.devices.catalogue import Catalogue, load_catalogue, unknown_device
from nanonet_edge.devices.detect import detect
from nanonet_edge.devices.profile import Profile
from nanonet_edge.errors import UsageError
from nanonet_edge.manifest import Record

#: ``NANONET_EDGE_DEVICE_JETSON=jetson-orin-nx`` says which member of a family is meant.
MEMBER_VARIABLE_PREFIX: Final = "NANONET_EDGE_DEVICE_"

#: The members that are meant where nothing is detected and nothing is configured.
DEFAULT_MEMBERS: Final[Mapping[str, str]] = {
    "jetson": "jetson-orin-nano",
    "raspberry-pi": "raspberry-pi-5",
    "coral": "coral-usb",
}

Rule = Literal["named", "detected", "configured", "default"]


class Resolution(Record):
    """The profile that was meant, the rule that chose it, and the rule in words for the user."""

    asked: str
    profile: Profile
    rule: Rule
    explanation: str


def resolve(
    name: str,
    catalogue: Catalogue | None = None,
    *,
    root: Path | str = "/",
    environment: Mapping[str, str] | None = None,
) -> Resolution:
    """Find the profile for a device's name, or for a family's.

    A family stands for its member that is detected below `root`, else the one that is configured
    (NANONET_EDGE_DEVICE_<FAMILY>, or ``defaults.json`` in the user's folder), else the documented
    default: Orin Nano, Raspberry Pi 5, Coral USB.

    Raises:
        UsageError: no device or family has that name, with near matches; a configured member that
            is unknown or of another family; a family of several without a default.
    """
    environment = os.environ if environment is None else environment
    catalogue = catalogue or load_catalogue(environment=environment)
    if name in catalogue.profiles:
        return _resolution(name, catalogue.profiles[name], "named", "")
    members = {key: profile for key, profile in catalogue.profiles.items() if profile.family == name}
    if not members:
        raise unknown_device(name, [*catalogue.profiles, *catalogue.families])
    for found in detect(root, catalogue).names:
        if found in members:
            return _resolution(name, members[found], "detected", "it was detected here")
    if (configured := _configured(name, catalogue, environment)) is not None:
        member, where = configured
        if member not in members:
            raise UsageError(
                f"{where}: expected a device of the family {name} ({', '.join(members)}), found {member!r}"
            )
        return _resolution(name, members[member], "configured", f"{where} says so")
    default = DEFAULT_MEMBERS.get(name) or (next(iter(members)) if len(members) == 1 else None)
    if default not in members:
        raise UsageError(
            f"device {name!r} is a family: name one of {', '.join(members)}, or set {_variable(name)} to one"
        )
    return _resolution(
        name, members[default], "default", f"none was detected, and {_variable(name)} does not name another"
    )


def _resolution(asked: str, profile: Profile, rule: Rule, why: str) -> Resolution:
    explanation = f"device {asked}: {profile.name} ({profile.title}), {rule}" + (f": {why}" if why else "")
    return Resolution(asked=asked, profile=profile, rule=rule, explanation=explanation)


def _configured(family: str, catalogue: Catalogue, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The member that is configured, and where; the environment goes before the file."""
    if member := environment.get(_variable(family)):
        return member, _variable(family)
    return catalogue.configured.get(family)


def _variable(family: str) -> str:
    return MEMBER_VARIABLE_PREFIX + family.upper().replace("-", "_")
