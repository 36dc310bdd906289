"""Unpack archives that nobody vouches for.

Refused, before a byte of the archive lies outside its folder: names that lead out of it, links
and devices, names given twice, encrypted entries, and more entries or bytes than a dataset has.
What is counted are the bytes that come out, not those that the archive claims.
"""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from nanonet_edge.errors import InputError

MAX_ENTRIES = 100_000
#: Twenty times the largest of the paper's datasets.
MAX_BYTES = 4 << 30
#: JPEG and PNG hardly shrink: a hundredfold is no dataset.
MAX_RATIO = 100
_CHUNK = 1 << 20
#: Archives below this may unpack to as much as one of this size: text shrinks more than images.
_SMALL = 1 << 16
_INNER_ARCHIVES = (".tar.gz", ".tgz", ".tar")
#: What archivers leave behind.
_JUNK = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db"})
_UNIX = 3

Progress = Callable[[int, int], None]


class _Budget:
    """What may still come out of an archive."""

    def __init__(self, archive: Path, max_bytes: int, max_entries: int) -> None:
        self.archive = archive
        self.bytes = max_bytes
        self.entries = max_entries
        self.names: set[str] = set()

    def spend(self, count: int) -> None:
        self.bytes -= count
        if self.bytes < 0:
            raise InputError(f"{self.archive}: unpacks to more than a dataset of its size can hold")

    def enter(self, name: str) -> None:
        self.entries -= 1
        if self.entries < 0:
            raise InputError(f"{self.archive}: expected at most {MAX_ENTRIES} entries, found more")
        # File systems that know no capitals would write one over the other.
        if name.casefold() in self.names:
            raise InputError(f"{self.archive}: expected each name once, found '{name}' twice")
        self.names.add(name.casefold())


def unpack_zip(
    archive: Path,
    folder: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_entries: int = MAX_ENTRIES,
    progress: Progress | None = None,
) -> int:
    """Unpack a ZIP, and the tar archives in it, into a folder that is there and empty.

    A top folder that holds everything is left out; a tar archive (Kvasir-Instrument's
    `images.tar.gz`) is replaced by what is in it. On an error the folder holds a part: give a
    temporary one.

    Args:
        archive: the file.
        folder: where to.
        max_bytes: how much may come out, also limited to a hundred times the archive's size.
        max_entries: how many files and folders.
        progress: called with the files that are unpacked, and how many there are.

    Returns:
        How many files there are now.

    Raises:
        InputError: it is no ZIP, is damaged, or has an entry that is refused.
    """
    budget = _Budget(archive, min(max_bytes, MAX_RATIO * max(archive.stat().st_size, _SMALL)), max_entries)
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [one for one in opened.infolist() if not _is_junk(one.filename)]
            for entry in entries:
                budget.enter(_safe(archive, entry.filename).as_posix())
                _check_entry(archive, entry)
            claimed, free = sum(entry.file_size for entry in entries), shutil.disk_usage(folder).free
            if claimed > free:
                raise InputError(f"{folder}: expected room for {claimed} bytes, found {free} free")
            top = _top_folder(entries)
            files = [entry for entry in entries if not entry.is_dir()]
            for done, entry in enumerate(files, 1):
                target = folder.joinpath(*PurePosixPath(entry.filename).parts[1 if top else 0 :])
                with opened.open(entry) as source:
                    _copy(source, target, budget)
                if target.name.endswith(_INNER_ARCHIVES):
                    _unpack_tar(target, target.parent, budget)
                    target.unlink()
                if progress is not None:
                    progress(done, len(files))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InputError(f"{archive}: expected a whole ZIP archive: {error}") from None
    return sum(path.is_file() for path in folder.rglob("*"))


def _unpack_tar(archive: Path, folder: Path, budget: _Budget) -> None:
    try:
        with tarfile.open(archive, "r|*") as opened:
            for entry in opened:
                if _is_junk(entry.name) or PurePosixPath(entry.name) == PurePosixPath():
                    continue
                name = _safe(archive, entry.name)
                if entry.isdir():
                    continue
                source = opened.extractfile(entry) if entry.isfile() else None
                if source is None:
                    raise InputError(f"{archive}: refusing '{entry.name}': it is no plain file or folder")
                target = folder / name
                budget.enter(f"{archive.parent.as_posix()}/{name.as_posix()}")
                if target.exists():
                    raise InputError(f"{archive}: refusing '{entry.name}': there is one already")
                with source:
                    _copy(source, target, budget)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{archive.name}: expected a whole tar archive: {error}") from None


def _copy(source: IO[bytes], target: Path, budget: _Budget) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            budget.spend(len(chunk))
            file.write(chunk)


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    # A drive letter or a backslash leads out of the folder on Windows alone; a NUL nowhere good.
    if not path.parts or path.is_absolute() or ".." in path.parts or re.search(r"[\\\x00]|^[A-Za-z]:", name):
        raise InputError(f"{archive}: refusing '{name}': it leads out of the folder")
    return path


def _check_entry(archive: Path, entry: zipfile.ZipInfo) -> None:
    mode = entry.external_attr >> 16 if entry.create_system == _UNIX else 0
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"{archive}: refusing '{entry.filename}': it is no plain file or folder")
    if entry.flag_bits & 1:
        raise InputError(f"{archive}: refusing '{entry.filename}': it is encrypted")


def _top_folder(entries: list[zipfile.ZipInfo]) -> bool:
    parts = [PurePosixPath(entry.filename).parts for entry in entries]
    tops = {one[0] for one in parts}
    loose = any(len(one) == 1 and not entry.is_dir() for one, entry in zip(parts, entries, strict=True))
    return len(tops) == 1 and not loose


def _is_junk(name: str) -> bool:
    return any(part in _JUNK or part.startswith("._") for part in PurePosixPath(name).parts)
