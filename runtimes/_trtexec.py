"""NVIDIA's trtexec: found, run with a time limit, and what it prints and exports, read.

It has ended with success although the engine could not be loaded, so its own word is not enough:
an engine counts as loaded where it says how long that took. Options and formats as in TensorRT 8.5 to 10.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import RuntimeFailure, UnsupportedError

#: Where JetPack and NVIDIA's containers keep it, off the PATH.
_USUAL_PLACE = Path("/usr/src/tensorrt/bin/trtexec")
_PROBE_SECONDS = 60.0
_LOG_LIMIT = 1 << 22
_JSON_LIMIT = 1 << 28

_BANNER = re.compile(r"&&&& \w+ TensorRT\.trtexec \[TensorRT v(\d{4,6})\]")
_PASSED = re.compile(r"^&&&& PASSED TensorRT\.trtexec", re.MULTILINE)
_ERROR = re.compile(r"^\[[^\]\n]{0,40}\] \[E\] (.+)$", re.MULTILINE)
_LOADED = re.compile(r"Engine (?:deserialized|loaded) in ([0-9.eE+-]+) sec")
_DEVICE = re.compile(r"Selected Device: (.{1,100}?)\s*$", re.MULTILINE)
_SUMMARY = re.compile(r"\[I\] (?P<what>Latency|GPU Compute Time): (?P<figures>.+)$", re.MULTILINE)
_FIGURE = re.compile(r"(min|max|mean|median|percentile\(\d{1,2}%\)) = ([0-9.eE+-]+) ms")
_PRECISION = re.compile(r"(BF16|FP16|Half|Int8|FP32|Float)", re.IGNORECASE)
_ARITHMETIC = {
    "bf16": "bf16",
    "fp16": "fp16",
    "half": "fp16",
    "int8": "int8",
    "fp32": "fp32",
    "float": "fp32",
}


@dataclass(frozen=True)
class Log:
    """What one run of trtexec printed.

    Attributes:
        version: such as 8502 or 100300; None if it printed none.
        device: the GPU, as it names it.
        load_seconds: what loading the engine took; None where none was loaded.
        summary: "Latency" and "GPU Compute Time" -> statistic -> milliseconds.
        errors: the lines of its errors.
        passed: whether it says that it succeeded.
    """

    version: int | None
    device: str | None
    load_seconds: float | None
    summary: Mapping[str, Mapping[str, float]]
    errors: tuple[str, ...]
    passed: bool


def parse_log(text: str) -> Log:
    """Read what trtexec printed, or a recording of it."""
    text = text[-_LOG_LIMIT:]
    banner, device, loaded = _BANNER.search(text), _DEVICE.search(text), _LOADED.search(text)
    return Log(
        version=int(banner[1]) if banner else None,
        device=device[1] if device else None,
        load_seconds=float(loaded[1]) if loaded else None,
        summary={
            match["what"]: {name: float(value) for name, value in _FIGURE.findall(match["figures"])}
            for match in _SUMMARY.finditer(text)
        },
        errors=tuple(error.strip() for error in _ERROR.findall(text)),
        passed=_PASSED.search(text) is not None,
    )


def find_trtexec() -> Path | None:
    """The program on the PATH, or where JetPack puts it."""
    found = shutil.which("trtexec")
    if found is not None:
        return Path(found)
    return _USUAL_PLACE if _USUAL_PLACE.is_file() else None


@functools.cache
def version_of(program: Path) -> int:
    """The version of TensorRT that a trtexec belongs to, such as 8502 (8.5.2) or 100300 (10.3.0).

    Raises:
        UnsupportedError: it does not tell, or cannot be run.
    """
    try:
        done = subprocess.run(
            [program, "--help"],
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnsupportedError(f"{program}: cannot be run: {error}") from error
    version = parse_log(_text(done.stdout)).version
    if version is None:
        raise UnsupportedError(f"{program}: expected trtexec, which names its version, found something else")
    return version


def version_text(version: int) -> str:
    """8502 -> "8.5.2", 100300 -> "10.3.0"."""
    major, rest = divmod(version, 1000 if version < 10_000 else 10_000)
    minor, patch = divmod(rest, 100)
    return f"{major}.{minor}.{patch}"


def run_trtexec(program: Path, arguments: Sequence[str], *, source: str, timeout_s: float) -> Log:
    """Run trtexec and insist that it did what it was asked to.

    Args:
        program: the program.
        arguments: its options.
        source: the model, for messages.
        timeout_s: seconds after which it is killed.

    Raises:
        RuntimeFailure: it failed, took too long, or loaded no engine; with its first error.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeFailure(f"{source}: trtexec did not end within {timeout_s:.0f} s") from None
    except OSError as error:
        raise RuntimeFailure(f"{source}: trtexec cannot be run: {error.strerror}") from error
    log = parse_log(_text(done.stdout))
    if done.returncode != 0 or not log.passed or log.load_seconds is None:
        why = log.errors[0] if log.errors else f"it ended with code {done.returncode} and loaded no engine"
        raise RuntimeFailure(f"{source}: trtexec failed: {why[:300]}")
    return log


