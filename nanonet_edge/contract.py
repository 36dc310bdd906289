"""What goes into an artifact and what comes out, and the code that obeys it (`nanonet_edge.pixels`).

The one place where a frame becomes a tensor and a tensor becomes a mask: inference,
calibration, verification and benchmarks all call it, so they cannot disagree.

Quantized values follow the affine rule ``real = (stored - zero_point) * scale``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from nanonet_edge.pixels import (
    Array,
    check_frame,
    dequantize,
    preprocess,
    quantize_pixels,
    to_mask,
    to_probability,
)
from nanonet_edge.variants import Head

__all__ = [
    "PROBABILITY_THRESHOLD",
    "Array",
    "ChannelOrder",
    "DType",
    "Extent",
    "InputContract",
    "Layout",
    "OutputContract",
    "Scale",
    "check_frame",
    "dequantize",
    "preprocess",
    "quantize_pixels",
    "to_mask",
    "to_probability",
]

Layout = Literal["nhwc", "nchw"]
ChannelOrder = Literal["bgr", "rgb"]
DType = Literal["float32", "float16", "int8", "uint8", "int16", "bool"]
Extent = Annotated[int, Field(gt=0)]
Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]

#: A pixel is polyp where its probability is above this.
PROBABILITY_THRESHOLD = 0.5


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputContract(_Frozen):
    """The tensor an artifact expects.

    `shape` includes the batch of 1. Real values are pixels divided by 255, so they lie in
    [0, 1]; `scale` and `zero_point` say how a real value is stored (1 and 0 for floats).
    """

    name: str
    shape: tuple[Extent, Extent, Extent, Extent]
    layout: Layout = "nhwc"
    channel_order: ChannelOrder = "bgr"
    dtype: DType = "float32"
    scale: Scale = 1.0
    zero_point: int = 0
    resize: Literal["opencv-bilinear"] = "opencv-bilinear"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return (self.shape[1], self.shape[2]) if self.layout == "nhwc" else (self.shape[2], self.shape[3])


class OutputContract(_Frozen):
    """The tensor an artifact puts out.

    `threshold` is in stored units: a pixel is positive where ``stored > threshold``. It is
    None where the mask is an arg-max over classes, or is already a mask.
    """

    name: str
    shape: tuple[Extent, ...]
    layout: Layout = "nhwc"
    kind: Head = Head.PROBABILITY
    classes: Extent = 1
    dtype: DType = "float32"
    scale: Scale = 1.0
    zero_point: int = 0
    threshold: float | None = PROBABILITY_THRESHOLD
