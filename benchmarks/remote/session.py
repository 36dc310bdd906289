"""One board, from the first connection to the last result: place, run, listen, come back, clear up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nanonet_edge.benchmarks.remote.boards import Board
from nanonet_edge.benchmarks.remote.events import AliveEvent, Lines, parse_event
from nanonet_edge.benchmarks.remote.job import Job, Payload, wheel_payload
from nanonet_edge.benchmarks.remote.journal import Journal
from nanonet_edge.benchmarks.remote.probe import PROBE, Probe, board_wheels, parse_probe
from nanonet_edge.benchmarks.remote.ssh import Connection, DroppedError, connected, program
from nanonet_edge.devices.files import printable
from nanonet_edge.errors import DeviceError

if TYPE_CHECKING:
    import asyncssh

Report = Callable[[str], None]

#: Connections in a row that may break without anything being measured on them.
ATTEMPTS: Final = 4
_PAUSES: Final = (1.0, 4.0, 10.0, 20.0)
#: An agent says something every few seconds; so long a silence is a dropped connection.
SILENCE_SECONDS: Final = 120.0
_HEARTBEAT_SECONDS: Final = 15.0
#: Unpacking wheels on the slowest card takes minutes; an agent that only is alive for so long is stuck.
_STUCK_SECONDS: Final = 1800.0
_CHUNK: Final = 1 << 17
_WORDS_LIMIT: Final = 4096


async def measure_board(board: Board, job: Job, journal: Journal, report: Report) -> None:
    """Have a board do a job; `journal` takes what comes home as it comes.

    Raises:
        DeviceError: the board cannot be reached or used, or says what no agent says. What was
            measured until then is in the journal.
    """
    # Random and of our making: no name of the board's is used, here or there.
    folder = f"nanonet-edge-{secrets.token_hex(16)}"
    failures = 0
    was_connected = is_left = False
    try:
        while not journal.outcome.ended:
            before = len(journal.outcome.done)
            try:
                async with connected(board) as connection:
                    was_connected = True
                    session = _Session(connection, job, folder, journal, report)
                    try:
                        await session.run()
                    finally:
                        is_left = is_left or session.has_placed
                        if is_left:
                            is_left = not await session.clear_up()
            except DroppedError as error:
                if not was_connected:
                    raise DeviceError(f"{board.name}: cannot be reached: {error}") from None
                failures = 1 if len(journal.outcome.done) > before else failures + 1
                if failures >= ATTEMPTS:
                    raise DeviceError(f"{board.name}: the connection was lost: {error}") from None
                report(f"{board.name}: {error}; {journal.outcome.progress} measured, connecting again")
                await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES)) - 1])
    finally:
        if is_left:
            where = board.folder or "its folder for temporary files"
            report(f"{board.name}: {folder} in {where} could not be removed from here")


class _Session:
    """One connection's part of the work.

    Attributes:
        has_placed: whether there may be a folder of ours on the board.
    """

    def __init__(
        self, connection: Connection, job: Job, folder: str, journal: Journal, report: Report
    ) -> None:
        self._connection = connection
        self._board = connection.board
        self._job = job
        self._folder = folder
        self._journal = journal
        self._report = report
        self.has_placed = False

    async def run(self) -> None:
        """Place what is missing, and listen to the agent to the end."""
        probe = parse_probe(await self._connection.ask(PROBE), self._board.name)
        payloads = [*self._job.payloads(), *await self._wheels(probe)]
        self.has_placed = True
        await self._place(payloads)
        await self._listen()

    async def clear_up(self) -> bool:
        """Remove the folder there; whether that is known to have worked."""
        code, arguments = program("remove", self._folder, self._board.folder)
        with contextlib.suppress(DeviceError, DroppedError, ValueError, RecursionError):
            answer = json.loads(await self._connection.ask(code, arguments))
            return isinstance(answer, dict) and answer.get("removed") is True
        return False

    async def _wheels(self, probe: Probe) -> list[Payload]:
        if self._board.has_own_engine:
            return []
        wheels = await asyncio.to_thread(
            board_wheels, self._job.modules, probe, self._board.name, self._report
        )
        return [wheel_payload(path, probe.version) for path in wheels]

    async def _place(self, payloads: list[Payload]) -> None:
        import asyncssh

        process = await self._start("place")
        listing = [[one.name, one.size, one.sha256] for one in payloads]
        lines = _Answers(process, self._board.name)
        try:
            process.stdin.write(json.dumps(listing).encode() + b"\n")
            missing = (await lines.next()).get("missing")
            if not isinstance(missing, list) or not all(
                type(one) is int and 0 <= one < len(payloads) for one in missing
            ):
                raise DeviceError(
                    f"{self._board.name}: expected a list of missing files, found something else"
                )
            wanted = [payloads[index] for index in sorted(set(missing))]
            self._report(f"{self._board.name}: sending {sum(one.size for one in wanted) / 1e6:.1f} MB")
            for payload in wanted:
                await _send(process, payload)
            await lines.next()
        except (BrokenPipeError, ConnectionError, asyncssh.Error):
            # The board's program has ended: its last words say why.
            await lines.next()
            raise DroppedError("the connection ended while files were sent") from None
        finally:
            process.close()

    async def _listen(self) -> None:
        process = await self._start("run")
        job = self._job.to_json(self._journal.outcome.done, site=self._board.site, root=self._board.root)
        heart = asyncio.create_task(_beat(process, job))
        words = asyncio.create_task(_last_words(process))
        lines = Lines(self._board.name)
        last = time.monotonic()
        try:
            while data := await _read(process):
                for line in lines.feed(data):
                    event = parse_event(line, self._board.name)
                    if not isinstance(event, AliveEvent):
                        self._journal.take(line, event, self._report)
                        last = time.monotonic()
                    elif time.monotonic() - last > _STUCK_SECONDS:
                        raise DeviceError(
                            f"{self._board.name}: the agent did nothing for {_STUCK_SECONDS:.0f} s"
                        )
                    if self._journal.outcome.ended:
                        return
            await self._explain_end(process, words)
        finally:
            heart.cancel()
            words.cancel()
            process.close()

    async def _explain_end(self, process: asyncssh.SSHClientProcess[bytes], words: asyncio.Task[str]) -> None:
        """The agent has ended too early: it was killed, or the connection is gone.

        Raises:
            DeviceError, DroppedError: always.
        """
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait_closed(), 10)
        if process.exit_signal is None and process.exit_status is None:
            raise DroppedError("the connection was lost")
        how = (
            f"signal {process.exit_signal[0]}" if process.exit_signal else f"exit code {process.exit_status}"
        )
        with contextlib.suppress(asyncio.TimeoutError):
            said = await asyncio.wait_for(asyncio.shield(words), 2)
            how += f": {said}" if said else ""
        raise DeviceError(f"{self._board.name}: the agent ended too early ({how})")

    async def _start(self, what: str) -> asyncssh.SSHClientProcess[bytes]:
        code, arguments = program(what, self._folder, self._board.folder)
        return await self._connection.start(code, arguments)


class _Answers:
    """The short answers of `board`, one JSON object per line."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], source: str) -> None:
        self._process = process
        self._source = source
        self._lines = Lines(source, total=1 << 20)
        self._waiting: list[bytes] = []

    async def next(self) -> dict[str, Any]:
        """The next one.

        Raises:
            DeviceError: it says that something went wrong, or is no answer.
            DroppedError: there is none.
        """
        while not self._waiting:
            data = await _read(self._process)
            if not data:
                raise DroppedError("the connection was lost")
            self._waiting += self._lines.feed(data)
        try:
            answer = json.loads(self._waiting.pop(0))
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise DeviceError(f"{self._source}: expected an answer, found something else")
        if "error" in answer:
            error = printable(str(answer["error"]), 200)
            raise DeviceError(f"{self._source}: the files cannot be placed on the board: {error}")
        return answer


