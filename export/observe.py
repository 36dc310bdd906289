"""Every tensor of a graph, frame by frame, from the fp32 model in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.export.onnx_graph import INPUT_NAME, build_onnx
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph

Tensor = npt.NDArray[np.float32]


class Observer:
    """Runs a rewritten graph and hands out all its tensors.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """

    def __init__(self, graph: Graph) -> None:
        ort: Any = require("onnxruntime")
        helper: Any = require("onnx.helper")
        model = build_onnx(graph)
        known = {output.name for output in model.graph.output}
        self._names = [node.name for node in graph]
        float_type = helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))
        for name in self._names:
            if name not in known:
                model.graph.output.append(helper.make_tensor_value_info(name, float_type, None))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # NumPy works between the runs: threads that wait actively would take its cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, tensors: Iterable[Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """For each input, (1, H, W, 3) float32, all tensors by name: (1, C, H, W) float32."""
        for tensor in tensors:
            yield dict(zip(self._names, self._session.run(self._names, {INPUT_NAME: tensor}), strict=True))
