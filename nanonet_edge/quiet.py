"""Hold back what native libraries write on a process's streams.

Python's redirection does not reach them: they write to the file descriptor, so that is what is
turned aside, for the whole process. One thread at a time does so; another one that wants to
waits. `sys.stdout` and `sys.stderr` are left alone: libraries keep whatever they find there
when they are imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

STDOUT, STDERR = 1, 2

_turn = threading.RLock()


class Captured:
    """What was written while it was held back; empty until then.

    Attributes:
        text: all of it, with bytes that are no UTF-8 replaced.
    """

    text = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """Its lines, stripped, without empty ones."""
        return tuple(line.strip() for line in self.text.splitlines() if line.strip())


@contextlib.contextmanager
def captured_output(*descriptors: int) -> Iterator[Captured]:
    """Hold back what is written on `descriptors` (stderr if none is named) within the block.

    Yields:
        What was written, readable once the block has ended, however it ended.
    """
    captured = Captured()
    with _turn, tempfile.TemporaryFile() as sink:
        try:
            with contextlib.ExitStack() as stack:
                for descriptor in descriptors or (STDERR,):
                    stack.enter_context(_turned_aside(descriptor, sink))
                yield captured
        finally:
            sink.seek(0)
            captured.text = sink.read().decode("utf-8", "replace")


@contextlib.contextmanager
def quiet(*descriptors: int) -> Iterator[None]:
    """Drop what is written on `descriptors` (stderr if none is named), unless the block raises.

    What a failing block had to say is no chatter: then all of it goes to stderr.
    """
    captured = Captured()
    try:
        with captured_output(*descriptors) as captured:
            yield
    except BaseException:
        sys.stderr.write(captured.text)
        raise


@contextlib.contextmanager
def _turned_aside(descriptor: int, sink: IO[bytes]) -> Iterator[None]:
    _flush()
    try:
        saved = os.dup(descriptor)
    except OSError:
        # A process without this stream, such as a daemon: nobody is disturbed.
        yield
        return
    try:
        os.dup2(sink.fileno(), descriptor)
        yield
    finally:
        _flush()
        os.dup2(saved, descriptor)
        os.close(saved)


def _flush() -> None:
    """Empty Python's buffers, so that text goes where it was meant to go."""
    for stream in (sys.stdout, sys.stderr):
        # Either may be missing (pythonw) or closed.
        if stream is not None and not stream.closed:
            stream.flush()
