"""Inference engines behind one small interface, one module each."""

from __future__ import annotations

from nanonet_edge.runtimes.artifact import ArtifactRuntime
from nanonet_edge.runtimes.base import Runtime, RuntimeInfo
from nanonet_edge.runtimes.registry import (
    RuntimeListing,
    RuntimeSpec,
    default_spec,
    list_runtimes,
    open_runtime,
    parse_spec,
    runtimes_for,
)

__all__ = [
    "ArtifactRuntime",
    "Runtime",
    "RuntimeInfo",
    "RuntimeListing",
    "RuntimeSpec",
    "default_spec",
    "list_runtimes",
    "open_runtime",
    "parse_spec",
    "runtimes_for",
]
