"""This machine as a device: its rates from a short measurement, so that the model can be checked here.

What is measured is what the model takes as given for a board: the rate of a 1x1 convolution in fp32
and int8 on one thread of LiteRT, and the rate of a large copy in memory. The shares of that which
other operators reach, and all that has to do with threads, remain those of the fit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from nanonet_edge.benchmarks.prediction.fitted import read_fitted
from nanonet_edge.benchmarks.timing import run_until, timed
from nanonet_edge.devices.profile import Profile
from nanonet_edge.extras import require
from nanonet_edge.machine import Machine, read_conditions, read_machine
from nanonet_edge.quiet import quiet

#: What `--device` calls this machine.
HOST_NAMES: Final = ("cpu", "host")
HOST_PROFILE: Final = "this-machine"

#: A convolution that fits every cache and keeps every pipe busy: positions, channels in and out.
_SIDE, _CHANNELS = 32, 128
_COPY_BYTES = 64 << 20
_SECONDS = 0.3
#: Where the system does not tell: a clock only divides what was measured into cycles.
_ASSUMED_MHZ = 2500.0
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


def is_host(device: str) -> bool:
    """Whether a device's name means this machine."""
    return device in HOST_NAMES


def calibrated_profile() -> Profile:
    """Measure this machine for about two seconds, and describe it as a device.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    machine = read_machine()
    fp32, int8 = convolution_rate("float32"), convolution_rate("int8")
    return profile_from(machine, fp32, int8, copy_rate(), _clock_mhz(machine))


def profile_from(machine: Machine, fp32: float, int8: float, copied: float, clock_mhz: float) -> Profile:
    """The profile of a machine whose one thread reaches these rates.

    Args:
        fp32, int8: operations a second of a 1x1 convolution, two per multiply-accumulate.
        copied: bytes a second, read and written.
    """
    efficiency = read_fitted().cpu.efficiency
    cores = machine.usable_cores or machine.logical_cores or 1
    # The model multiplies peaks with the shares that were fitted: what was measured is divided by them.
    peak_fp32 = fp32 / efficiency.pointwise * cores / 1e9
    peak_int8 = int8 / efficiency.pointwise / efficiency.int8_dot * cores / 1e9
    bandwidth = copied / efficiency.memory / min(1.0, efficiency.one_core_memory) / 1e9

    def measured(value: Any, note: str) -> dict[str, Any]:
        return {"value": value, "source": "calibration", "derived": True, "note": note}

    last = _last_cache_kib()
    unknown = {"reason": "not looked at: what matters was measured"}
    share = "measured on one thread, over the share that the fit expects of it"
    return Profile.model_validate(
        {
            "name": HOST_PROFILE,
            "title": f"this machine ({machine.cpu_model or 'an unnamed processor'})",
            "family": HOST_PROFILE,
            "kind": "generic",
            "cpu": {
                "model": {"value": machine.cpu_model or "unnamed", "source": "system"},
                "cores": {"value": cores, "source": "system"},
                "clock_max_mhz": {"value": clock_mhz, "source": "system"},
                "isa": {"value": machine.architecture, "source": "system"},
                "features": {"value": ["dot-product"], "source": "calibration", "note": "int8 was measured"},
                **dict.fromkeys(("l1i", "l1d", "l2"), unknown),
                "l3": unknown if last is None else {"value": {"kib": last}, "source": "system"},
                "fp32_gflops": measured(peak_fp32, share),
                "int8_gops": measured(peak_int8, share),
            },
            "memory": {
                "ram_mib": {"value": [machine.memory_bytes >> 20], "source": "system"},
                "bandwidth_peak_gbs": measured(bandwidth, share),
                "bandwidth_measured_gbs": {"value": copied / 1e9, "source": "calibration"},
            },
            "power": unknown,
            "software": {
                "architecture": {"value": machine.architecture, "source": "system"},
                "wheel_platforms": unknown,
            },
            "emulation": {"qemu_cpu": unknown},
            "detection": {"nodes": ["/"], "source": "system"},
            "sources": {
                "system": {"title": "what the operating system says"},
                "calibration": {"title": _measured(fp32, int8, copied)},
            },
        }
    )


def _measured(fp32: float, int8: float, copied: float) -> str:
    return (
        f"measured here just now on one thread: a 1x1 convolution at {fp32 / 1e9:.3g} GFLOP/s in fp32 "
        f"and {int8 / 1e9:.3g} GOP/s in int8, a copy at {copied / 1e9:.3g} GB/s"
    )


def convolution_rate(dtype: str) -> float:
    """Operations a second of a 1x1 convolution on one thread of LiteRT: the best of what 0.3 s allow."""
    engine: Any = require("ai_edge_litert.interpreter")
    with quiet():  # its C++ side announces the delegate
        interpreter = engine.Interpreter(model_content=_convolution(dtype), num_threads=1)
        interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]
    interpreter.set_tensor(image["index"], np.ones(image["shape"], image["dtype"]))
    return 2.0 * _SIDE * _SIDE * _CHANNELS * _CHANNELS / _best(interpreter.invoke)


def copy_rate() -> float:
    """Bytes a second, read and written, of copying more than any cache holds."""
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    return 2.0 * _COPY_BYTES / _best(lambda: np.copyto(target, source))


def _best(work: Callable[[], object]) -> float:
    """The shortest of several runs in seconds: what else runs here can only make it longer."""
    work()
    return min(run_until(timed(work), min_seconds=_SECONDS, min_count=1)) / 1e9


def _last_cache_kib() -> int | None:
    """Size of the largest cache that the first core sees."""
    sizes = []
    for path in _CACHES.glob("index*/size"):
        with contextlib.suppress(OSError):
            text = path.read_text(encoding="ascii", errors="replace").strip()
            if text.endswith("K") and text[:-1].isdigit():
                sizes.append(int(text[:-1]))
    return max(sizes, default=None)


def _clock_mhz(machine: Machine) -> float:
    return machine.frequency_max_mhz or read_conditions().frequency_mhz or _ASSUMED_MHZ


def _convolution(dtype: str) -> bytes:
    """A `.tflite` of one 1x1 convolution."""
    schema: Any = require("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = require("flatbuffers")
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3
    floats = dtype == "float32"
    kind = schema.TensorType.FLOAT32 if floats else schema.TensorType.INT8
    weights = np.ones((_CHANNELS, 1, 1, _CHANNELS), dtype)
    bias = np.zeros(_CHANNELS, np.float32 if floats else np.int32)
    image = (1, _SIDE, _SIDE, _CHANNELS)
    buffers, tensors = [schema.BufferT()], []
    for shape, stored, tensor_kind in (
        (image, None, kind),
        (weights.shape, weights, kind),
        (bias.shape, bias, schema.TensorType.FLOAT32 if floats else schema.TensorType.INT32),
        (image, None, kind),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = b"tensor", list(shape), tensor_kind, 0
        if not floats:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [1.0], [0]
        if stored is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(stored.tobytes(), np.uint8)
            tensor.buffer = len(buffers)
            buffers.append(buffer)
        tensors.append(tensor)
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [operator], [0], [3]
    model.version, model.buffers, model.subgraphs, model.operatorCodes = 3, buffers, [graph], [code]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
