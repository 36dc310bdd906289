"""Where emulated machines are kept, and whether what lies there is whole.

    <cache>/<machine>/root     the Debian packages, unpacked
                      site     the wheels, unpacked
                      wheels   the wheels themselves, until they are unpacked
                      bytecode what the guest's Python compiled
                      root.json, site.json   what each tree holds, with a digest over all of it

A tree appears at once or not at all, and its record after it: a set-up that was cut off goes on
with the trees that have none.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from nanonet_edge.atomic import write_text
from nanonet_edge.benchmarks.emulation.machines import GuestMachine
from nanonet_edge.errors import UsageError
from nanonet_edge.manifest import Record, Sha256, sha256_file

CACHE_VARIABLE: Final = "NANONET_EDGE_EMULATION"
#: How folders begin that a set-up works in, and that one which was killed leaves.
BOOTSTRAP_PREFIX: Final = ".bootstrap-"

Tree = Literal["root", "site"]
TreeState = Literal["absent", "unfinished", "ready", "damaged", "outdated"]

_TREES: Final[tuple[Tree, ...]] = ("root", "site")


class TreeRecord(Record):
    """``root.json`` or ``site.json``.

    `asked` is what the tree was made of (packages and where from, or wheels with digests): a
    release of the toolkit that asks for something else makes it anew. `contents` maps what is in it
    to versions.
    """

    schema_version: Literal[1] = 1
    asked: tuple[str, ...]
    contents: dict[str, str]
    sha256: Sha256


def default_cache() -> Path:
    """The folder that NANONET_EDGE_EMULATION names, else one in the user's cache."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "nanonet-edge" / "emulation"


@dataclass(frozen=True)
class Place:
    """The folder of one emulated machine; it need not exist."""

    machine: GuestMachine
    cache: Path

    @property
    def folder(self) -> Path:
        """All that is kept of it."""
        return self.cache / self.machine.name

    def tree(self, name: Tree) -> Path:
        """The folder of a tree."""
        return self.folder / name

    @property
    def wheels(self) -> Path:
        """Where wheels wait to be unpacked."""
        return self.folder / "wheels"

    @property
    def bytecode(self) -> Path:
        """Where the guest's Python keeps what it compiled."""
        return self.folder / "bytecode"

    def read(self, name: Tree) -> TreeRecord | None:
        """The record of a tree; None where there is none that can be read."""
        try:
            return TreeRecord.model_validate_json((self.folder / f"{name}.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def contents(self) -> dict[str, str]:
        """What is installed in the machine, as far as it is set up, and in which version."""
        records = [self.read(name) for name in _TREES]
        return {name: version for one in records if one for name, version in one.contents.items()}

    def write(self, name: Tree, contents: dict[str, str]) -> None:
        """Record that a tree is whole."""
        asked, digest = _asked_of(self.machine, name), digest_tree(self.tree(name))
        record = TreeRecord(asked=asked, contents=contents, sha256=digest)
        write_text(self.folder / f"{name}.json", record.model_dump_json(indent=1) + "\n")

    def state(self, name: Tree) -> TreeState:
        """How it stands with a tree; reads all of it."""
        if not self.tree(name).is_dir():
            return "absent"
        record = self.read(name)
        if record is None:
            return "unfinished"
        if record.asked != _asked_of(self.machine, name):
            return "outdated"
        return "ready" if digest_tree(self.tree(name)) == record.sha256 else "damaged"

    def check(self) -> None:
        """Make sure that the machine can be used as it is.

        Raises:
            UsageError: it is not set up, or not what it was when it was; the line to type is in it.
        """
        for name in _TREES:
            state = self.state(name)
            if state != "ready":
                word = {"absent": "not set up", "unfinished": "half set up"}.get(state, state)
                raise UsageError(
                    f"{self.tree(name)}: the emulated machine is {word}: nanonet-edge emulate setup "
                    f"--machine {self.machine.name}"
                )

    def remove(self) -> bool:
        """Delete what is kept of the machine, nothing else that lies there; False where there is nothing."""
        if not self.folder.is_dir():
            return False
        for name in (*_TREES, "wheels", "bytecode"):
            # The record first: a removal that is cut off leaves an unfinished machine.
            (self.folder / f"{name}.json").unlink(missing_ok=True)
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for leftover in self.folder.glob(f"{BOOTSTRAP_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
        return True


def _asked_of(machine: GuestMachine, name: Tree) -> tuple[str, ...]:
    """What a tree is to be made of."""
    if name == "root":
        return (machine.architecture, *machine.packages)
    return tuple(f"{wheel.requirement} sha256:{wheel.sha256}" for wheel in machine.wheels)


def digest_tree(folder: Path) -> str:
    """SHA-256 over the names, kinds and contents of everything below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            what = f"link {path.readlink()}"
        elif stat.S_ISREG(mode):
            what = f"file {mode & 0o111:o} {sha256_file(path)}"
        else:
            what = "folder"
        digest.update(f"{path.relative_to(folder)}\0{what}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()
