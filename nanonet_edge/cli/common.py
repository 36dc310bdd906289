"""What several commands share: talking on stderr, printing data on stdout, progress.

stdout is data (tables, JSON), stderr is talk (notes, bars). rich is imported when something
is printed, never when a command is defined, so that ``--help`` stays fast.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from nanonet_edge.manifest import WeightsRecord

#: Wide enough for any table; what is printed is only as wide as its content.
_UNLIMITED_COLUMNS = 10_000


#: What commands that take a bundle look at when none is named.
DEFAULT_BUNDLE = Path("artifacts/nanonet-c")

#: Bars are drawn at most so often.
_REDRAW_SECONDS = 0.1


class ProgressCallback(Protocol):
    """What the library calls while it works: ``callback("calibrate", 12, 100)``."""

    def __call__(self, stage: str, done: int, total: int, /) -> None:
        """Report that `done` of `total` steps of `stage` are finished."""


@runtime_checkable
class _Dumpable(Protocol):
    """A pydantic model, without importing pydantic."""

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


@cache
def console() -> Console:
    """The console for talk: a rich Console on stderr, made on first use."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """Say one line on stderr, as it is: no markup, no wrapping."""
    console().print(message, markup=False, soft_wrap=True)


def mention_untrained(weights: WeightsRecord) -> None:
    """Say so where a bundle's weights are random."""
    if weights.is_untrained:
        note(f"weights: {weights.origin}: times and sizes count, masks mean nothing")


def print_table(renderable: RenderableType) -> None:
    """Print a rich Table (or any other renderable) on stdout.

    On a terminal it is fitted to the window; in a pipe or a file it is as wide as its
    content, so nothing is cut off.

    Raises:
        BrokenPipeError: the reader has gone away.
    """
    from rich.console import Console

    out = Console(file=sys.stdout, highlight=False)
    if not out.is_terminal:
        out.width = _UNLIMITED_COLUMNS
        out.width = max(1, out.measure(renderable).maximum)
    # Rendered first, then written: rich itself would turn a closed pipe into exit code 1,
    # which here means that a verdict failed.
    with out.capture() as capture:
        out.print(renderable)
    sys.stdout.write(capture.get())
    sys.stdout.flush()


def print_json(value: _Dumpable | Mapping[str, Any]) -> None:
    """Print a pydantic model or a mapping on stdout as indented JSON.

    Raises:
        ValueError: it holds a NaN or an infinity, which JSON has no word for.
        BrokenPipeError: the reader has gone away.
    """
    data = value.model_dump(mode="json") if isinstance(value, _Dumpable) else value
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextlib.contextmanager
def progress() -> Iterator[ProgressCallback]:
    """Give a callback that draws one bar per stage on stderr, if stderr is a terminal.

    Elsewhere the callback does nothing. The bars vanish when the block ends. They are drawn when
    the callback is called and at no other time: a thread that redraws would be timed, too.
    """
    if not sys.stderr.isatty():
        yield _ignore
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True, auto_refresh=False) as bars:
        tasks: dict[str, Any] = {}
        drawn = 0.0

        def report(stage: str, done: int, total: int, /) -> None:
            nonlocal drawn
            now = time.monotonic()
            is_due = stage not in tasks or done >= total or now - drawn >= _REDRAW_SECONDS
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total, refresh=is_due)
            drawn = now if is_due else drawn

        yield report


def _ignore(stage: str, done: int, total: int, /) -> None:
    """Report progress to nobody."""
