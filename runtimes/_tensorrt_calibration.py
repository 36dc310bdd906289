"""Our ranges as a calibration cache for TensorRT.

TensorRT computes in symmetric int8 only: a file in QDQ form whose activations have zero points, as
ours do for the other engines, is refused. The float file with a calibration cache is what it
takes: the same ranges, each widened to the symmetric one around it.

The cache is text (what IInt8EntropyCalibrator2 writes): a line ``TRT-8502-EntropyCalibration2``
with the version, then ``TENSOR: HEX``, the scale's float32 bits in big-endian hexadecimal; the
scale is the largest magnitude over 127.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import UnsupportedError
from nanonet_edge.runtimes._onnx_ranges import Range, read_ranges
from nanonet_edge.variants import Format, Precision

_LARGEST = 127.0


def cache_text(ranges: Mapping[str, Range], version: int) -> str:
    """The calibration cache for ranges by tensor name; `version` as trtexec prints it, such as 8502."""
    lines = [f"TRT-{version}-EntropyCalibration2"]
    for name, found in ranges.items():
        scale = max(abs(found.low), abs(found.high)) / _LARGEST
        lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
    return "\n".join(lines) + "\n"


def ranges_for(artifact: Artifact) -> dict[str, Range]:
    """The ranges of the static int8 ONNX file that lies beside a float one in its bundle.

    Raises:
        UnsupportedError: the bundle has no such file of the same graph, or `artifact` is no float file.
    """
    record = artifact.record
    if record.precision not in (Precision.FP32, Precision.FP16):
        raise UnsupportedError(
            f"{artifact.path}: int8 in TensorRT starts from a float file: name the fp32 one"
        )
    bundle = Bundle.open(_root(artifact))
    for other in bundle.artifacts:
        same = (other.record.format, other.record.graph) == (Format.ONNX, record.graph)
        if same and other.record.precision is Precision.STATIC_WI8_AI8:
            return _named_as_in_float(read_ranges(other.path), other)
    raise UnsupportedError(
        f"{artifact.path}: int8 in TensorRT takes its ranges from the bundle's int8 ONNX file, and there is "
        "none: export with --int8"
    )


def require_symmetric(artifact: Artifact) -> None:
    """Refuse a quantized file that TensorRT does not take.

    Raises:
        UnsupportedError: its activations are unsigned or have zero points.
    """
    others = [name for name, found in read_ranges(artifact.path).items() if not found.is_symmetric]
    if others:
        raise UnsupportedError(
            f"{artifact.path}: TensorRT takes symmetric int8 only, found {len(others)} tensors that are not "
            f"({others[0]} ...): name the fp32 file with tensorrt:int8, which takes this one's ranges"
        )


def _root(artifact: Artifact) -> Path:
    return artifact.path.parents[len(Path(artifact.record.files[0].path).parts) - 1]


def _named_as_in_float(ranges: Mapping[str, Range], quantized: Artifact) -> dict[str, Range]:
    """In the quantized file the tensor that becomes the output has another name inside."""
    inner, public = f"{quantized.record.output.name}_computed", quantized.record.output.name
    return {public if name == inner else name: found for name, found in ranges.items()}
