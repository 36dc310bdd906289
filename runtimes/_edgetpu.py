"""Google's Edge TPU behind a TFLite interpreter: its library, and files compiled for it.

Tested with a stand-in for the library, on no Coral hardware.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import sys
from pathlib import Path

from nanonet_edge.edgetpu.compiler import CUSTOM_OPERATOR

_NAMES = ("libedgetpu.1.dylib",) if sys.platform == "darwin" else ("libedgetpu.so.1", "libedgetpu.so.1.0")


@functools.cache
def find_library() -> str | None:
    """The delegate's library by the name under which it loads, None where there is none."""
    found: str | None = ctypes.util.find_library("edgetpu")
    names: tuple[str, ...] = _NAMES if found is None else (*_NAMES, found)
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    return None


def why_absent() -> str:
    """What to say where there is no library."""
    return (
        f"no Edge TPU can be used: {_NAMES[0]} cannot be loaded; with today's LiteRT the build of "
        "github.com/feranick/libedgetpu is reported to work, Google's own 16.0 to crash"
    )


def is_compiled(path: Path) -> bool:
    """Whether a TFLite file was compiled for the Edge TPU: only its delegate can run it then."""
    return CUSTOM_OPERATOR.encode() in path.read_bytes()
