"""OpenVINO IR from an ONNX model, so that both engines run the same graph and the same integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanonet_edge.extras import require


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
    model = openvino.Core().read_model(model=onnx_model)
    openvino.save_model(model, str(path), compress_to_fp16=half)
    return path, path.with_suffix(".bin")
