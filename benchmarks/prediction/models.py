"""What runs an artifact on a device, and how long it is predicted to take there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nanonet_edge.benchmarks.prediction.costs import NetworkCost, OperatorCost
from nanonet_edge.benchmarks.prediction.fitted import Errors, read_fitted
from nanonet_edge.benchmarks.prediction.instructions import cycles_per_instruction
from nanonet_edge.benchmarks.prediction.latencies import Unit, read_latencies, shipped_profile
from nanonet_edge.benchmarks.prediction.rates import (
    CpuRates,
    Unpredictable,
    cpu_rates,
    gpu_rates,
    read_rates,
    tpu_rates,
)
from nanonet_edge.benchmarks.prediction.result import Estimate, OperatorPrediction
from nanonet_edge.benchmarks.prediction.roofline import (
    Ceilings,
    CostArrays,
    cpu_ceilings,
    cpu_seconds,
    gpu_ceilings,
    operator_bounds,
    operator_seconds,
    tpu_seconds,
)
from nanonet_edge.devices import Profile
from nanonet_edge.devices.profile import Accelerator
from nanonet_edge.edgetpu import coral_report
from nanonet_edge.tflite_file import ABSENT, TfliteFile, read_tflite

#: Whose processor takes over from a Coral accelerator that plugs into a host nobody named.
ASSUMED_HOST: Final = "raspberry-pi-4"
#: The x86 processor whose published figures the fit was held against.
_X86: Final = "intel-n100"
#: By how much a prediction may be off beyond its error where none of the published figures is alike.
_UNLIKE: Final = 1.5
#: Operators with weighted sums that no reader counts, in the formats' own names.
_UNCOUNTED: Final = frozenset(
    "LSTM GRU RNN Einsum Attention MultiHeadAttention If Loop Scan LSTMSequence GRUSequence RNNSequence"
    " TensorIterator ScaledDotProductAttention IF WHILE CONV_3D UNIDIRECTIONAL_SEQUENCE_RNN"
    " BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN LSTM_CELL SVDF".split()
)
#: By how much the host's share may be off where the host was assumed.
_SOME_HOST: Final = 2.0


def check_counted(cost: NetworkCost) -> None:
    """See that no operator's arithmetic is missing from what was counted.

    Raises:
        Unpredictable: one's is.
    """
    if unknown := sorted({one.op for one in cost.operators} & _UNCOUNTED):
        raise Unpredictable(f"what {', '.join(unknown)} costs cannot be told from the file")


@dataclass(frozen=True)
class Request:
    """What is asked: a file, what it costs, where and by what it is to run.

    `instructions` of one inference on one thread of that device's processor, if they were counted.
    """

    path: Path
    cost: NetworkCost
    profile: Profile
    engine: str
    threads: int
    instructions: int | None = None


@dataclass
class Outcome:
    """What a unit's model says: seconds by operator where it tells them apart, and how sure it is."""

    estimates: list[Estimate]
    error: Errors
    widened: dict[str, float] = field(default_factory=dict)
    operators: tuple[OperatorPrediction, ...] = ()
    notes: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def predict_on_cpu(request: Request) -> Outcome:
    """A processor's cores, through the roofline of each operator."""
    cost, profile, engine, threads = request.cost, request.profile, request.engine, request.threads
    fit, factors = read_fitted().cpu, read_rates().engines[engine]
    rates = cpu_rates(profile)
    ceilings = cpu_ceilings(rates, fit.efficiency, threads)
    factor = factors.int8 if cost.arithmetic == "int8" else factors.fp32
    operators = _operators(cost, "cpu", ceilings, factor)
    outcome = Outcome(
        estimates=[_roofline(operators)],
        error=_cpu_error(profile),
        operators=operators,
        sources=_cited("cpu"),
    )
    if request.instructions is not None and engine == "litert":
        _add_instructions(outcome, request, rates)
    if cost.arithmetic == "fp16":
        outcome.notes.append("fp16 is computed in fp32 here")
    if threads > rates.cores:
        outcome.notes.append(f"{threads} threads: counted as {rates.cores}, for so many cores")
    if profile.name not in fit.devices:
        outcome.notes.append(_from_others("processor", profile, fit.devices))
    if (clock := read_latencies().clocks.get(profile.name)) is not None:
        outcome.notes.append(
            f"for {rates.clock_hz / 1e6:.0f} MHz: older boards, those of the published figures, "
            f"stop at {clock.value:.0f}"
        )
    if rates.core.assumed:
        outcome.widened["a core whose rates are assumed"] = _UNLIKE
    if factors.spread > 1:
        outcome.widened[f"{engine} instead of TensorFlow Lite"] = factors.spread
        outcome.sources.append(f"{engine} over LiteRT: {factors.source}")
    outcome.sources += _cpu_sources(profile, rates)
    return outcome


