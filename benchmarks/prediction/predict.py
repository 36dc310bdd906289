"""Predict how long an artifact takes on a device that is not at hand."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable, Mapping, Sequence
from math import exp, hypot, log
from pathlib import Path

from nanonet_edge.benchmarks.prediction.costs import NetworkCost, read_cost
from nanonet_edge.benchmarks.prediction.host import HOST_PROFILE
from nanonet_edge.benchmarks.prediction.instructions import shipped_count
from nanonet_edge.benchmarks.prediction.latencies import Unit
from nanonet_edge.benchmarks.prediction.models import (
    Outcome,
    Request,
    check_counted,
    counted_operators,
    predict_on_cpu,
    predict_on_gpu,
    predict_on_tpu,
)
from nanonet_edge.benchmarks.prediction.rates import Unpredictable, read_rates
from nanonet_edge.benchmarks.prediction.result import (
    Capacity,
    MemoryNeed,
    Milliseconds,
    Prediction,
    PredictResult,
)
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.devices import Profile
from nanonet_edge.errors import UsageError

#: Which unit of a device runs a format, best first, and with what engine.
_RUNS: dict[str, tuple[tuple[Unit, str], ...]] = {
    "tflite": (("tpu", "edgetpu"), ("cpu", "litert")),
    "onnx": (("gpu", "tensorrt"), ("cpu", "onnxruntime")),
    "openvino": (("cpu", "openvino"),),
}
_MIB = 1 << 20


def predict_artifact(
    path: Path,
    profile: Profile,
    *,
    threads: int = 1,
    name: str | None = None,
    engine: str | None = None,
    instructions: int | None = None,
) -> Prediction:
    """Predict the latency and the memory of a `.tflite`, `.onnx` or OpenVINO `.xml` file on a device.

    Args:
        threads: of a CPU engine; a GPU or a TPU has no such choice.
        name: what to call it; the file's name otherwise.
        engine: "litert", "onnxruntime" or "openvino", on the processor; otherwise what suits the
            device best.
        instructions: of one inference on one thread of the device's processor, if they were counted
            (`nanonet-edge emulate count`): a second estimate.

    Returns:
        The prediction; its `reason` is set where nothing can be said about such a file there.

    Raises:
        InputError: the file is missing, damaged, of another format, or of sizes that are not fixed.
        MissingExtraError: the package that reads the format is not installed.
        UsageError: nothing is known of that engine.
    """
    engines = read_rates().engines
    if engine is not None and engine not in engines:
        raise UsageError(f"engine: expected one of {', '.join(engines)}, found '{engine}'")
    cost = read_cost(path)
    unit, runs = _runner(cost.format, profile, engine)
    request = Request(path, cost, profile, runs, threads, instructions)
    latency, reason, outcome = None, None, None
    try:
        check_counted(cost)
        outcome = _MODELS[unit](request)
        latency = _latency(outcome)
    except Unpredictable as why:
        reason = str(why)
    return Prediction(
        artifact=name or path.name,
        format=cost.format,
        arithmetic=cost.arithmetic,
        bytes=_size(path),
        macs=cost.macs,
        bytes_moved=cost.bytes_moved,
        unit=unit,
        engine=runs,
        threads=threads if unit == "cpu" else None,
        latency=latency,
        reason=reason,
        estimates=() if outcome is None else tuple(outcome.estimates),
        memory=_memory(cost, profile, unit),
        operators=counted_operators(cost, unit) if outcome is None else outcome.operators,
        notes=() if outcome is None else tuple(outcome.notes),
        sources=() if outcome is None else tuple(outcome.sources),
    )


def predict_bundle(
    bundle: Bundle, profile: Profile, *, threads: int = 1, counts: Mapping[str, int] | None = None
) -> PredictResult:
    """Predict every artifact of a bundle on a device, each by the engine that would run it there.

    Args:
        threads: of CPU engines.
        counts: instructions of one inference on one thread by artifact, from `load_counts`; without
            them, those that ship for rewritten NanoNets.

    Raises:
        MissingExtraError: the package that reads a format is not installed.
    """

    def counted(artifact: Artifact) -> int | None:
        if counts is None:
            return shipped_count(bundle, artifact, profile)
        return counts.get(artifact.name)

    rows = [
        predict_artifact(
            artifact.path,
            profile,
            threads=threads,
            name=artifact.name,
            instructions=counted(artifact),
        )
        for artifact in bundle.artifacts
    ]
    return result_of(rows, profile, bundle=bundle)


def result_of(rows: Sequence[Prediction], profile: Profile, *, bundle: Bundle | None = None) -> PredictResult:
    """Predictions on one device as a result, with the line to type to measure instead."""
    where = "BUNDLE" if bundle is None else shlex.quote(str(bundle.root))
    there = "" if profile.name == HOST_PROFILE else f" --device {profile.name} --host user@board"
    return PredictResult(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        device=profile.name,
        title=profile.title,
        bundle=None if bundle is None else str(bundle.root),
        manifest_sha256=None if bundle is None else bundle.manifest_sha256,
        rows=tuple(rows),
        measure=f"nanonet-edge bench {where}{there}",
    )


def _size(path: Path) -> int:
    """Bytes of an artifact's files: an OpenVINO IR keeps its weights in a second one."""
    weights = path.with_suffix(".bin")
    two = path.suffix.lower() == ".xml" and weights.is_file()
    return path.stat().st_size + (weights.stat().st_size if two else 0)


