"""Google's Edge TPU (Coral): what its compiler maps of a `.tflite` file, with or without it at hand."""

from __future__ import annotations

from nanonet_edge.edgetpu.compiler import HOW_TO_GET_IT, Compiled, compile_model, find_compiler
from nanonet_edge.edgetpu.log import CompilerLog, parse_log
from nanonet_edge.edgetpu.report import CoralReport, MappedOperator, Summary, compiled_report, coral_report

__all__ = [
    "HOW_TO_GET_IT",
    "Compiled",
    "CompilerLog",
    "CoralReport",
    "MappedOperator",
    "Summary",
    "compile_model",
    "compiled_report",
    "coral_report",
    "find_compiler",
    "parse_log",
]
