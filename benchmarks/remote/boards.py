"""Boards that are reached from here: one by its address, several by a TOML file.

[[board]]
host = "pi@pi5.local"        # as ssh is told; the only key that must be there
name = "bench-pi5"           # in tables and file names; the host if left out
device = "raspberry-pi-5"    # what it is expected to be: a profile or a family
threads = 4                  # instead of bench --threads
python = "/opt/edge/bin/python"    # an interpreter there that has the engine: no wheels are sent
site = "/opt/edge/site-packages"   # or a folder there that has it
folder = "/var/tmp"          # where the private folder is made; the system's for temporary files
ssh_config = "boards.conf"   # instead of ~/.ssh/config; beside this file
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from nanonet_edge.devices.files import printable
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.manifest import Record

_FILE_LIMIT = 1 << 20

Text = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Board(Record):
    """How a board is reached and what it has; the keys of the TOML file, described there.

    `root` is where on the board the files lie in which it describes itself; another folder than / only
    for tests.
    """

    host: Text
    label: Text | None = Field(default=None, alias="name")
    device: Text | None = None
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    python: Text = "python3"
    site: Text | None = None
    folder: Text | None = None
    ssh_config: Path | None = None
    root: str = "/"

    @property
    def name(self) -> str:
        """What it is called in messages, tables and file names."""
        return self.label or self.host

    @property
    def has_own_engine(self) -> bool:
        """Whether the board is said to have an environment of its own."""
        return self.python != "python3" or self.site is not None

    @property
    def file_stem(self) -> str:
        """Its name with nothing that a path could mean."""
        return "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "-" for one in self.name)


def split_address(text: str) -> tuple[str | None, str, int | None]:
    """User, host and port of "host", "user@host" or "ssh://user@host:port".

    Raises:
        UsageError: it is none of these.
    """
    user, host, port = None, text, None
    if text.startswith("ssh://"):
        try:
            parts = urlsplit(text)
            user, host, port = parts.username, parts.hostname or "", parts.port
        except ValueError:
            host = ""
        if parts.password is not None:
            raise UsageError("host: a password does not belong on a command line: use a key or an agent")
    elif "@" in text:
        user, _, host = text.rpartition("@")
    if not host or host.startswith("-") or not host.isprintable() or " " in host or user == "":
        raise UsageError(f"host: expected user@host or ssh://user@host:port, found '{printable(text)}'")
    return user, host, port


def board_at(host: str, device: str | None = None) -> Board:
    """The board at an address, without any other wish.

    Raises:
        UsageError: it is no address.
    """
    split_address(host)
    return Board(host=host, device=device)


def read_boards(path: Path) -> tuple[Board, ...]:
    """Read a file of boards.

    Raises:
        InputError: there is no such file, it is no TOML, a key is wrong, two boards have one name, or
            there are none.
    """
    try:
        data = _load_toml(path)
    except FileNotFoundError:
        raise InputError(f"{path}: expected a file of boards, found nothing") from None
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, found {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: expected TOML, found {error}") from None
    entries = data.get("board")
    if set(data) != {"board"} or not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected [[board]] tables, found {', '.join(sorted(data)) or 'nothing'}")
    boards = tuple(_read_board(path, number, entry) for number, entry in enumerate(entries, 1))
    stems = [board.file_stem for board in boards]
    if twins := sorted({board.name for board in boards if stems.count(board.file_stem) > 1}):
        raise InputError(f"{path}: expected names that differ, found {', '.join(twins)} more than once")
    return boards


def _read_board(path: Path, number: int, entry: Any) -> Board:
    try:
        board = Board.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: board {number}: {where}: {first['msg']}") from None
    try:
        split_address(board.host)
    except UsageError as error:
        raise InputError(f"{path}: board {number}: {error}") from None
    if board.root != "/":
        raise InputError(f"{path}: board {number}: root: this key is not one of a file")
    if board.ssh_config is not None:
        board = board.model_copy(update={"ssh_config": path.parent / board.ssh_config.expanduser()})
    return board


def _load_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    content = path.read_bytes()
    if len(content) > _FILE_LIMIT:
        raise ValueError(f"{len(content)} bytes")
    return tomllib.loads(content.decode("utf-8"))
