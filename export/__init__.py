"""From a checkpoint to files that an engine opens."""

from __future__ import annotations

from nanonet_edge.export.exporter import export_bundle, export_straight
from nanonet_edge.export.lint import Finding, lint_calibration
from nanonet_edge.export.options import ExportOptions
from nanonet_edge.export.straight_cache import cached_straight
from nanonet_edge.export.writers import Boundary

__all__ = [
    "Boundary",
    "ExportOptions",
    "Finding",
    "cached_straight",
    "export_bundle",
    "export_straight",
    "lint_calibration",
]
