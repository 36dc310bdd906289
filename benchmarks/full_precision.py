"""Engines that compute float models in less than float32 unless they are forbidden to."""

from __future__ import annotations

#: Spec -> the one that forbids it.
FULL_PRECISION = {"openvino": "openvino:f32"}
_REDUCED = frozenset({"bf16", "fp16"})


def is_reduced(computed_precision: str) -> bool:
    """Whether some of the arithmetic is in 16-bit floats; "+" joins several, as in "bf16+int8"."""
    return not _REDUCED.isdisjoint(computed_precision.split("+"))
