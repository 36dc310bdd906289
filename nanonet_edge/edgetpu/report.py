"""The Coral report: which operators of a `.tflite` file would run on the Edge TPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from nanonet_edge.edgetpu.log import CompilerLog
from nanonet_edge.edgetpu.rules import MAPPED, SUBGRAPH, Verdict, judge
from nanonet_edge.manifest import Record
from nanonet_edge.tflite_cost import multiply_accumulates, parameter_bytes, parameters, peak_activations
from nanonet_edge.tflite_file import Operator, TfliteFile, read_tflite

REPORT_SCHEMA_VERSION: Final = 1

#: Static memory of the Edge TPU (coral.ai/docs/edgetpu/compiler). The compiler's logs show 6.3
#: to 7.9 MiB of it left for parameters once the program and activations have their share.
ON_CHIP_BYTES = 8 << 20

#: In the place of a status, where a log has fewer operators of a name than the file.
UNMENTIONED = "not mentioned in the compiler's log"


class MappedOperator(Record):
    """One operator: `reason` is the compiler's wording, `detail` what it refers to here."""

    index: int
    name: str
    version: int
    mapped: bool
    reason: str
    detail: str
    macs: int
    parameters: int


class EndOfSubgraph(Record):
    """The first operator that the CPU must take over at, and why."""

    index: int
    name: str
    reason: str
    detail: str


class MemoryUse(Record):
    """Bytes against those on the chip.

    `parameters_tpu` of the mapped operators, `parameters_cpu` of the others;
    `activations_tpu` is the most alive at once on the Edge TPU, while `at_operator` runs.
    What does not fit is fetched from the host again for every inference.
    """

    on_chip: int
    parameters_tpu: int
    parameters_cpu: int
    activations_tpu: int
    at_operator: int | None
    parameters_fit: bool
    everything_fits: bool


class Summary(Record):
    """`share_macs_tpu` and `share_macs_cpu` add up to 1; both are None without any MACs."""

    operators: int
    mapped: int
    on_cpu: int
    macs_tpu: int
    macs_cpu: int
    share_macs_tpu: float | None
    share_macs_cpu: float | None
    ended_by: EndOfSubgraph | None
    subgraphs_in_file: int
    memory: MemoryUse


class CoralReport(Record):
    """What the Edge TPU compiler does with a file.

    `obtained` is "predicted" from its documented rules, or "measured": then the mapping is that of
    `compiler`, its own log. Memory use is always predicted; the log has the compiler's figures.
    """

    schema_version: Literal[1] = REPORT_SCHEMA_VERSION
    target: Literal["coral"] = "coral"
    obtained: Literal["predicted", "measured"] = "predicted"
    file: str
    compiler: CompilerLog | None = None
    operators: tuple[MappedOperator, ...] = Field(default=())
    summary: Summary


def coral_report(path: Path) -> CoralReport:
    """Report which operators of a `.tflite` file the Edge TPU compiler would map.

    Raises:
        InputError: the file is no TFLite model, or damaged.
        MissingExtraError: ai-edge-litert is not installed.
    """
    return _predict(read_tflite(path))


def _predict(file: TfliteFile) -> CoralReport:
    verdicts = [judge(file, operator) for operator in file.operators]
    mapped = first_subgraph(file.operators, [verdict.is_supported for verdict in verdicts])
    operators = tuple(
        _mapped_operator(file, operator, verdict, operator.index in mapped)
        for operator, verdict in zip(file.operators, verdicts, strict=True)
    )
    return CoralReport(file=str(file.path), operators=operators, summary=_summary(file, operators))


def compiled_report(path: Path, log: CompilerLog) -> CoralReport:
    """Report what the compiler's log says of a `.tflite` file.

    The log counts operators by name and status. Where those of one name differ, the ones that were
    expected to have a status are taken to have it, then the others in their order.

    Raises:
        InputError, MissingExtraError: as `coral_report`.
    """
    file = read_tflite(path)
    predicted = _predict(file)
    left: Counter[tuple[str, str]] = Counter()
    for count in log.counts:
        left[count.name, count.status] += count.count
    found: dict[int, str] = {}
    for operator in predicted.operators:
        if left[operator.name, operator.reason] > 0:
            left[operator.name, operator.reason] -= 1
            found[operator.index] = operator.reason
    for operator in predicted.operators:
        if operator.index not in found:
            statuses = (status for (name, status), n in left.items() if name == operator.name and n > 0)
            found[operator.index] = next(statuses, UNMENTIONED)
            left[operator.name, found[operator.index]] -= 1
    operators = tuple(
        operator.model_copy(
            update={
                "mapped": found[operator.index] == MAPPED,
                "reason": found[operator.index],
                "detail": operator.detail if found[operator.index] == operator.reason else "",
            }
        )
        for operator in predicted.operators
    )
    summary = _summary(file, operators)
    return predicted.model_copy(
        update={"obtained": "measured", "compiler": log, "operators": operators, "summary": summary}
    )


