"""Reading the files in which a device describes itself, below any root folder.

What such files hold is not to be trusted: a folder copied from a board may have absolute links
(``/proc/device-tree`` is one), loops, pipes, or gigabytes. Every read is limited, every link is
followed inside the root, and nothing here raises: what cannot be read is None and has a line in
`DeviceFiles.troubles`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

#: As many links in a row as Linux follows.
_MAX_LINKS = 40
#: More entries than any sysfs folder read here has.
_MAX_ENTRIES = 4096
_TEXT_LIMIT = 4096


class DeviceFiles:
    """The files below `root`, named by paths relative to it such as ``"proc/cpuinfo"``.

    Attributes:
        troubles: one line per file that is there and could not be used, without repeats.
    """

    def __init__(self, root: Path | str = "/") -> None:
        self._root = Path(os.path.abspath(root))
        self._troubles: dict[str, None] = {}

    @property
    def troubles(self) -> tuple[str, ...]:
        """What was there but not usable, so far."""
        return tuple(self._troubles)

    def read(self, path: str, limit: int = _TEXT_LIMIT) -> bytes | None:
        """The content of a regular file; None if there is none, or more than `limit` bytes."""
        target = self._resolve(path)
        if target is None or not os.path.lexists(target):
            return None
        try:
            content = _read_regular(target, limit + 1)
        except OSError as error:
            self._trouble(path, f"cannot be read: {error.strerror or error}")
            return None
        if content is None:
            self._trouble(path, "expected a file, found something else")
            return None
        if len(content) > limit:
            self._trouble(path, f"expected at most {limit} bytes, found more")
            return None
        return content

    def text(self, path: str, limit: int = _TEXT_LIMIT) -> str | None:
        """The content as text without surrounding space and NULs; None if absent, empty or binary."""
        content = self.read(path, limit)
        if content is None:
            return None
        try:
            text = content.decode("utf-8").strip("\0 \t\r\n")
        except UnicodeDecodeError:
            self._trouble(path, "expected text, found binary data")
            return None
        if any(ord(character) < 32 and character not in "\t\r\n" for character in text):
            self._trouble(path, "expected text, found control characters")
            return None
        return text or None

    def integer(self, path: str, base: int = 10) -> int | None:
        """The one whole number in a file of at most 20 digits."""
        text = self.text(path)
        if text is None:
            return None
        number = parse_integer(text, base)
        if number is None:
            self._trouble(path, f"expected a whole number, found {printable(text, 24)!r}")
        return number

    def strings(self, path: str, limit: int = _TEXT_LIMIT) -> tuple[str, ...]:
        """The NUL-terminated strings of a device-tree property; empty if absent or binary."""
        content = self.read(path, limit)
        if not content:
            return ()
        try:
            found = tuple(part.strip() for part in content.decode("utf-8").split("\0"))
        except UnicodeDecodeError:
            self._trouble(path, "expected text, found binary data")
            return ()
        if not all(part.isprintable() for part in found):
            self._trouble(path, "expected text, found control characters")
            return ()
        return tuple(part for part in found if part)

    def exists(self, path: str) -> bool:
        """Whether there is anything at `path`: a file, a folder, a device node."""
        target = self._resolve(path)
        return target is not None and os.path.lexists(target)

    def entries(self, path: str) -> tuple[str, ...]:
        """The names in a folder, in order; empty if there is no such folder."""
        target = self._resolve(path)
        if target is None:
            return ()
        names = []
        try:
            with os.scandir(target) as found:
                for entry in found:
                    names.append(entry.name)
                    if len(names) == _MAX_ENTRIES:
                        self._trouble(path, f"only the first {_MAX_ENTRIES} entries are read")
                        break
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            self._trouble(path, f"cannot be listed: {error.strerror or error}")
            return ()
        return tuple(sorted(names, key=natural_order))

    def _resolve(self, path: str) -> Path | None:
        """Where `path` lies once all links are followed, each as if `root` were ``/``."""
        done: list[str] = []
        waiting = list(reversed(_parts(path)))
        links = 0
        while waiting:
            part = waiting.pop()
            if part == "..":
                del done[-1:]
                continue
            here = self._root.joinpath(*done, part)
            try:
                target = str(here.readlink())
            except (OSError, ValueError):  # not a link, or nothing there
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                self._trouble(path, "its links run in a circle")
                return None
            if target.startswith("/"):
                done.clear()
            waiting.extend(reversed(_parts(target)))
        return self._root.joinpath(*done)

    def _trouble(self, path: str, what: str) -> None:
        self._troubles.setdefault(f"{path}: {what}")


def printable(text: str, limit: int = 120) -> str:
    """`text` on one line without anything a terminal would obey, cut to `limit` characters."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def parse_integer(text: str, base: int = 10) -> int | None:
    """A whole number of at most 20 digits, or None; base 16 takes a leading ``0x``."""
    text = text.strip()
    digits = text.removeprefix("-")
    if base == 16:
        digits = digits.removeprefix("0x")
    if not 0 < len(digits) <= 20 or not digits.isascii() or not digits.isalnum():
        return None
    try:
        return int(text, base)
    except ValueError:
        return None


def _read_regular(path: Path, count: int) -> bytes | None:
    """At most `count` bytes of a regular file; None if it is a pipe, a folder, a device."""
    # Non-blocking, or opening a pipe would wait for somebody to write to it.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(count)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """A key to sort names by: ``cpu10`` behind ``cpu9``."""
    return tuple(_runs(name))


def _runs(name: str) -> Iterator[tuple[int, str]]:
    run = ""
    for character in name:
        is_digit = character in "0123456789"
        if run and is_digit != (run[-1] in "0123456789"):
            yield _run(run)
            run = ""
        run += character
    if run:
        yield _run(run)


def _run(run: str) -> tuple[int, str]:
    return (int(run), "") if run[0] in "0123456789" else (-1, run)
