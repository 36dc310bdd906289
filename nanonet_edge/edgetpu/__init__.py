"""Google's Edge TPU (Coral): what its compiler maps, told from a `.tflite` file alone."""

from __future__ import annotations

from nanonet_edge.edgetpu.report import CoralReport, MappedOperator, Summary, coral_report

__all__ = ["CoralReport", "MappedOperator", "Summary", "coral_report"]
