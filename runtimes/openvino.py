"""OpenVINO: one device, by name; the precision it computes in is asked, not assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.extras import require
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes.artifact import ArtifactRuntime, Declared, only
from nanonet_edge.runtimes.base import Array, one_line
from nanonet_edge.runtimes.engine import unknown_option
from nanonet_edge.variants import Format

_DEVICE = re.compile(r"[A-Z]+(\.\d+)?")
_PRECISIONS = ("f32", "f16", "bf16")
_KERNEL_PRECISION = re.compile(r"_(f32|f16|bf16|i8|u8)$")
_CONVOLUTIONS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})

_DTYPES = {"f32": "float32", "f16": "float16", "i8": "int8", "u8": "uint8", "i16": "int16", "boolean": "bool"}
_ARITHMETIC = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}


class OpenVino(ArtifactRuntime):
    """A compiled model with one stream, tuned for latency.

    On CPUs that have bfloat16, OpenVINO computes fp32 models in it unless `f32` is asked for.
    """

    name = "openvino"
    module = "openvino"
    formats = frozenset({Format.OPENVINO, Format.ONNX, Format.TFLITE})
    known_options: ClassVar[Mapping[str, str]] = {
        "DEVICE": "a device such as CPU, GPU, GPU.0, NPU (default CPU)",
        "f32": "compute in float32",
        "f16": "compute in float16",
        "bf16": "compute in bfloat16",
    }

    _model: Any = None
    _request: Any = None

    @classmethod
    def check_options(cls, options: tuple[str, ...]) -> None:
        """Accept at most one device and at most one precision.

        Raises:
            UsageError: something else.
        """
        for option in options:
            if option not in _PRECISIONS and not _DEVICE.fullmatch(option):
                raise unknown_option(cls.name, option, cls.known_options)
        devices = [option for option in options if option not in _PRECISIONS]
        precisions = [option for option in options if option in _PRECISIONS]
        for what, named in (("device", devices), ("precision", precisions)):
            if len(named) > 1:
                raise UsageError(f"{cls.name}: expected one {what}, found {', '.join(named)}")

    @property
    def device(self) -> str:
        """The device that was asked for."""
        return next((option for option in self.options if option not in _PRECISIONS), "CPU")

    @property
    def asked_precision(self) -> str | None:
        """The precision that was asked for, or None for the engine's own choice."""
        return next((option for option in self.options if option in _PRECISIONS), None)

    def _load(self, path: Path) -> None:
        engine = require("openvino")
        core = engine.Core()
        devices = core.available_devices
        if not any(self.device in (device, device.partition(".")[0]) for device in devices):
            raise UnsupportedError(
                f"openvino: expected a device out of {', '.join(devices)}, found {self.device}"
            )
        config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
        if self.device == "CPU":
            config |= {"INFERENCE_NUM_THREADS": self.threads, "NUM_STREAMS": 1}
        if self.asked_precision is not None:
            config["INFERENCE_PRECISION_HINT"] = self.asked_precision
        try:
            model = core.compile_model(str(path), self.device, config)
        except RuntimeError as error:
            raise RuntimeFailure(f"{self.source}: openvino refused it: {_essence(str(error))}") from error
        only(self.source, "input", len(model.inputs))
        only(self.source, "output", len(model.outputs))
        self._model = model
        if self.asked_precision not in (None, hint := self._hint()):
            raise UnsupportedError(
                f"openvino on {self.device} cannot compute in {self.asked_precision}: it chose {hint}"
            )
        self._request = model.create_infer_request()

    def _hint(self) -> str:
        return str(self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name())

    def _declared(self) -> tuple[Declared, Declared]:
        return _declared(self._model.inputs[0]), _declared(self._model.outputs[0])

    def _invoke(self, x: Array) -> Array:
        # Copied in and out: the request's own tensors never alias an array of the caller's.
        request = self._request
        tensor = request.get_input_tensor(0)
        if tuple(tensor.shape) != x.shape:
            # A model with a dynamic batch has an empty tensor until it is told otherwise.
            tensor.shape = x.shape
        tensor.data[...] = x
        request.infer()
        return np.array(request.get_output_tensor(0).data)

    def _describe(self) -> RuntimeInfo:
        return RuntimeInfo(
            name=self.name,
            version=self.version() or "unknown",
            delegate="none",
            device=", ".join(self._model.get_property("EXECUTION_DEVICES")),
            threads=self.threads,
            computed_precision=self._precision(),
            options={"inference_precision_hint": self._hint()},
        )

    def _precision(self) -> str:
        """The precision of the convolutions of the graph that the device really runs."""
        found = set()
        for node in self._model.get_runtime_model().get_ops():
            told = node.get_rt_info()
            if "layerType" in told and told["layerType"].astype(str) in _CONVOLUTIONS:
                # runtimePrecision may be that of compressed weights; the kernel's name has the truth.
                kernel = _KERNEL_PRECISION.search(told["primitiveType"].astype(str))
                precision = kernel.group(1) if kernel else told["runtimePrecision"].astype(str)
                found.add(_ARITHMETIC.get(precision, precision))
        return "+".join(sorted(found)) or _ARITHMETIC.get(self._hint(), self._hint())

    def _release(self) -> None:
        self._request = None
        self._model = None


def _declared(port: Any) -> Declared:
    shape = port.get_partial_shape()
    kind = port.get_element_type().get_type_name()
    return Declared(
        tuple(size.get_length() if size.is_static else str(size) for size in shape), _DTYPES.get(kind, kind)
    )


def _essence(message: str) -> str:
    """OpenVINO's message without the lines that tell where in its sources it was raised."""
    lines = [line for line in message.splitlines() if line.strip() and not line.startswith("Exception from ")]
    return one_line(" ".join(lines) or message)
