"""Engines that compute float models in less than float32 unless they are forbidden to."""

from __future__ import annotations

#: Spec -> the one that forbids it.
FULL_PRECISION = {
    "openvino": "openvino:f32",
    "onnxruntime:cuda": "onnxruntime:cuda,fp32",
    "tensorrt": "tensorrt:fp32",
}
_REDUCED = frozenset({"bf16", "fp16", "tf32"})


def is_reduced(computed_precision: str) -> bool:
    """Whether some of the arithmetic is in less than float32; "+" joins several, as in "bf16+int8"."""
    return not _REDUCED.isdisjoint(computed_precision.split("+"))
