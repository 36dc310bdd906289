"""All device profiles that are known: those that ship, and the user's own.

The user's folder is named by NANONET_EDGE_DEVICES, or ``--devices DIR`` on the command line. It
holds profiles, and may hold ``defaults.json``: which member of a family is meant where only the
family is named, such as ``{"jetson": "jetson-agx-orin"}``.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanonet_edge.devices.files import printable
from nanonet_edge.devices.profile import PROFILE_SUFFIX, Profile, load_profile
from nanonet_edge.errors import InputError, UsageError

FOLDER_VARIABLE: Final = "NANONET_EDGE_DEVICES"
DEFAULTS_NAME: Final = "defaults.json"
_BUILT_IN = Path(__file__).parent / "profiles"
_MAX_DEFAULTS_BYTES = 1 << 16


@dataclass(frozen=True)
class Catalogue:
    """Profiles by name.

    Attributes:
        profiles: by name, in the order of names.
        paths: where each was read.
        notes: what a user should be told, one line each: an own profile that replaces another.
        configured: family -> (member, where that was written), from ``defaults.json``.
    """

    profiles: Mapping[str, Profile]
    paths: Mapping[str, Path]
    notes: tuple[str, ...] = ()
    configured: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def families(self) -> tuple[str, ...]:
        """The families that have members, by name."""
        return tuple(sorted({profile.family for profile in self.profiles.values()}))

    def get(self, name: str) -> Profile:
        """The profile of that name.

        Raises:
            UsageError: there is none; the line names near matches.
        """
        try:
            return self.profiles[name]
        except KeyError:
            raise unknown_device(name, [*self.profiles, *self.families]) from None


def unknown_device(name: str, known: list[str]) -> UsageError:
    """The error for a name that nothing has: with the nearest names, or all of them."""
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    everything = ", ".join(sorted(set(known)))
    hint = f"did you mean {' or '.join(near)}?" if near else f"expected one of {everything}"
    return UsageError(f"device {printable(name, 40)!r} is unknown: {hint}")


def load_catalogue(folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Catalogue:
    """Read the profiles that ship, then those of NANONET_EDGE_DEVICES, then those of `folder`.

    A later profile replaces an earlier one of the same name, and a note says so.

    Raises:
        InputError: a folder that is not there, or a profile that does not meet the schema.
    """
    environment = os.environ if environment is None else environment
    folders = [_BUILT_IN]
    if named := environment.get(FOLDER_VARIABLE):
        folders.append(Path(named))
    if folder is not None:
        folders.append(folder)
    profiles: dict[str, Profile] = {}
    paths: dict[str, Path] = {}
    notes: list[str] = []
    configured: dict[str, tuple[str, str]] = {}
    for place in dict.fromkeys(folders):
        for path in _profile_files(place):
            profile = load_profile(path)
            if profile.name in profiles:
                notes.append(f"{profile.name}: {path} replaces {_which(paths[profile.name])}")
            profiles[profile.name], paths[profile.name] = profile, path
        configured.update(_read_defaults(place / DEFAULTS_NAME))
    return Catalogue(dict(sorted(profiles.items())), paths, tuple(notes), configured)


def is_built_in(path: Path) -> bool:
    """Whether a profile ships with the package."""
    return path.parent == _BUILT_IN


def _which(path: Path) -> str:
    return "the profile that ships" if is_built_in(path) else str(path)


def _profile_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise InputError(f"{folder}: expected a folder of device profiles, found {found}")
    return sorted(path for path in folder.glob(f"*{PROFILE_SUFFIX}") if path.name != DEFAULTS_NAME)


def _read_defaults(path: Path) -> dict[str, tuple[str, str]]:
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            data: Any = json.loads(file.read(_MAX_DEFAULTS_BYTES).decode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, found {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON, found {printable(str(error))}") from None
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise InputError(f'{path}: expected such as {{"jetson": "jetson-agx-orin"}}, found something else')
    return {family: (member, str(path)) for family, member in data.items()}