def _cpu_sources(profile: Profile, rates: CpuRates) -> list[str]:
    """Where the rates are from that the profile does not have."""
    lines = [f"rates of the {profile.cpu.model.value if profile.cpu else ''}: {rates.core.source}"]
    if profile.memory is not None and profile.memory.bandwidth_peak_gbs.value is None:
        lines.append(f"memory of {profile.title}: {read_rates().memory_gbs[profile.name].source}")
    return lines


def _gpu_sources(gpu: Accelerator) -> list[str]:
    """How the rates were found that the profile does not have."""
    ratios = read_rates().gpu
    lines = []
    if gpu.fp16_gflops.value is None:
        lines.append(f"fp16 rate, from that of int8: {ratios.fp16_over_int8.source}")
    if gpu.fp32_gflops.value is None:
        lines.append(f"fp32 rate, from that of fp16: {ratios.fp32_over_fp16.source}")
    return lines


def _int8_peak(gpu: Accelerator) -> str:
    """The rate that the others are derived from, with what its profile has to say about it."""
    dense, sparse = gpu.int8_tops_dense, gpu.int8_tops_sparse
    said = [dense.note, sparse.note if dense.derived else None]
    notes = "; ".join(note for note in said if note)
    return f"all rates from {dense.value} TOPS in int8" + (f" ({notes})" if notes else "")


def _cpu_error(profile: Profile) -> Errors:
    """The error on processors of its kind: no x86 was fitted, but one was held against the fit."""
    fitted = read_fitted()
    if profile.software.architecture.value == "x86_64":
        return fitted.held_out[_X86]
    return fitted.cpu.error_for(profile.name)


def _add_instructions(outcome: Outcome, request: Request, rates: CpuRates) -> None:
    """A second estimate from counted instructions, where their cycles are known."""
    instructions, cpu = request.instructions, request.profile.cpu
    if instructions is None or cpu is None or cpu.model.value is None:
        return
    arrays, efficiency = CostArrays.of(request.cost), read_fitted().cpu.efficiency
    one, several = (cpu_seconds(arrays, rates, efficiency, threads) for threads in (1, request.threads))
    try:
        cycles = cycles_per_instruction(cpu.model.value, request.cost.arithmetic)
    except Unpredictable as why:
        outcome.notes.append(
            f"{instructions / 1e6:,.0f} million instructions were counted, and not used: {why}"
        )
        return
    outcome.estimates.append(
        Estimate(
            method="instructions",
            ms=1e3 * instructions * cycles / rates.clock_hz * several / one,
            detail=f"{instructions / 1e6:,.1f} million instructions, {cycles:.2f} cycles each",
        )
    )
    outcome.sources.append("instructions: counted under emulation; cycles: from published latencies")


def predict_on_gpu(request: Request) -> Outcome:
    """A GPU with TensorRT, through the roofline of each operator."""
    cost, profile = request.cost, request.profile
    fit = read_fitted().gpu
    operators = _operators(cost, "gpu", gpu_ceilings(gpu_rates(profile), fit.efficiency), 1.0)
    outcome = Outcome(
        estimates=[_roofline(operators)],
        error=fit.error_for(profile.name),
        operators=operators,
        sources=_cited("gpu"),
    )
    if profile.name not in fit.devices:
        outcome.notes.append(_from_others("GPU", profile, fit.devices))
        outcome.widened["another GPU"] = _UNLIKE
    gpu = next(unit for unit in profile.accelerators if unit.kind == "gpu")
    outcome.sources += _gpu_sources(gpu)
    if gpu.fp16_gflops.value is None:
        outcome.notes.append(_int8_peak(gpu))
    return outcome


