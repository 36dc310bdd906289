"""Reaching a board as OpenSSH does: the user's configuration, agent, keys and known hosts (asyncssh).

A host whose key is unknown or has changed is refused. Nobody is asked for a password.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nanonet_edge.benchmarks.remote.boards import Board, split_address
from nanonet_edge.benchmarks.remote.job import board_program
from nanonet_edge.devices.files import printable
from nanonet_edge.errors import DeviceError
from nanonet_edge.extras import require

if TYPE_CHECKING:
    import asyncssh

CONNECT_SECONDS: Final = 30.0
#: Two of these unanswered are a dropped connection.
_KEEPALIVE_SECONDS: Final = 15.0
_COMMAND_SECONDS: Final = 60.0
_ANSWER_LIMIT: Final = 1 << 20
_CHUNK: Final = 1 << 16
_DEFAULT_PORT: Final = 22
#: What a shell exits with.
_NO_SUCH_PROGRAM: Final = 127


class DroppedError(Exception):
    """The connection is gone; another one may go on."""


@contextlib.asynccontextmanager
async def connected(board: Board) -> AsyncIterator[Connection]:
    """A connection to a board.

    Raises:
        MissingExtraError: asyncssh is not installed.
        DeviceError: the host cannot be reached, its key is not known or has changed, or it lets
            us in with no key; one line that names it.
        DroppedError: on the way in.
    """
    connection = await _connect(board)
    try:
        yield Connection(board, connection)
    finally:
        connection.abort() if connection.is_closed() else connection.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(connection.wait_closed(), 5)


async def _connect(board: Board) -> asyncssh.SSHClientConnection:
    asyncssh = require("asyncssh")
    user, host, port = split_address(board.host)
    options: dict[str, Any] = {"username": user, "port": port}
    given = {name: value for name, value in options.items() if value is not None}
    if board.ssh_config is not None:
        given["config"] = [str(board.ssh_config)]
    try:
        return await asyncio.wait_for(
            asyncssh.connect(
                host,
                **given,
                password_auth=False,
                kbdint_auth=False,
                # Whatever the user's configuration says: a board needs neither.
                agent_forwarding=False,
                x11_forwarding=False,
                keepalive_interval=_KEEPALIVE_SECONDS,
                keepalive_count_max=2,
                login_timeout=CONNECT_SECONDS,
            ),
            CONNECT_SECONDS,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise DeviceError(_explain_host_key(board, host, str(error))) from None
    except asyncssh.PermissionDenied:
        raise DeviceError(
            f"{board.name}: the host lets us in with none of the keys of the agent and of ~/.ssh: "
            f"try ssh {shlex.quote(board.host)}"
        ) from None
    except (asyncssh.ConfigParseError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise DeviceError(f"{board.name}: {printable(str(error), 200)}") from None
    except asyncssh.DisconnectError as error:
        raise DroppedError(printable(error.reason, 200)) from None
    except (TimeoutError, asyncio.TimeoutError):
        raise DroppedError(f"no answer within {CONNECT_SECONDS:.0f} s") from None
    except (OSError, ValueError) as error:
        raise DroppedError(printable(getattr(error, "strerror", None) or str(error), 200)) from None


def _explain_host_key(board: Board, host: str, words: str) -> str:
    what = "is not the one in known_hosts: it has changed, or somebody is in between"
    if not _is_known(board, host):
        what = f"is not in known_hosts: connect once with ssh {shlex.quote(board.host)}, and compare it"
    return f"{board.name}: refused: the host's key {what} ({printable(words, 120)})"


def _is_known(board: Board, host: str) -> bool:
    """Whether some key of the host is known, by the same configuration."""
    import asyncssh

    try:
        user, _, port = split_address(board.host)
        config = () if board.ssh_config is None else [str(board.ssh_config)]
        options = asyncssh.SSHClientConnectionOptions(
            host=host, config=config, **({} if user is None else {"username": user})
        )
        files = options.known_hosts or str(Path("~/.ssh/known_hosts").expanduser())
        name = options.host_key_alias or options.host or host
        port = port or options.port
        found = asyncssh.match_known_hosts(files, name, "", None if port == _DEFAULT_PORT else port)
    except (OSError, ValueError, asyncssh.Error):
        return False
    return any(found[:2])


class Connection:
    """A connection that runs `board`'s program on the other side."""

    def __init__(self, board: Board, connection: asyncssh.SSHClientConnection) -> None:
        self.board = board
        self._connection = connection

    async def ask(self, code: bytes, arguments: Sequence[str] = ()) -> bytes:
        """Run a short program of ours in the board's Python and return what it printed.

        Raises:
            DeviceError: there is no such Python, it failed, or it printed too much.
            DroppedError: the connection broke.
        """
        process = await self.start(code, arguments)
        try:
            return await asyncio.wait_for(self._answer(process), _COMMAND_SECONDS)
        except (TimeoutError, asyncio.TimeoutError):
            raise DroppedError(f"no answer within {_COMMAND_SECONDS:.0f} s") from None
        finally:
            process.close()

    async def _answer(self, process: asyncssh.SSHClientProcess[bytes]) -> bytes:
        output = await read_limited(process.stdout, self.board.name)
        if output.strip():
            return output
        words = (await read_limited(process.stderr, self.board.name)).decode("utf-8", "replace")
        await process.wait_closed()
        if process.exit_status == _NO_SUCH_PROGRAM:
            raise DeviceError(f"{self.board.name}: expected {self.board.python} on the host, found none")
        if process.exit_status is None and process.exit_signal is None:
            raise DroppedError("the connection was lost")
        last = printable(words.strip().rpartition("\n")[2], 200)
        raise DeviceError(f"{self.board.name}: {self.board.python} failed there: {last or 'it says nothing'}")

    async def start(self, code: bytes, arguments: Sequence[str]) -> asyncssh.SSHClientProcess[bytes]:
        """Start a program of ours in the board's Python, with pipes."""
        import asyncssh

        try:
            return await asyncio.wait_for(
                self._connection.create_process(
                    python_command(self.board, code, arguments), encoding=None, request_pty=False
                ),
                _COMMAND_SECONDS,
            )
        except (OSError, asyncio.TimeoutError, asyncssh.Error) as error:
            raise DroppedError(printable(str(error), 200)) from None


async def read_limited(stream: asyncssh.SSHReader[bytes], source: str, limit: int = _ANSWER_LIMIT) -> bytes:
    """All that comes, if that is not too much.

    Raises:
        DeviceError: it is; names `source`.
        DroppedError: the connection broke.
    """
    import asyncssh

    found = b""
    try:
        while data := await stream.read(_CHUNK):
            found += data
            if len(found) > limit:
                raise DeviceError(f"{source}: expected an answer of at most {limit} bytes, found more")
    except (asyncssh.Error, OSError) as error:
        raise DroppedError(printable(str(error), 200)) from None
    return found


def python_command(board: Board, code: bytes, arguments: Sequence[str]) -> str:
    """One line for whatever shell the user has there; the program travels in base 64."""
    text = base64.b64encode(code).decode("ascii")
    words = [board.python, "-I", "-c", f"import base64;exec(base64.b64decode('{text}'))", *arguments]
    return " ".join(shlex.quote(word) for word in words)


def program(what: str, name: str, folder: str | None) -> tuple[bytes, list[str]]:
    """`board`'s program and its arguments."""
    return board_program(), [what, name, folder or ""]
