"""OpenVINO IR from an ONNX model, so that both engines run the same graph and the same integers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nanonet_edge.export.quantization import UNIT_OUTPUTS, Quantization
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph

#: Read by these alone, a tensor stays inside a fused kernel and is never stored.
_FUSED_READERS = UNIT_OUTPUTS | {"add"}


def openvino_plan(graph: Graph, plan: Mapping[str, Quantization]) -> dict[str, Quantization]:
    """A plan without the tensors that OpenVINO never stores.

    It adds residuals inside the convolution and computes sigmoids inside the multiplication, in
    float; quantizing between them costs time and precision both (int8 NanoNet-A and C ran 1.16
    and 1.22 times as fast without). The logits stay quantized: that makes the head's output int8.
    """
    readers = graph.consumers()
    logit = graph[graph.output].inputs[0]
    return {
        name: quantization
        for name, quantization in plan.items()
        if name == logit
        or not (
            graph[name].op in UNIT_OUTPUTS
            or (readers[name] and all(graph[reader].op in _FUSED_READERS for reader in readers[name]))
        )
    }


def write_openvino(onnx_model: bytes, path: Path, *, half: bool = False) -> tuple[Path, Path]:
    """Convert and save.

    Args:
        onnx_model: a serialized model; its QuantizeLinear pairs become FakeQuantize, which
            OpenVINO executes in int8.
        path: of the `.xml`; the `.bin` goes beside it.
        half: store constants as float16 (OpenVINO computes in what it sees fit: runtimes report it).

    Returns:
        The paths of the two files.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    openvino: Any = require("openvino")
    # Unlike read_model, convert_model simplifies: half the size on disk, the same function.
    model = openvino.convert_model(io.BytesIO(onnx_model))
    openvino.save_model(model, str(path), compress_to_fp16=half)
    return path, path.with_suffix(".bin")