def _runner(file_format: str, profile: Profile, engine: str | None) -> tuple[Unit, str]:
    if engine is not None:
        return "cpu", engine
    has = {unit.kind for unit in profile.accelerators}
    for unit, usual in _RUNS[file_format]:
        if unit == "cpu" or unit in has:
            return unit, usual
    raise AssertionError(file_format)


def _latency(outcome: Outcome) -> Milliseconds:
    """The estimates' geometric mean; the range spans them all, widened by the error and all else."""
    logs = [log(estimate.ms) for estimate in outcome.estimates]
    middle = sum(logs) / len(logs)
    spread = hypot(log(outcome.error.factor), *(log(factor) for factor in outcome.widened.values()))
    return Milliseconds(
        ms=exp(middle),
        low_ms=exp(min(logs) - spread),
        high_ms=exp(max(logs) + spread),
        error=outcome.error,
        widened=outcome.widened,
    )


def _memory(cost: NetworkCost, profile: Profile, unit: Unit) -> MemoryNeed:
    need = cost.weight_bytes + cost.peak_activation_bytes
    ram = None if profile.memory is None else profile.memory.ram_mib.value
    return MemoryNeed(
        weight_bytes=cost.weight_bytes,
        peak_activation_bytes=cost.peak_activation_bytes,
        # Of the sizes that a board is sold with the smallest counts.
        ram=_capacity(
            need, None if ram is None else min(ram) * _MIB, "main memory" if ram else "that of its host"
        ),
        on_chip=_on_chip(cost, profile, unit),
    )


def _on_chip(cost: NetworkCost, profile: Profile, unit: Unit) -> Capacity:
    """An Edge TPU keeps weights; a processor's last cache would have to hold what flows, too."""
    if unit == "tpu":
        tpu = next(one for one in profile.accelerators if one.kind == "tpu")
        size = None if tpu.sram_mib.value is None else int(tpu.sram_mib.value * _MIB)
        return _capacity(cost.weight_bytes, size, "weights in the Edge TPU's SRAM")
    need = cost.weight_bytes + cost.peak_activation_bytes
    if unit == "gpu" or profile.cpu is None:
        return _capacity(
            need, None, "a GPU computes from main memory" if unit == "gpu" else "that of its host"
        )
    last = profile.cpu.l3.value or profile.cpu.l2.value
    return _capacity(need, None if last is None else last.kib << 10, "the last cache")


def _capacity(needed: int, available: int | None, note: str) -> Capacity:
    fits = None if available is None else needed <= available
    return Capacity(needed_bytes=needed, available_bytes=available, fits=fits, note=note)


_MODELS: dict[Unit, Callable[[Request], Outcome]] = {
    "cpu": predict_on_cpu,
    "gpu": predict_on_gpu,
    "tpu": predict_on_tpu,
}