def first_subgraph(operators: Sequence[Operator], supported: Sequence[bool]) -> frozenset[int]:
    """Indices of the operators of the only subgraph that the compiler maps.

    The compiler is a TensorFlow Lite delegate (its error "Restored original execution plan
    after delegate application failure" is the runtime's), so the runtime partitions the graph:
    supported and other operators take turns, each as far as the tensors that are ready reach. Of
    the parts that this gives the first supported one is mapped. Operators before it that cannot
    be mapped, such as the QUANTIZE of a float input, do not end it.
    """
    writer = {tensor: op.index for op in operators for tensor in op.outputs}
    done: set[int] = set()

    def run(kind: bool) -> set[int]:
        part: set[int] = set()
        for operator in operators:  # in the order of execution: once through reaches everything
            needs = {writer[tensor] for tensor in operator.inputs if tensor in writer}
            if supported[operator.index] is kind and needs <= done | part:
                part.add(operator.index)
        return part

    if operators and not supported[0]:
        done = run(kind=False)
    return frozenset(run(kind=True))


def _mapped_operator(
    file: TfliteFile, operator: Operator, verdict: Verdict, is_mapped: bool
) -> MappedOperator:
    reason, detail = verdict.status, verdict.detail
    if verdict.is_supported and not is_mapped:
        reason, detail = SUBGRAPH, "it needs the result of an operator that is not mapped"
    return MappedOperator(
        index=operator.index,
        name=operator.name,
        version=operator.version,
        mapped=is_mapped,
        reason=MAPPED if is_mapped else reason,
        detail=detail,
        macs=multiply_accumulates(file, operator),
        parameters=parameters(file, operator),
    )


def _summary(file: TfliteFile, operators: tuple[MappedOperator, ...]) -> Summary:
    mapped = [operator for operator in operators if operator.mapped]
    tpu = sum(operator.macs for operator in mapped)
    total = sum(operator.macs for operator in operators)
    return Summary(
        operators=len(operators),
        mapped=len(mapped),
        on_cpu=len(operators) - len(mapped),
        macs_tpu=tpu,
        macs_cpu=total - tpu,
        share_macs_tpu=tpu / total if total else None,
        share_macs_cpu=(total - tpu) / total if total else None,
        ended_by=_end(operators),
        subgraphs_in_file=file.subgraphs,
        memory=_memory(file, operators),
    )


def _end(operators: tuple[MappedOperator, ...]) -> EndOfSubgraph | None:
    """The first unmapped operator once mapping has begun; if it never does, the first of all."""
    first = next((operator.index for operator in operators if operator.mapped), 0)
    ending = next((one for one in operators[first:] if not one.mapped), None)
    if ending is None:
        return None
    return EndOfSubgraph(index=ending.index, name=ending.name, reason=ending.reason, detail=ending.detail)


def _memory(file: TfliteFile, operators: tuple[MappedOperator, ...]) -> MemoryUse:
    tpu = [file.operators[operator.index] for operator in operators if operator.mapped]
    cpu = [file.operators[operator.index] for operator in operators if not operator.mapped]
    parameters_tpu = parameter_bytes(file, tpu)
    activations, at = peak_activations(file, tpu)
    return MemoryUse(
        on_chip=ON_CHIP_BYTES,
        parameters_tpu=parameters_tpu,
        parameters_cpu=parameter_bytes(file, cpu),
        activations_tpu=activations,
        at_operator=at,
        parameters_fit=parameters_tpu <= ON_CHIP_BYTES,
        everything_fits=parameters_tpu + activations <= ON_CHIP_BYTES,
    )
