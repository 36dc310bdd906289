"""Small `.tflite` files, drawn operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.export.tflite_flatbuffer import FlatbufferWriter

Shape = tuple[int, ...]
Array = npt.NDArray[Any]


class Drawing:
    """One graph: every method gives the index of the tensor that it adds."""

    def __init__(self, dtype: str = "int8") -> None:
        self.dtype = dtype
        self.writer = FlatbufferWriter("drawn by a test")
        self.inputs: dict[str, int] = {}
        self.last = 0
        self._count = 0

    def input(self, *shape: int, dtype: str | None = None) -> int:
        name = f"input{len(self.inputs)}"
        self.inputs[name] = self.tensor(shape, dtype, name)
        return self.inputs[name]

    def tensor(self, shape: Shape, dtype: str | None = None, name: str = "") -> int:
        self._count += 1
        return self.writer.tensor(
            name or f"t{self._count}", shape, dtype or self.dtype, scales=[0.5], zero_points=[3]
        )

    def constant(self, data: Array, **quantization: Any) -> int:
        self._count += 1
        return self.writer.tensor(f"c{self._count}", data.shape, data.dtype.name, data=data, **quantization)

    def integers(self, *values: int) -> int:
        return self.constant(np.array(values, np.int32))

    def op(
        self,
        name: str,
        inputs: list[int],
        shape: Shape,
        options: str | None = None,
        version: int = 1,
        dtype: str | None = None,
        **fields: Any,
    ) -> int:
        self.last = self.tensor(shape, dtype)
        self.writer.operator(name, version, inputs, self.last, options, **fields)
        return self.last

    def conv(self, source: int, before: Shape, channels: int, **fields: Any) -> int:
        """A 3x3 convolution with padding: it keeps height and width."""
        kernel = self.constant(np.ones((channels, 3, 3, before[-1]), np.int8))
        bias = self.integers(*[1] * channels)
        settings = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1, **fields}
        shape = (*before[:-1], channels)
        return self.op("CONV_2D", [source, kernel, bias], shape, "Conv2DOptions", 3, **settings)

    def build(self, *outputs: int) -> bytes:
        ends = outputs or (self.last,)
        return self.writer.finish(self.inputs, {f"output{i}": index for i, index in enumerate(ends)})

    def save(self, path: Path, *outputs: int) -> Path:
        path.write_bytes(self.build(*outputs))
        return path
