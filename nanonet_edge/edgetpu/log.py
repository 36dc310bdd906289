"""What `edgetpu_compiler` prints, read back: its version, memory, and a table of operators."""

from __future__ import annotations

import re

from pydantic import Field

from nanonet_edge.errors import CompilerError
from nanonet_edge.manifest import Record

_VERSION = re.compile(r"^Edge TPU Compiler version (\S{1,64})", re.MULTILINE)
_SUBGRAPHS = re.compile(r"^Number of Edge TPU subgraphs: (\d{1,9})\s*$", re.MULTILINE)
_OPERATIONS = re.compile(r"^Total number of operations: (\d{1,9})\s*$", re.MULTILINE)
_SIZE = r": (\d{1,9}(?:\.\d{1,9})?)(B|KiB|MiB|GiB)\s*$"
_CACHED = re.compile("^On-chip memory used for caching model parameters" + _SIZE, re.MULTILINE)
_REMAINING = re.compile("^On-chip memory remaining for caching model parameters" + _SIZE, re.MULTILINE)
_STREAMED = re.compile("^Off-chip memory used for streaming uncached model parameters" + _SIZE, re.MULTILINE)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_HEADER = re.compile(r"^Operator +Count +Status\s*$", re.MULTILINE)
#: Such as ``CONV_2D                        60         Mapped to Edge TPU``.
_ROW = re.compile(r"^([A-Za-z][\w.:-]{0,127}) +(\d{1,9}) {2,}(\S.{0,255}?)\s*$", re.MULTILINE)


class Count(Record):
    """One line of the compiler's table: so many operators of a name have a status."""

    name: str
    count: int = Field(ge=1)
    status: str


class CompilerLog(Record):
    """What the compiler said of one model.

    `parameters_cached`, `cache_left` and `parameters_streamed` are bytes: of parameters kept on
    the chip, of what is left there for more, and of parameters sent for every inference.
    None where it did not say.
    """

    version: str
    subgraphs: int | None
    operations: int | None
    parameters_cached: int | None
    cache_left: int | None
    parameters_streamed: int | None
    counts: tuple[Count, ...]


def parse_log(text: str) -> CompilerLog:
    """Read what ``edgetpu_compiler -s`` printed for one model.

    Raises:
        CompilerError: it names no version, or holds no table of operators.
    """
    version, header = _VERSION.search(text), _HEADER.search(text)
    if version is None:
        raise CompilerError("edgetpu_compiler: expected a log that names its version, found " + excerpt(text))
    rows = _ROW.findall(text, header.end()) if header else []
    counts = tuple(Count(name=name, count=int(n), status=status) for name, n, status in rows if int(n))
    if not counts:
        raise CompilerError(
            "edgetpu_compiler: expected a table of operators in its log, found " + excerpt(text)
        )
    return CompilerLog(
        version=version[1],
        subgraphs=_integer(_SUBGRAPHS, text),
        operations=_integer(_OPERATIONS, text),
        parameters_cached=_bytes(_CACHED, text),
        cache_left=_bytes(_REMAINING, text),
        parameters_streamed=_bytes(_STREAMED, text),
        counts=counts,
    )


def excerpt(text: str) -> str:
    """The last words of a log, on one line and printable: where the compiler says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    words = " / ".join(lines[-3:])[-200:]
    return "".join(c if c.isprintable() else "?" for c in words) or "nothing"


def _integer(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None
