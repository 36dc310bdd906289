"""Which layer of an integer artifact is to blame for the masks that changed."""

from __future__ import annotations

from nanonet_edge.benchmarks.blame.analysis import blame
from nanonet_edge.benchmarks.blame.result import (
    BLAME_NAME,
    BlameResult,
    EngineCheck,
    LayerBlame,
    ThresholdFit,
)
from nanonet_edge.benchmarks.blame.subject import Subject, find_subject

__all__ = [
    "BLAME_NAME",
    "BlameResult",
    "EngineCheck",
    "LayerBlame",
    "Subject",
    "ThresholdFit",
    "blame",
    "find_subject",
]
