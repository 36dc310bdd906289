"""Inference engines behind one small interface, one module each."""

from __future__ import annotations

from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes._edgetpu import is_compiled
from nanonet_edge.runtimes.artifact import ArtifactRuntime
from nanonet_edge.runtimes.base import Runtime
from nanonet_edge.runtimes.keras_reference import KerasRuntime
from nanonet_edge.runtimes.registry import (
    PAPER_SPEC,
    AcceleratedSpec,
    RuntimeListing,
    RuntimeSpec,
    accelerated_specs,
    builds_engine,
    default_spec,
    list_runtimes,
    obstacle_to,
    open_reference,
    open_runtime,
    parse_spec,
    runtimes_for,
    spec_for,
)

__all__ = [
    "PAPER_SPEC",
    "AcceleratedSpec",
    "ArtifactRuntime",
    "KerasRuntime",
    "Runtime",
    "RuntimeInfo",
    "RuntimeListing",
    "RuntimeSpec",
    "accelerated_specs",
    "builds_engine",
    "default_spec",
    "is_compiled",
    "list_runtimes",
    "obstacle_to",
    "open_reference",
    "open_runtime",
    "parse_spec",
    "runtimes_for",
    "spec_for",
]
