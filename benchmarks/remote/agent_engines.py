"""The engines as the agent drives them: load, invoke, describe. Python >= 3.9 and NumPy.

They do what the runtimes of the same names do at home; what is told of the engine goes home raw and is
read there by the same code.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanonet_edge.runtimes.tflite_worker import describe_operators, make_interpreter

#: Runtime -> (the module that is imported, distributions that may bring it).
ENGINES = {
    "litert": ("ai_edge_litert", ("ai-edge-litert",)),
    "tflite-runtime": ("tflite_runtime", ("tflite-runtime", "tflite_runtime")),
    "onnxruntime": ("onnxruntime", ("onnxruntime", "onnxruntime-gpu")),
}
_CPU_PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3


def open_engine(runtime: str, path: str, threads: int, options: Sequence[str]) -> Any:
    """Load a model; the result has `invoke(array) -> array` and `describe() -> dict`."""
    if runtime == "onnxruntime":
        return OnnxEngine(path, threads)
    return TfliteEngine(ENGINES[runtime][0], path, threads, options)


def engine_version(runtime: str) -> str | None:
    """Version of the installed distribution, if one says."""
    for name in ENGINES[runtime][1]:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


class TfliteEngine:
    """ai_edge_litert's or tflite_runtime's interpreter."""

    def __init__(self, module: str, path: str, threads: int, options: Sequence[str]) -> None:
        engine = importlib.import_module(f"{module}.interpreter")
        self._interpreter = make_interpreter(engine, path, threads, "no-xnnpack" not in options)
        self._input = int(self._interpreter.get_input_details()[0]["index"])
        self._output = int(self._interpreter.get_output_details()[0]["index"])

    def invoke(self, tensor: Any) -> Any:
        """Run the model once."""
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)

    def describe(self) -> dict[str, Any]:
        """The operators, those of delegates among them."""
        return {"operators": describe_operators(self._interpreter)}


class OnnxEngine:
    """An onnxruntime session on the CPU."""

    def __init__(self, path: str, threads: int) -> None:
        self._path, self._threads = path, threads
        self._session = self._make()
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def _make(self, profile: Path | None = None) -> Any:
        engine = importlib.import_module("onnxruntime")
        options = engine.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        return engine.InferenceSession(self._path, options, providers=[_CPU_PROVIDER])

    def invoke(self, tensor: Any) -> Any:
        """Run the model once."""
        self._last = tensor
        return self._session.run([self._output], {self._input: tensor})[0]

    def describe(self) -> dict[str, Any]:
        """Which kernels ran on what types, by the profile of one run on the last tensor."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._make(Path(folder) / "profile")
            session.run([self._output], {self._input: self._last})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        nodes = [event["args"] for event in events if event.get("cat") == "Node"]
        keys = ("op_name", "provider", "input_type_shape")
        return {"nodes": [{key: node[key] for key in keys} for node in nodes if all(map(node.get, keys))]}
