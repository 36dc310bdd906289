"""Predict how long an artifact takes on a device that is not at hand."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from math import exp, hypot, log
from pathlib import Path

from nanonet_edge.benchmarks.prediction.costs import NetworkCost, read_cost
from nanonet_edge.benchmarks.prediction.latencies import Unit
from nanonet_edge.benchmarks.prediction.models import (
    Outcome,
    counted_operators,
    predict_on_cpu,
    predict_on_gpu,
    predict_on_tpu,
)
from nanonet_edge.benchmarks.prediction.rates import Unpredictable
from nanonet_edge.benchmarks.prediction.result import (
    Fit,
    MemoryNeed,
    Milliseconds,
    Prediction,
    PredictResult,
)
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import Profile

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
) -> Prediction:
    """Predict the latency and the memory of a `.tflite`, `.onnx` or OpenVINO `.xml` file on a device.

    Args:
        threads: of a CPU engine; a GPU or a TPU has no such choice.
        name: what to call it; the file's name otherwise.

    Returns:
        The prediction; its `reason` is set where nothing can be said about such a file there.

    Raises:
        InputError: the file is missing, damaged, of another format, or of sizes that are not fixed.
        MissingExtraError: the package that reads the format is not installed.
    """
    cost = read_cost(path)
    unit, engine = _runner(cost.format, profile)
    latency, reason, outcome = None, None, None
    try:
        outcome = _MODELS[unit](path, cost, profile, engine, threads)
        latency = _latency(outcome)
    except Unpredictable as why:
        reason = str(why)
    return Prediction(
        artifact=name or path.name,
        format=cost.format,
        arithmetic=cost.arithmetic,
        bytes=path.stat().st_size,
        macs=cost.macs,
        bytes_moved=cost.bytes_moved,
        unit=unit,
        engine=engine,
        threads=threads if unit == "cpu" else None,
        latency=latency,
        reason=reason,
        estimates=() if outcome is None else tuple(outcome.estimates),
        memory=_memory(cost, profile, unit),
        operators=counted_operators(cost, unit) if outcome is None else outcome.operators,
        notes=() if outcome is None else tuple(outcome.notes),
        sources=() if outcome is None else tuple(outcome.sources),
    )


def predict_bundle(bundle: Bundle, profile: Profile, *, threads: int = 1) -> PredictResult:
    """Predict every artifact of a bundle on a device, each by the engine that would run it there.

    Raises:
        MissingExtraError: the package that reads a format is not installed.
    """
    rows = [
        predict_artifact(artifact.path, profile, threads=threads, name=artifact.name)
        for artifact in bundle.artifacts
    ]
    return result_of(rows, profile, bundle=bundle)


def result_of(rows: Sequence[Prediction], profile: Profile, *, bundle: Bundle | None = None) -> PredictResult:
    """Predictions on one device as a result, with the line to type to measure instead."""
    where = "BUNDLE" if bundle is None else str(bundle.root)
    return PredictResult(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        device=profile.name,
        title=profile.title,
        bundle=None if bundle is None else str(bundle.root),
        manifest_sha256=None if bundle is None else bundle.manifest_sha256,
        rows=tuple(rows),
        measure=f"nanonet-edge bench {where} --device {profile.name} --host user@board",
    )


def _runner(file_format: str, profile: Profile) -> tuple[Unit, str]:
    has = {unit.kind for unit in profile.accelerators}
    for unit, engine in _RUNS[file_format]:
        if unit == "cpu" or unit in has:
            return unit, engine
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
    smallest = None if ram is None else min(ram) * _MIB
    return MemoryNeed(
        weight_bytes=cost.weight_bytes,
        peak_activation_bytes=cost.peak_activation_bytes,
        ram=Fit(
            needed_bytes=need,
            available_bytes=smallest,
            fits=None if smallest is None else need <= smallest,
            note="the host's memory counts"
            if smallest is None
            else "the smallest memory that it is sold with",
        ),
        on_chip=_on_chip(cost, profile, unit),
    )


def _on_chip(cost: NetworkCost, profile: Profile, unit: Unit) -> Fit:
    """A TPU holds weights; a processor's last cache would have to hold what flows, too."""
    size, what, need = None, "no on-chip memory is known", cost.weight_bytes + cost.peak_activation_bytes
    if unit == "tpu":
        sram = next((one.sram_mib.value for one in profile.accelerators if one.kind == "tpu"), None)
        size, what, need = (
            None if sram is None else int(sram * _MIB),
            "the Edge TPU's SRAM, for weights",
            cost.weight_bytes,
        )
    elif unit == "cpu" and profile.cpu is not None:
        last = profile.cpu.l3.value or profile.cpu.l2.value
        size, what = None if last is None else last.kib << 10, "the processor's last cache"
    elif unit == "gpu":
        what = "a GPU computes from main memory"
    return Fit(
        needed_bytes=need, available_bytes=size, fits=None if size is None else need <= size, note=what
    )


_MODELS: dict[Unit, Callable[[Path, NetworkCost, Profile, str, int], Outcome]] = {
    "cpu": predict_on_cpu,
    "gpu": predict_on_gpu,
    "tpu": predict_on_tpu,
}
