"""ONNX Runtime: one execution provider, by name, never a silent fallback."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.extras import require
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes.artifact import ArtifactRuntime, Declared, only
from nanonet_edge.runtimes.base import Array
from nanonet_edge.runtimes.engine import unknown_option
from nanonet_edge.variants import Format

_CPU = "CPUExecutionProvider"
_PROVIDER = re.compile(r"[A-Za-z]+ExecutionProvider")
_ERRORS_ONLY = 3

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(bool)": "bool",
}
_ARITHMETIC = {"float": "fp32", "float16": "fp16", "int8": "int8", "uint8": "int8", "int16": "int16"}


class OnnxRuntime(ArtifactRuntime):
    """An onnxruntime session with `threads` intra-operator threads."""

    name = "onnxruntime"
    module = "onnxruntime"
    formats = frozenset({Format.ONNX})
    known_options: ClassVar[Mapping[str, str]] = {
        "NAMEExecutionProvider": f"the execution provider, such as CUDAExecutionProvider (default {_CPU})"
    }

    _session: Any = None

    @classmethod
    def check_options(cls, options: tuple[str, ...]) -> None:
        """Accept the name of one execution provider.

        Raises:
            UsageError: something else, or more than one.
        """
        for option in options:
            if not _PROVIDER.fullmatch(option):
                raise unknown_option(cls.name, option, cls.known_options)
        if len(options) > 1:
            raise UsageError(f"{cls.name}: expected one execution provider, found {', '.join(options)}")

    @property
    def provider(self) -> str:
        """The execution provider that was asked for."""
        return self.options[0] if self.options else _CPU

    def _load(self, path: Path) -> None:
        engine = require("onnxruntime")
        available = engine.get_available_providers()
        if self.provider not in available:
            raise UnsupportedError(
                f"onnxruntime {self.version()} has no {self.provider}: expected one of {', '.join(available)}"
            )
        session = self._make(path)
        # A provider whose libraries do not load is replaced by the CPU without an error.
        if session.get_providers()[0] != self.provider:
            raise UnsupportedError(
                f"{self.source}: onnxruntime fell back from {self.provider} to "
                f"{', '.join(session.get_providers())}: expected one of {', '.join(available)}"
            )
        self._session = session
        inputs, outputs = session.get_inputs(), session.get_outputs()
        only(self.source, "input", len(inputs))
        only(self.source, "output", len(outputs))
        self._input_name: str = inputs[0].name
        self._output_names: list[str] = [outputs[0].name]

    def _make(self, path: Path, profile: Path | None = None) -> Any:
        engine = require("onnxruntime")
        options = engine.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        return engine.InferenceSession(str(path), options, providers=[self.provider])

    def _declared(self) -> tuple[Declared, Declared]:
        return _declared(self._session.get_inputs()[0]), _declared(self._session.get_outputs()[0])

    def _invoke(self, x: Array) -> Array:
        result: Array = self._session.run(self._output_names, {self._input_name: x})[0]
        return result

    def _describe(self) -> RuntimeInfo:
        events = self._profile_one_run()
        nodes = Counter(str(event["provider"]) for event in events)
        return RuntimeInfo(
            name=self.name,
            version=self.version() or "unknown",
            delegate=self.provider,
            device=self.provider.removesuffix("ExecutionProvider"),
            threads=self.threads,
            computed_precision=_precision(events),
            options={f"nodes_on_{provider}": str(count) for provider, count in sorted(nodes.items())},
        )

    def _profile_one_run(self) -> list[dict[str, Any]]:
        """Which kernels run, on what types: only the profiler of a run tells."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._make(self.artifact.path, Path(folder) / "profile")
            session.run(self._output_names, {self._input_name: np.zeros(self.input.shape, self.input.dtype)})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return [
            event["args"] for event in events if event.get("cat") == "Node" and "op_name" in event["args"]
        ]

    def _release(self) -> None:
        self._session = None


def _declared(node: Any) -> Declared:
    shape = tuple(size if isinstance(size, int) else str(size) for size in node.shape)
    return Declared(shape, _DTYPES.get(node.type, node.type))


def _precision(events: Sequence[Mapping[str, Any]]) -> str:
    """The input types of the convolutions that ran."""
    found = set()
    for event in events:
        if "Conv" in event["op_name"] and event.get("provider"):
            found |= {_ARITHMETIC.get(kind, kind) for kind in event["input_type_shape"][0]}
    return "+".join(sorted(found)) or "none"