async def _send(process: asyncssh.SSHClientProcess[bytes], payload: Payload) -> None:
    source = payload.source if isinstance(payload.source, bytes) else None
    data = source if source is not None else await asyncio.to_thread(Path(str(payload.source)).read_bytes)
    for start in range(0, len(data), _CHUNK):
        process.stdin.write(data[start : start + _CHUNK])
        try:
            await asyncio.wait_for(process.stdin.drain(), SILENCE_SECONDS)
        except asyncio.TimeoutError:
            raise DroppedError("the board takes no more data") from None


async def _beat(process: asyncssh.SSHClientProcess[bytes], job: str) -> None:
    """Hand over the job, then say now and then that we are still here."""
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        process.stdin.write(job.encode() + b"\n")
        while True:
            await asyncio.sleep(_HEARTBEAT_SECONDS)
            process.stdin.write(b"\n")


async def _read(process: asyncssh.SSHClientProcess[bytes]) -> bytes:
    """What has come; nothing at the end.

    Raises:
        DroppedError: the connection broke, or nothing came for long.
    """
    import asyncssh

    try:
        return await asyncio.wait_for(process.stdout.read(_CHUNK), SILENCE_SECONDS)
    except (TimeoutError, asyncio.TimeoutError):
        raise DroppedError(f"nothing was heard for {SILENCE_SECONDS:.0f} s") from None
    except (asyncssh.Error, OSError) as error:
        raise DroppedError(printable(str(error), 200)) from None


async def _last_words(process: asyncssh.SSHClientProcess[bytes]) -> str:
    """The last line of stderr, drained as it comes."""
    import asyncssh

    tail = b""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await process.stderr.read(_CHUNK):
            tail = (tail + data)[-_WORDS_LIMIT:]
    lines = tail.decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1], 200) if lines else ""
