"""A roofline per operator: it takes as long as its arithmetic or its memory traffic, whichever is longer.

Everything is monotone by construction: a faster device, more threads or fewer operations never make
a prediction slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat

from nanonet_edge.benchmarks.prediction.costs import Arithmetic, NetworkCost
from nanonet_edge.benchmarks.prediction.rates import CpuRates, GpuRates, TpuRates, Unpredictable
from nanonet_edge.benchmarks.prediction.steps import Kind
from nanonet_edge.manifest import Record

Floats = npt.NDArray[np.float64]
Bound = Literal["compute", "memory", "overhead"]

KINDS: Final[tuple[Kind, ...]] = ("conv", "pointwise", "depthwise", "move")
ARITHMETICS: Final[tuple[Arithmetic, ...]] = ("fp32", "fp16", "int8", "int16")
_MOVE = KINDS.index("move")
_NO_RATE = (np.nan, np.nan, np.nan)


class CpuEfficiency(Record):
    """What share of its peak a processor reaches; fitted, see `fit`.

    Attributes:
        conv, pointwise, depthwise: share of the peak rate.
        int8, int8_dot: the same again for int8, without and with a dot product instruction.
        move_bytes_per_cycle: of elementwise operators, per core.
        memory: share of the nominal bandwidth that all cores together get.
        one_core_memory: what one core gets of that.
        overhead_cycles: per operator.
        serial: share of the work that further threads do not speed up.
        in_order: what cores that issue in order reach of the assumed rate.
        builtin: time of TensorFlow Lite 2.5's own int8 kernels over XNNPACK's; for the fit alone.
    """

    conv: PositiveFloat
    pointwise: PositiveFloat
    depthwise: PositiveFloat
    int8: PositiveFloat
    int8_dot: PositiveFloat
    move_bytes_per_cycle: PositiveFloat
    memory: PositiveFloat
    one_core_memory: PositiveFloat
    overhead_cycles: PositiveFloat
    serial: float = Field(gt=0, lt=1)
    in_order: PositiveFloat
    builtin: PositiveFloat


class GpuEfficiency(Record):
    """What share of its peak a GPU reaches with TensorRT; `overhead_us` per operator."""

    conv: PositiveFloat
    pointwise: PositiveFloat
    depthwise: PositiveFloat
    memory: PositiveFloat
    overhead_us: PositiveFloat


class TpuEfficiency(Record):
    """What an Edge TPU reaches of its peak and of its link's rate; `invoke_us` per inference."""

    compute: PositiveFloat
    link: PositiveFloat
    invoke_us: PositiveFloat


@dataclass(frozen=True)
class Ceilings:
    """The rates that operators run into.

    Attributes:
        operations: a second, by kind, for each arithmetic.
        move: bytes a second through elementwise operators.
        memory: bytes a second from main memory.
        cache: bytes of activations per operator that main memory does not see.
        overhead: seconds per operator.
    """

    operations: Mapping[str, tuple[float, float, float]]
    move: float
    memory: float
    cache: int
    overhead: float


@dataclass(frozen=True)
class CostArrays:
    """A network's costs as arrays over its operators."""

    kind: npt.NDArray[np.int64]
    arithmetic: npt.NDArray[np.int64]
    operations: Floats
    activations: Floats
    weights: Floats

    @classmethod
    def of(cls, cost: NetworkCost) -> CostArrays:
        """The arrays of a network."""
        return cls(
            kind=np.array([KINDS.index(one.kind) for one in cost.operators]),
            arithmetic=np.array([ARITHMETICS.index(one.arithmetic) for one in cost.operators]),
            operations=np.array([2.0 * one.macs for one in cost.operators]),
            activations=np.array([float(one.input_bytes + one.output_bytes) for one in cost.operators]),
            weights=np.array([float(one.weight_bytes) for one in cost.operators]),
        )


