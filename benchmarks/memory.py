"""How much memory an engine needs: the resident set's high-water mark above a baseline.

The baseline is taken in a fresh process that has imported what any inference needs (NumPy,
OpenCV, the contract) and holds its frames, but no engine. On Linux the kernel's high-water
mark is reset at that moment (``5`` written to ``/proc/self/clear_refs``), so what Python's own
start once needed cannot hide what the engine needs. Elsewhere the mark cannot be reset, and
if the engine never exceeds it the figure is missing rather than too small.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanonet_edge.results import Figure

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass(frozen=True)
class Baseline:
    """Where the measurement starts: resident bytes now, and the high-water mark's value now."""

    resident: int
    peak: int


def take_baseline() -> Baseline:
    """Reset the high-water mark where the system can, and note where it stands."""
    reset = _reset_peak()
    peak = _peak_bytes()
    resident = _status_bytes("VmRSS") or peak
    # Just after a reset both count the same pages, read a moment apart.
    return Baseline(resident, resident if reset else peak)


def memory_above(baseline: Baseline) -> Figure:
    """This process's high-water mark above `baseline`, in MiB."""
    return rise_of(rise_above(baseline))


def rise_above(baseline: Baseline) -> int | None:
    """The same in bytes; None if the mark was never exceeded."""
    peak = _peak_bytes()
    return peak - baseline.resident if peak > baseline.peak else None


def rise_of(rise: int | None) -> Figure:
    """The figure for what `rise_above` gave."""
    if rise is None:
        return _figure(None, "the process never needed more memory than before the engine was loaded")
    return _figure(rise)


def memory_of(marks: tuple[int, int] | None) -> Figure:
    """The same for an engine in another process, from its (baseline, peak) in bytes."""
    if marks is None:
        return _figure(None, "the engine's process does not tell its memory")
    baseline, peak = marks
    return _figure(peak - baseline)


def _figure(size: int | None, reason: str | None = None) -> Figure:
    from nanonet_edge.results import MIB, Figure

    return Figure(obtained="measured", unit="MiB", value=None if size is None else size / MIB, reason=reason)


def _reset_peak() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _peak_bytes() -> int:
    peak = _status_bytes("VmHWM")
    if peak is not None:
        return peak
    import resource

    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024


def _status_bytes(field: str) -> int | None:
    """A size from /proc/self/status, where it is given in kB."""
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None
