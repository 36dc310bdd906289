"""The roofline: against sums by hand, and never the wrong way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.prediction.costs import NetworkCost, OperatorCost
from nanonet_edge.benchmarks.prediction.fitted import read_fitted
from nanonet_edge.benchmarks.prediction.rates import CoreRate, CpuRates, GpuRates, TpuRates, Unpredictable
from nanonet_edge.benchmarks.prediction.roofline import (
    CostArrays,
    CpuEfficiency,
    GpuEfficiency,
    cpu_ceilings,
    gpu_ceilings,
    operator_bounds,
    operator_seconds,
    tpu_seconds,
)

CORE = CoreRate(
    fp32_flop_per_cycle=8, int8_op_per_cycle=16, int8_dot_op_per_cycle=None, in_order=False, source="made up"
)
DOT = CORE.model_copy(update={"int8_dot_op_per_cycle": 64})
RATES = CpuRates(CORE, cores=4, clock_hz=1e9, memory_bytes_per_s=10e9, cache_bytes=1 << 20)
PLAIN = CpuEfficiency(
    conv=0.5, pointwise=0.25, depthwise=0.125, int8=1.0, int8_dot=0.5, move_bytes_per_cycle=2.0, memory=0.5,
    one_core_memory=0.4, overhead_cycles=1000.0, serial=0.2, in_order=0.5, builtin=1.0,
)  # fmt: skip


def one(kind: str, arithmetic: str = "fp32", **changes: int) -> CostArrays:
    values = {"macs": 0, "input_bytes": 0, "output_bytes": 0, "weight_bytes": 0, **changes}
    operator = OperatorCost(index=0, name="n", op="op", kind=kind, arithmetic=arithmetic, **values)  # type: ignore[arg-type]
    return CostArrays.of(
        NetworkCost(
            format="drawn", arithmetic=operator.arithmetic, operators=(operator,), weight_bytes=0,
            peak_activation_bytes=0, input_bytes=0, output_bytes=0,
        )
    )  # fmt: skip


OVERHEAD = 1e-6


@pytest.mark.parametrize(
    ("costs", "core", "threads", "seconds", "bound"),
    [
        # Two million operations, four a cycle.
        (one("conv", macs=10**6), CORE, 1, 5e-4, "compute"),
        # Four threads: 1 / (0.2 + 0.8 / 4) = 2.5 times as fast.
        (one("conv", macs=10**6), CORE, 4, 2e-4, "compute"),
        (one("conv", macs=10**6), CORE, 64, 2e-4, "compute"),
        (one("conv", "int8", macs=10**6), CORE, 1, 2.5e-4, "compute"),
        (one("conv", "int8", macs=10**6), DOT, 1, 1.25e-4, "compute"),
        # No dot product in a depthwise one: 2e6 / (1e9 * 16 * 0.125).
        (one("depthwise", "int8", macs=10**6), DOT, 1, 1e-3, "compute"),
        (one("conv", macs=10**6), CORE.model_copy(update={"in_order": True}), 1, 1e-3, "compute"),
        # 10 MB of weights over 10e9 * 0.5 * 0.4.
        (one("pointwise", macs=1, weight_bytes=10**7), CORE, 1, 5e-3, "memory"),
        (one("pointwise", macs=1, weight_bytes=10**7), CORE, 4, 2e-3, "memory"),
        # Activations count from what the cache does not hold; 2 bytes a cycle through the core.
        (one("move", input_bytes=1 << 19, output_bytes=1 << 19), CORE, 1, (1 << 20) / 2e9, "compute"),
        (one("conv", macs=1, input_bytes=(1 << 20) + 2 * 10**6), CORE, 1, 1e-3, "memory"),
        (one("move"), CORE, 1, 0.0, "overhead"),
    ],
)
def test_an_operator_by_hand(
    costs: CostArrays, core: CoreRate, threads: int, seconds: float, bound: str
) -> None:
    ceilings = cpu_ceilings(replace(RATES, core=core), PLAIN, threads)
    assert operator_seconds(costs, ceilings) == pytest.approx([seconds + OVERHEAD])
    assert operator_bounds(costs, ceilings) == [bound]


def test_arithmetic_without_a_rate_is_not_guessed() -> None:
    costs = one("conv", "int16", macs=1)
    with pytest.raises(Unpredictable, match="int16"):
        operator_seconds(costs, cpu_ceilings(RATES, PLAIN, 1))
    gpu = GpuRates(fp32=1e12, fp16=2e12, int8=None, memory_bytes_per_s=1e10)
    efficiency = GpuEfficiency(conv=1, pointwise=1, depthwise=1, memory=1, overhead_us=1)
    with pytest.raises(Unpredictable, match="int8"):
        operator_seconds(one("conv", "int8", macs=1), gpu_ceilings(gpu, efficiency))


counts = st.integers(0, 10**9)
operators = st.builds(
    OperatorCost,
    index=st.just(0),
    name=st.just("n"),
    op=st.just("op"),
    kind=st.sampled_from(["conv", "pointwise", "depthwise", "move"]),
    arithmetic=st.sampled_from(["fp32", "int8"]),
    macs=counts,
    input_bytes=counts,
    output_bytes=counts,
    weight_bytes=counts,
)
faster = st.floats(1.0, 100.0)
FITTED = read_fitted().cpu.efficiency


def total(operator: OperatorCost, rates: CpuRates, threads: int) -> float:
    values = {
        name: getattr(operator, name) for name in ("macs", "input_bytes", "output_bytes", "weight_bytes")
    }
    costs = one(operator.kind, operator.arithmetic, **values)
    return float(operator_seconds(costs, cpu_ceilings(rates, FITTED, threads)).sum())


@given(
    operator=operators,
    clock=faster,
    wide=faster,
    memory=faster,
    cache=st.integers(0, 1 << 30),
    threads=st.integers(1, 8),
)
def test_a_faster_device_is_never_slower(
    operator: OperatorCost, clock: float, wide: float, memory: float, cache: int, threads: int
) -> None:
    better = CpuRates(
        core=CORE.model_copy(update={"fp32_flop_per_cycle": 8 * wide, "int8_op_per_cycle": 16 * wide}),
        cores=RATES.cores,
        clock_hz=RATES.clock_hz * clock,
        memory_bytes_per_s=RATES.memory_bytes_per_s * memory,
        cache_bytes=RATES.cache_bytes + cache,
    )
    assert total(operator, better, threads) <= total(operator, RATES, threads) * (1 + 1e-12)
    assert total(operator, RATES, threads + 1) <= total(operator, RATES, threads) * (1 + 1e-12)


@given(operator=operators, field=st.sampled_from(["macs", "input_bytes", "weight_bytes"]), more=counts)
def test_more_work_is_never_faster(operator: OperatorCost, field: str, more: int) -> None:
    bigger = operator.model_copy(update={field: getattr(operator, field) + more})
    assert total(bigger, RATES, 1) >= total(operator, RATES, 1) * (1 - 1e-12)


@given(operations=st.floats(0, 1e12), parameters=counts, moved=counts, more=st.floats(1, 10))
def test_an_edge_tpu_is_as_monotone(operations: float, parameters: int, moved: int, more: float) -> None:
    efficiency = read_fitted().tpu.efficiency
    rates = TpuRates(4e12, 8 << 20, 3e8)
    seconds = tpu_seconds(operations, parameters, moved, rates, efficiency)
    better = TpuRates(4e12 * more, int(8 * more) << 20, 3e8 * more)
    assert tpu_seconds(operations, parameters, moved, better, efficiency) <= seconds
    assert tpu_seconds(operations * more, parameters, moved, rates, efficiency) >= seconds
    fits = np.minimum(parameters, 8 << 20)
    assert tpu_seconds(operations, int(fits), moved, rates, efficiency) <= seconds