def cpu_ceilings(rates: CpuRates, efficiency: CpuEfficiency, threads: int) -> Ceilings:
    """What `threads` threads of a processor run into; more than it has cores count as all."""
    threads = min(threads, rates.cores)
    core = rates.core
    speedup = 1.0 / (efficiency.serial + (1.0 - efficiency.serial) / threads)
    cycles = rates.clock_hz * speedup * (efficiency.in_order if core.in_order else 1.0)
    shares = (efficiency.conv, efficiency.pointwise, efficiency.depthwise)
    fp32 = [cycles * core.fp32_flop_per_cycle * share for share in shares]
    if core.int8_dot_op_per_cycle is None:
        dense = core.int8_op_per_cycle * efficiency.int8
    else:
        dense = core.int8_dot_op_per_cycle * efficiency.int8_dot
    # No dot product helps a depthwise convolution: it sums over positions, not over channels.
    each = core.int8_op_per_cycle * efficiency.int8
    int8 = [cycles * rate * share for rate, share in zip((dense, dense, each), shares, strict=True)]
    memory = rates.memory_bytes_per_s * efficiency.memory * min(1.0, efficiency.one_core_memory * threads)
    return Ceilings(
        # Engines on these processors compute fp16 files in fp32.
        operations={"fp32": _three(fp32), "fp16": _three(fp32), "int8": _three(int8)},
        move=cycles * efficiency.move_bytes_per_cycle,
        memory=memory,
        cache=rates.cache_bytes,
        overhead=efficiency.overhead_cycles / rates.clock_hz,
    )


def gpu_ceilings(rates: GpuRates, efficiency: GpuEfficiency) -> Ceilings:
    """What a GPU runs into; all its traffic goes through main memory."""
    shares = (efficiency.conv, efficiency.pointwise, efficiency.depthwise)
    peaks = {"fp32": rates.fp32, "fp16": rates.fp16, "int8": rates.int8}
    memory = rates.memory_bytes_per_s * efficiency.memory
    return Ceilings(
        operations={
            name: _three([peak * share for share in shares])
            for name, peak in peaks.items()
            if peak is not None
        },
        move=memory,
        memory=memory,
        cache=0,
        overhead=efficiency.overhead_us * 1e-6,
    )


def operator_seconds(costs: CostArrays, ceilings: Ceilings) -> Floats:
    """Seconds of each operator.

    Raises:
        Unpredictable: it computes in something that there is no rate for.
    """
    compute, memory = _arithmetic_and_traffic(costs, ceilings)
    return np.asarray(np.maximum(compute, memory) + ceilings.overhead)


def cpu_seconds(costs: CostArrays, rates: CpuRates, efficiency: CpuEfficiency, threads: int) -> float:
    """Seconds of a whole network on `threads` threads of a processor.

    Raises:
        Unpredictable: see `operator_seconds`.
    """
    return float(operator_seconds(costs, cpu_ceilings(rates, efficiency, threads)).sum())


def operator_bounds(costs: CostArrays, ceilings: Ceilings) -> list[Bound]:
    """What each operator's time is mostly spent on."""
    return [
        "overhead"
        if max(compute, memory) < ceilings.overhead
        else "memory"
        if memory > compute
        else "compute"
        for compute, memory in zip(*_arithmetic_and_traffic(costs, ceilings), strict=True)
    ]


def _arithmetic_and_traffic(costs: CostArrays, ceilings: Ceilings) -> tuple[Floats, Floats]:
    """Seconds of arithmetic and of memory traffic of each operator."""
    table = np.array([(*ceilings.operations.get(name, _NO_RATE), np.inf) for name in ARITHMETICS])
    rate = table[costs.arithmetic, costs.kind]
    if np.isnan(rate).any():
        missing = {ARITHMETICS[code] for code in costs.arithmetic} - ceilings.operations.keys()
        raise Unpredictable(
            f"no published figure for arithmetic in {', '.join(sorted(missing))} on this processor"
        )
    compute = np.where(costs.kind == _MOVE, costs.activations / ceilings.move, costs.operations / rate)
    traffic = costs.weights + np.maximum(0.0, costs.activations - ceilings.cache)
    return compute, traffic / ceilings.memory


def tpu_seconds(
    operations: float, parameter_bytes: int, io_bytes: int, rates: TpuRates, efficiency: TpuEfficiency
) -> float:
    """Seconds of what an Edge TPU runs: arithmetic, its inputs, outputs and what does not fit on it."""
    streamed = max(0, parameter_bytes - rates.sram_bytes) + io_bytes
    link = streamed / (rates.link_bytes_per_s * efficiency.link)
    return operations / (rates.int8 * efficiency.compute) + link + efficiency.invoke_us * 1e-6


def _three(values: list[float]) -> tuple[float, float, float]:
    conv, pointwise, depthwise = values
    return conv, pointwise, depthwise
