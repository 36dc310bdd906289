"""ONNX Runtime: one execution provider, by name, never a silent fallback.

CUDA and TensorRT were tested against stand-ins for a session, on no NVIDIA hardware.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nanonet_edge.atomic import write_text
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.extras import require
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes._nvidia import Gpu, find_gpu, tensorrt_library_version
from nanonet_edge.runtimes._tensorrt_cache import engine_folder
from nanonet_edge.runtimes._tensorrt_calibration import cache_text, ranges_for, require_symmetric
from nanonet_edge.runtimes.artifact import ArtifactRuntime, Declared, only
from nanonet_edge.runtimes.base import Array, one_line
from nanonet_edge.runtimes.engine import unknown_option
from nanonet_edge.variants import Format

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
_SHORT = {"cuda": _CUDA, "tensorrt": _TENSORRT}
#: Short names of providers -> the precisions that can be asked of them.
_PRECISIONS = {_CUDA: ("fp32",), _TENSORRT: ("fp16", "int8")}
_NVIDIA = (_CUDA, _TENSORRT)
#: In these the whole graph is one node whose inside nobody tells.
_OPAQUE = "not told"
_PROVIDER = re.compile(r"[A-Za-z]+ExecutionProvider")
_ERRORS_ONLY = 3
_TABLE = "calibration.cache"

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
        "NAMEExecutionProvider": f"the execution provider, by its full name (default {_CPU})",
        "cuda": "run on an NVIDIA GPU by CUDA; where the GPU has it, float32 is computed in TF32",
        "cuda,fp32": "the same without TF32",
        "tensorrt": "run on an NVIDIA GPU by TensorRT; engines are built on first use and kept",
        "tensorrt,fp16": "the same, and TensorRT may compute in float16",
        "tensorrt,int8": "int8 on the float file, with the ranges of the bundle's int8 one, else float16",
    }

    _session: Any = None

    @classmethod
    def unavailable_options(cls) -> Mapping[str, str]:
        """Without a GPU, or without the provider in this build, cuda and tensorrt cannot be used."""
        gpu = find_gpu()
        reasons: dict[str, str] = {}
        try:
            built_in = require("onnxruntime").get_available_providers()
        except ImportError as error:
            return dict.fromkeys(cls.known_options, f"onnxruntime cannot be imported: {one_line(error)}")
        for short, provider in _SHORT.items():
            reason = gpu if isinstance(gpu, str) else ""
            if provider not in built_in:
                reason = f"onnxruntime {cls.version()} is built without {provider}"
            if reason:
                reasons |= {option: reason for option in cls.known_options if option.split(",")[0] == short}
        return reasons

    @classmethod
    def check_options(cls, options: tuple[str, ...]) -> None:
        """Accept one execution provider, and one precision that it has.

        Raises:
            UsageError: something else.
        """
        providers = [_SHORT.get(option, option) for option in options]
        named = [provider for provider in providers if _PROVIDER.fullmatch(provider)]
        known = _PRECISIONS.get(named[0], ()) if named else ()
        precisions = [option for option in providers if option not in named]
        for option in precisions:
            if option not in known:
                raise unknown_option(cls.name, option, cls.known_options)
        for what, found in (("execution provider", named), ("precision", precisions)):
            if len(found) > 1:
                raise UsageError(f"{cls.name}: expected one {what}, found {', '.join(found)}")

    @property
    def provider(self) -> str:
        """The execution provider that was asked for."""
        named = (_SHORT.get(option, option) for option in self.options)
        return next((provider for provider in named if _PROVIDER.fullmatch(provider)), _CPU)

    @property
    def asked_precision(self) -> str | None:
        """The precision that was asked for, None for the engine's own choice."""
        return next((option for option in self.options if option in ("fp32", "fp16", "int8")), None)

    def _load(self, path: Path) -> None:
        engine = require("onnxruntime")
        available = engine.get_available_providers()
        if self.provider not in available:
            raise UnsupportedError(
                f"onnxruntime {self.version()} has no {self.provider}: expected one of {', '.join(available)}"
            )
        if self.provider in _NVIDIA and isinstance(gpu := find_gpu(), str):
            raise UnsupportedError(f"{self.source}: {self.provider}: {gpu}")
        self._provider_options = self._configure()
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
        providers = [(self.provider, self._provider_options)] if self._provider_options else [self.provider]
        return engine.InferenceSession(str(path), options, providers=providers)

    def _configure(self) -> dict[str, str]:
        """The provider's options; for TensorRT also the folder in which it keeps what it built."""
        if self.provider == _CUDA:
            return {"use_tf32": "0"} if self.asked_precision == "fp32" else {}
        if self.provider != _TENSORRT:
            return {}
        calibration = None
        if self.asked_precision == "int8":
            # The provider skips the first line, which names the version.
            calibration = cache_text(ranges_for(self.artifact), 0)
        else:
            require_symmetric(self.artifact)
        folder = engine_folder(
            {
                "gpu": str(find_gpu()),
                "onnxruntime": self.version(),
                "tensorrt": tensorrt_library_version(),
                "model_sha256": self.artifact.record.files[0].sha256,
                "options": self.options,
                "calibration": calibration,
            }
        )
        options = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
        if self.asked_precision is not None:
            options["trt_fp16_enable"] = "1"
        if calibration is not None:
            write_text(folder / _TABLE, calibration)
            options |= {
                "trt_int8_enable": "1",
                "trt_int8_use_native_calibration_table": "1",
                "trt_int8_calibration_table_name": _TABLE,
            }
        return options

    def _declared(self) -> tuple[Declared, Declared]:
        return _declared(self._session.get_inputs()[0]), _declared(self._session.get_outputs()[0])

    def _invoke(self, x: Array) -> Array:
        result: Array = self._session.run(self._output_names, {self._input_name: x})[0]
        return result

    def _describe(self) -> RuntimeInfo:
        events = self._profile_one_run()
        nodes = Counter(str(event["provider"]) for event in events)
        self._refuse_fallback(events)
        options = {f"nodes_on_{provider}": str(count) for provider, count in sorted(nodes.items())}
        if self.asked_precision is not None:
            options["asked_precision"] = self.asked_precision
        gpu = find_gpu() if self.provider in _NVIDIA else None
        return RuntimeInfo(
            name=self.name,
            version=self.version() or "unknown",
            delegate=self.provider,
            device=self.provider.removesuffix("ExecutionProvider") if gpu is None else str(gpu),
            threads=self.threads,
            computed_precision=self._computed_precision(events),
            options=options,
        )

    def _refuse_fallback(self, events: Sequence[Mapping[str, Any]]) -> None:
        """A provider that leaves the convolutions to the CPU was not measured, whatever it is called.

        Raises:
            RuntimeFailure: it did so.
        """
        elsewhere = [str(event["op_name"]) for event in events if _is_convolution(event, _CPU)]
        if self.provider in _NVIDIA and (
            elsewhere or not any(e["provider"] == self.provider for e in events)
        ):
            what = f"{len(elsewhere)} convolutions" if elsewhere else "the whole graph"
            raise RuntimeFailure(
                f"{self.source}: {self.provider} left {what} to the CPU: its figures would be the CPU's"
            )

    def _computed_precision(self, events: Sequence[Mapping[str, Any]]) -> str:
        if self.provider == _TENSORRT:
            return _OPAQUE
        found = computed_precision(events)
        gpu = find_gpu() if self.provider == _CUDA else None
        may_tf32 = isinstance(gpu, Gpu) and gpu.has_tf32 and self.asked_precision is None
        return found.replace("fp32", "tf32") if may_tf32 else found

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


def computed_precision(events: Sequence[Mapping[str, Any]]) -> str:
    """The arithmetic of the convolutions that ran: their input types in a profile's events."""
    found = set()
    for event in events:
        if _is_convolution(event):
            found |= {_ARITHMETIC.get(kind, kind) for kind in event["input_type_shape"][0]}
    return "+".join(sorted(found)) or "none"


def _is_convolution(event: Mapping[str, Any], provider: str | None = None) -> bool:
    ran_on = event.get("provider")
    return "Conv" in event["op_name"] and bool(ran_on) and provider in (None, ran_on)
