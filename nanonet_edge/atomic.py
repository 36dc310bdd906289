"""Writing that is all or nothing.

A file or folder is built under a temporary name beside its destination, flushed to disk,
and moved into place in one system call. A run killed at any moment leaves the old content
or the new, never a mixture.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nanonet_edge.errors import UsageError

_TEMPORARY = ".nanonet-edge-tmp-"
_OLD = "-old"
#: Owner's process, destination's name and whether it is the old content, from a temporary's name.
_LEFTOVER = re.compile(re.escape(_TEMPORARY) + rf"(\d+)-(?:(.+)-)?[a-z0-9_]{{8}}({_OLD})?")
#: Temporary names that this process is writing under now.
_being_written: set[Path] = set()
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) all at once, creating its folder if need be."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file all at once, creating its folder if need be.

    Raises:
        OSError: names `path`, also where the system does not: a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    descriptor, name = tempfile.mkstemp(prefix=f"{_TEMPORARY}{os.getpid()}-", dir=path.parent)
    _being_written.add(Path(name))
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        _being_written.discard(Path(name))
    _sync_folder(path.parent)


@contextlib.contextmanager
def replaced_folder(destination: Path) -> Iterator[Path]:
    """Give a fresh folder to fill; when the block ends well it becomes `destination`.

    An existing folder at `destination` is exchanged for the new one and then removed. If the
    block raises, the new folder is removed and `destination` stays as it was. What earlier,
    killed runs left beside it is removed first. A symbolic link at `destination` stays: the
    folder that it leads to is replaced.

    Raises:
        UsageError: `destination` is a file.
    """
    destination = Path(os.path.realpath(destination))
    if destination.exists() and not destination.is_dir():
        raise UsageError(f"{destination}: expected a folder to replace, found a file")
    destination.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(destination.parent)
    prefix = f"{_TEMPORARY}{os.getpid()}-{destination.name}-"
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=destination.parent))
    _being_written.add(staging)
    try:
        staging.chmod(0o755)
        yield staging
        _sync_tree(staging)
        _move_into_place(staging, destination)
        _sync_folder(destination.parent)
    finally:
        # After an exchange the temporary name holds the old content.
        shutil.rmtree(staging, ignore_errors=True)
        _being_written.discard(staging)


def _move_into_place(staging: Path, destination: Path) -> None:
    if not destination.exists():
        staging.rename(destination)
    elif not _exchange(staging, destination):
        # No atomic exchange on this system: the gap is two renames wide.
        old = staging.with_name(staging.name + _OLD)
        destination.rename(old)
        try:
            staging.rename(destination)
        except OSError:
            old.rename(destination)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one system call; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(second))


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{_TEMPORARY}*"):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or path in _being_written or _is_alive(int(match[1])):
            continue
        destination = folder / match[2] if match[2] else path
        if match[3] and not destination.exists():
            # Its run died between the two renames of a system without an exchange.
            path.rename(destination)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Whether another process may still be writing under this number.

    In a container every run is process 1: what bears our own number, and is not being written
    by us, is an earlier run's.
    """
    import psutil

    return pid != os.getpid() and bool(psutil.pid_exists(pid))


def _sync_tree(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(root)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