def read_times(path: Path) -> npt.NDArray[np.int64]:
    """The latencies of --exportTimes, (n,) int64 nanoseconds: copy in, compute, copy out.

    Raises:
        RuntimeFailure: the file is not what trtexec writes.
    """
    try:
        found = [float(entry["latencyMs"]) for entry in _read_json(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeFailure(f"{path}: expected a list with latencyMs, found {error!r}") from None
    samples = np.round(np.array(found) * 1e6)
    if not len(samples) or not np.isfinite(samples).all() or samples.min() <= 0:
        raise RuntimeFailure(f"{path}: expected positive latencies, found {len(samples)}")
    return samples.astype(np.int64)


def read_output(path: Path, name: str) -> npt.NDArray[np.float64]:
    """One tensor of --exportOutput in the shape that it has there.

    Raises:
        RuntimeFailure: the file is not what trtexec writes, or has no such tensor.
    """
    try:
        (entry,) = (one for one in _read_json(path) if one["name"] == name)
        shape = tuple(int(size) for size in re.findall(r"\d+", entry["dimensions"]))
        return np.array(entry["values"], np.float64).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeFailure(f"{path}: expected the tensor {name} of trtexec, found {error!r}") from None


def read_precision(path: Path, *, tf32: bool) -> str:
    """In what the convolutions of an engine compute, by its --exportLayerInfo; "+" joins several.

    Args:
        path: written for an engine that was built with detailed profiling.
        tf32: whether float32 convolutions may be computed in TF32, which only a tactic's name tells.

    Raises:
        RuntimeFailure: the file is not what trtexec writes.
    """
    try:
        layers = [layer for layer in _read_json(path)["Layers"] if isinstance(layer, dict)]
        found = {_precision(layer, tf32) for layer in layers if _is_convolution(layer)}
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise RuntimeFailure(f"{path}: expected the layers of an engine, found {error!r}") from None
    return "+".join(sorted(found)) or "not told"


def _is_convolution(layer: Mapping[str, Any]) -> bool:
    kinds = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}".lower()
    return "conv" in kinds


def _precision(layer: Mapping[str, Any], tf32: bool) -> str:
    told = layer["Inputs"][0]["Format/Datatype"]
    match = _PRECISION.search(told)
    arithmetic = _ARITHMETIC[match[1].lower()] if match else told
    tactic = str(layer.get("TacticName", ""))
    if arithmetic != "fp32" or not tf32:
        return str(arithmetic)
    return "tf32" if not tactic or "tf32" in tactic.lower() else "fp32"


def _read_json(path: Path) -> Any:
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise RuntimeFailure(f"{path}: expected at most {_JSON_LIMIT} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RuntimeFailure(f"{path}: expected a file of trtexec, found {error.strerror}") from error
    except ValueError as error:
        raise RuntimeFailure(f"{path}: expected JSON of trtexec, found {error}") from None


def _text(data: bytes) -> str:
    return data[-_LOG_LIMIT:].decode("utf-8", "replace")
