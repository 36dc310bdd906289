"""What an agent may say, line by line. It is data from a stranger: limits, a schema, no path is used.

Text is kept only as one printable line of limited length. Files of the board are looked up by the paths
that the readers of `nanonet_edge.devices` know, in memory; nothing is written where a board says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from nanonet_edge.devices.files import printable
from nanonet_edge.errors import DeviceError
from nanonet_edge.manifest import Record, Sha256
from nanonet_edge.results import BenchSettings

#: A line of samples of a long run, or of a server's many files, fits; nothing larger is read.
LINE_LIMIT: Final = 16 << 20
TOTAL_LIMIT: Final = 512 << 20

Number = Annotated[int, Field(ge=0, le=1 << 62)]
Nanoseconds = Annotated[int, Field(gt=0, le=10**14)]
Word = Annotated[str, Field(max_length=4096), AfterValidator(lambda text: printable(text, 64))]
Words = Annotated[str, Field(max_length=4096), AfterValidator(lambda text: printable(text, 400))]


def _dtype(text: str) -> str:
    try:
        return np.dtype(text).name
    except TypeError:
        raise ValueError("expected a NumPy dtype") from None


def _latin1(text: str) -> str:
    text.encode("latin-1")  # what fails to is a ValueError
    return text


DtypeName = Annotated[str, Field(pattern=r"^[a-z]{3,10}[0-9]{0,3}$"), AfterValidator(_dtype)]
_Latin1 = Annotated[str, Field(max_length=1 << 19), AfterValidator(_latin1)]
Files = Annotated[dict[Annotated[str, Field(max_length=256)], _Latin1 | None], Field(max_length=20_000)]
Outputs = Annotated[
    dict[Literal["vcgencmd", "nvpmodel", "tegrastats"], Annotated[str, Field(max_length=1 << 16)]],
    Field(max_length=8),
]


class Facts(Record):
    """What only the board's Python can tell of the machine."""

    architecture: Word
    kernel: Word
    python: Word
    usable_cores: Annotated[int, Field(gt=0, le=1 << 20)]
    logical_cores: Annotated[int, Field(gt=0, le=1 << 20)] | None
    load_average: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
    memory_bytes: Number


class MachineEvent(Record):
    """The first of every agent: the board, and what its Python lacks."""

    event: Literal["machine"]
    files: Files
    facts: Facts
    missing: tuple[Word, ...] = Field(max_length=16)


class StateEvent(Record):
    """The board's state before, during or after a pair."""

    event: Literal["state"]
    pair: Number
    at: Literal["before", "during", "after"]
    monotonic_ns: Number
    files: Files
    outputs: Outputs


class Scope(Record):
    """One scope's samples in nanoseconds, and when they were taken."""

    warmup_runs: Number
    samples_ns: Annotated[tuple[Nanoseconds, ...], Field(min_length=1, max_length=2_000_000)]
    window_ns: tuple[Number, Number]


class OperatorEvent(Record):
    """One operator as a TFLite interpreter lists it."""

    op_name: Word
    inputs: Annotated[tuple[Annotated[int, Field(ge=-1, le=1 << 24)], ...], Field(max_length=512)]
    outputs: Annotated[tuple[Annotated[int, Field(ge=-1, le=1 << 24)], ...], Field(max_length=512)]
    operand_types: Annotated[tuple[DtypeName, ...], Field(max_length=512)]


class NodeEvent(Record):
    """One node that ran, as onnxruntime's profile has it, with the types of its inputs."""

    op_name: Word
    provider: Word
    input_type_shape: Annotated[
        tuple[dict[Word, Annotated[tuple[Any, ...], Field(max_length=64)]], ...],
        Field(min_length=1, max_length=512),
    ]


class EngineEvent(Record):
    """What the engine told of itself, raw."""

    version: Word | None
    operators: Annotated[tuple[OperatorEvent, ...], Field(max_length=20_000)] = ()
    nodes: Annotated[tuple[NodeEvent, ...], Field(max_length=20_000)] = ()


class Figures(Record):
    """Everything that was measured of a pair, raw."""

    startup_ns: Nanoseconds
    first_ns: Nanoseconds
    load_ns: Nanoseconds
    invoke: Scope
    frame: Scope
    rise_bytes: Number | None
    engine: EngineEvent


class ResultEvent(Record):
    """A pair is done."""

    event: Literal["result"]
    pair: Number
    figures: Figures


class FailureEvent(Record):
    """A pair cannot be measured, and why."""

    event: Literal["failure"]
    pair: Number
    error: Words


class ErrorEvent(Record):
    """The agent cannot go on: a full disk."""

    event: Literal["error"]
    error: Words


class AliveEvent(Record):
    """Nothing new: wheels are being unpacked, on a slow card."""

    event: Literal["alive"]


class EndEvent(Record):
    """All pairs were tried."""

    event: Literal["end"]


class JobEvent(Record):
    """What the other events are the answer to; the first line of every file of events.

    `pairs` are names of artifacts with specs; `settings.device` is not part of what is asked.
    """

    event: Literal["job"] = "job"
    manifest_sha256: Sha256
    settings: BenchSettings
    pairs: tuple[tuple[Words, Words], ...] = Field(min_length=1, max_length=4096)


Event = MachineEvent | StateEvent | ResultEvent | FailureEvent | ErrorEvent | AliveEvent | EndEvent | JobEvent
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


def parse_event(line: bytes, source: str) -> Event:
    """Read one line.

    Raises:
        DeviceError: it is too long, no JSON, or not what an agent says; names `source`.
    """
    if len(line) > LINE_LIMIT:
        raise DeviceError(f"{source}: expected lines of at most {LINE_LIMIT} bytes, found a longer one")
    try:
        return _EVENT.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = printable(".".join(str(part) for part in first["loc"]), 80)
        raise DeviceError(
            f"{source}: expected an event of the agent, found something else "
            f"({where}: {printable(first['msg'], 120)})"
        ) from None


class Lines:
    """Cuts what arrives into lines, and refuses more than a limit of a line and of all of them."""

    def __init__(self, source: str, total: int = TOTAL_LIMIT) -> None:
        self._source = source
        self._total = total
        self._have = 0
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are whole now.

        Raises:
            DeviceError: a line, or all that arrived, is too long.
        """
        self._have += len(data)
        if self._have > self._total:
            raise DeviceError(f"{self._source}: expected at most {self._total} bytes, found more")
        self._rest += data
        *whole, rest = self._rest.split(b"\n")
        self._rest = rest
        if len(rest) > LINE_LIMIT:
            raise DeviceError(
                f"{self._source}: expected lines of at most {LINE_LIMIT} bytes, found a longer one"
            )
        for line in whole:
            yield bytes(line)