def predict_on_tpu(request: Request) -> Outcome:
    """An Edge TPU: what its compiler would map runs there, the rest on its host's processor."""
    path, cost, profile = request.path, request.cost, request.profile
    if cost.arithmetic != "int8":
        raise Unpredictable("the Edge TPU computes in int8 alone: export with --int8")
    fit = read_fitted().tpu
    report = coral_report(path)
    mapped = {one.index for one in report.operators if one.mapped}
    if not mapped:
        raise Unpredictable("the Edge TPU would map none of its operators: see `inspect --target coral`")
    summary = report.summary
    rest = [one for one in cost.operators if one.index not in mapped]
    rates = tpu_rates(profile)
    on_tpu = 1e3 * tpu_seconds(
        2.0 * summary.macs_tpu,
        summary.memory.parameters_tpu,
        crossing_bytes(read_tflite(path), mapped),
        rates,
        fit.efficiency,
    )
    outcome = Outcome(
        estimates=[],
        error=fit.error_for(profile.name),
        widened={"networks unlike the published ones": _UNLIKE},
        operators=counted_operators(cost, "tpu"),
        notes=[f"on the Edge TPU {summary.mapped} of {summary.operators} operators, {on_tpu:.1f} ms"],
        sources=[
            *_cited("tpu"),
            f"link of the {profile.title}: {read_rates().link_mbs[profile.name].source}",
            "mapping: the compiler's documented rules, see `inspect --target coral`",
        ],
    )
    on_host = _on_host(rest, request, outcome) if rest else 0.0
    outcome.estimates.append(
        Estimate(
            method="roofline",
            ms=on_tpu + on_host,
            detail="Edge TPU: one invocation, its link, its arithmetic"
            + ("; the host after it" if rest else ""),
        )
    )
    return outcome


def crossing_bytes(file: TfliteFile, mapped: Collection[int]) -> int:
    """Bytes over an Edge TPU's link for one inference: what its operators read and others wrote, and back."""
    inside = [operator for operator in file.operators if operator.index in mapped]
    outside = [operator for operator in file.operators if operator.index not in mapped]
    written = {tensor for operator in inside for tensor in operator.outputs}
    read = {tensor for operator in inside for tensor in operator.inputs} - written - {ABSENT}
    wanted = {tensor for operator in outside for tensor in operator.inputs} | set(file.outputs)
    there = [file.tensors[index] for index in read]
    back = [file.tensors[index] for index in written & wanted - {ABSENT}]
    return sum(tensor.nbytes for tensor in (*there, *back) if not tensor.is_constant)


def _on_host(rest: Sequence[OperatorCost], request: Request, outcome: Outcome) -> float:
    """Milliseconds of what the host has to run, with a note on which host that is."""
    cost, profile = request.cost, request.profile
    host = profile
    if profile.cpu is None:
        host = shipped_profile(ASSUMED_HOST)
        outcome.widened["another host"] = _SOME_HOST
    fit = read_fitted().cpu
    rates = cpu_rates(host)
    ceilings = cpu_ceilings(rates, fit.efficiency, request.threads)
    left = _operators(cost.model_copy(update={"operators": tuple(rest)}), "cpu", ceilings, 1.0)
    on_host = sum(operator.ms or 0.0 for operator in left)
    moved = {operator.index: operator for operator in left}
    outcome.operators = tuple(moved.get(operator.index, operator) for operator in outcome.operators)
    outcome.notes.append(
        f"on the host's processor {len(rest)} operators, {on_host:.1f} ms"
        + (f", if it is a {host.title}" if host is not profile else "")
    )
    outcome.sources += [*_cited("cpu"), *_cpu_sources(host, rates)]
    return on_host


def _operators(
    cost: NetworkCost, unit: Unit, ceilings: Ceilings, factor: float
) -> tuple[OperatorPrediction, ...]:
    arrays = CostArrays.of(cost)
    seconds, bounds = operator_seconds(arrays, ceilings) * factor, operator_bounds(arrays, ceilings)
    return tuple(
        counted.model_copy(update={"ms": 1e3 * float(one), "bound": bound})
        for counted, one, bound in zip(counted_operators(cost, unit), seconds, bounds, strict=True)
    )


def counted_operators(cost: NetworkCost, unit: Unit) -> tuple[OperatorPrediction, ...]:
    """The operators' costs without times."""
    return tuple(
        OperatorPrediction(
            index=one.index,
            name=one.name,
            op=one.op,
            kind=one.kind,
            arithmetic=one.arithmetic,
            unit=unit,
            macs=one.macs,
            bytes_moved=one.bytes_moved,
            intensity=one.intensity,
            ms=None,
            bound=None,
        )
        for one in cost.operators
    )


def _roofline(operators: Sequence[OperatorPrediction]) -> Estimate:
    total = sum(operator.ms or 0.0 for operator in operators)
    return Estimate(
        method="roofline", ms=total, detail="sum over operators of the longer of arithmetic and traffic"
    )


def _cited(unit: Unit) -> list[str]:
    published = read_latencies()
    used = dict.fromkeys(one.source for one in published.latencies if one.unit == unit)
    return [f"fitted on {published.sources[key].title}" for key in used]


def _from_others(unit: str, profile: Profile, devices: Sequence[str]) -> str:
    others = ", ".join(devices)
    return f"no published figure of the {unit} of {profile.title}: its efficiency is taken from {others}"
