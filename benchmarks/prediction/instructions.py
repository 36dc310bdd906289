"""Latency from counted instructions: instructions x cycles per instruction / clock.

Emulation counts instructions exactly; how many cycles one takes is known from published latencies.
One network is counted and published alike, MobileNetV2-1.0-224 in fp32 on the Cortex-A72 (on four
threads; what one thread takes follows from the fit). From there to int8, and to the Cortex-A76, the
published one-thread latencies of EfficientDet-Lite and the counts of NanoNet-A lead.
"""

from __future__ import annotations

from functools import cache
from math import exp, log
from pathlib import Path
from typing import Final, Literal

from pydantic import PositiveInt

from nanonet_edge.benchmarks.emulation.result import CountResult
from nanonet_edge.benchmarks.prediction.costs import Arithmetic
from nanonet_edge.benchmarks.prediction.fitted import read_fitted
from nanonet_edge.benchmarks.prediction.latencies import published_rates, read_latencies
from nanonet_edge.benchmarks.prediction.networks import NETWORKS
from nanonet_edge.benchmarks.prediction.rates import Unpredictable
from nanonet_edge.benchmarks.prediction.roofline import CostArrays, cpu_seconds
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.devices import Profile
from nanonet_edge.errors import InputError
from nanonet_edge.manifest import Record
from nanonet_edge.results import load_result
from nanonet_edge.variants import Format, Precision, Topology

_FILE = Path(__file__).with_name("instruction_counts.json")

_ANCHOR: Final = "MobileNetV2-1.0-224"
_ANCHOR_BOARD: Final = "raspberry-pi-4"
_BRIDGE: Final = "EfficientDet"
_BRIDGE_COUNT: Final = "NanoNet-A"
_COUNTED: Final[dict[Precision, Arithmetic]] = {Precision.FP32: "fp32", Precision.STATIC_WI8_AI8: "int8"}
_COUNTED_SIZE: Final = 256
#: Boards that have published one-thread figures of the bridge, by their core.
_BOARDS: Final = {"Cortex-A72": "raspberry-pi-4", "Cortex-A76": "raspberry-pi-5"}


class InstructionCount(Record):
    """Instructions of one inference on one core."""

    network: str
    arithmetic: Arithmetic
    core: str
    instructions: PositiveInt


class InstructionCounts(Record):
    """The whole of `instruction_counts.json`."""

    schema_version: Literal[1]
    source: str
    counts: tuple[InstructionCount, ...]

    def find(self, network: str, arithmetic: Arithmetic, core: str) -> int | None:
        """Instructions of that network, if they were counted."""
        wanted = (network, arithmetic, core)
        return next(
            (one.instructions for one in self.counts if (one.network, one.arithmetic, one.core) == wanted),
            None,
        )


@cache
def read_counts() -> InstructionCounts:
    """The counts that ship."""
    return InstructionCounts.model_validate_json(_FILE.read_text(encoding="utf-8"))


def load_counts(path: Path, profile: Profile, manifest_sha256: str | None = None) -> dict[str, int]:
    """Counts of `nanonet-edge emulate count` for a device: LiteRT's instructions by artifact.

    Raises:
        InputError: it is no such result, or was counted for another device, or for another bundle
            than the one whose manifest has that digest.
    """
    result = load_result(path, CountResult)
    if result.emulated.device != profile.name:
        raise InputError(f"{path}: expected counts for {profile.name}, found {result.emulated.device}")
    if manifest_sha256 not in (None, result.manifest_sha256):
        raise InputError(f"{path}: expected counts of this bundle, found those of another")
    rows = [row for row in result.rows if row.engine == "litert" and row.total is not None]
    return {row.artifact: row.total for row in rows if row.total is not None}


def shipped_count(bundle: Bundle, artifact: Artifact, profile: Profile) -> int | None:
    """The count that ships for an artifact, if it is a rewritten NanoNet as it was counted."""
    manifest, record = bundle.manifest, artifact.record
    arithmetic = _COUNTED.get(record.precision)
    core = None if profile.cpu is None else profile.cpu.model.value
    is_counted = (record.format, record.graph, manifest.size, manifest.topology, manifest.classes) == (
        Format.TFLITE,
        "rewritten",
        _COUNTED_SIZE,
        Topology.RELEASED,
        1,
    )
    if arithmetic is None or core is None or not is_counted:
        return None
    return read_counts().find(f"NanoNet-{manifest.variant.upper()}", arithmetic, core)


def cycles_per_instruction(core: str, arithmetic: Arithmetic) -> float:
    """Cycles that one instruction of LiteRT's kernels takes on average on one thread of a core.

    Raises:
        Unpredictable: no published figure leads there.
    """
    board, anchor_board = _BOARDS.get(core), _BOARDS["Cortex-A72"]
    counts = read_counts()
    counted = counts.find(_BRIDGE_COUNT, arithmetic, core)
    base = counts.find(_BRIDGE_COUNT, "fp32", "Cortex-A72")
    if board is None or counted is None or base is None:
        raise Unpredictable(f"no published figure tells the cycles per instruction of {arithmetic} on {core}")
    cycles = _bridge_seconds(board, arithmetic) * published_rates(board).clock_hz
    base_cycles = _bridge_seconds(anchor_board, "fp32") * published_rates(anchor_board).clock_hz
    return _anchor() * (cycles / base_cycles) / (counted / base)


@cache
def _anchor() -> float:
    """Cycles per instruction of MobileNetV2 in fp32 on one thread of a Cortex-A72."""
    published = next(
        one
        for one in read_latencies().latencies
        if (one.network, one.device, one.arithmetic) == (_ANCHOR, _ANCHOR_BOARD, "fp32")
    )
    counted = read_counts().find(_ANCHOR, "fp32", "Cortex-A72")
    if counted is None or published.threads is None:
        raise AssertionError(_ANCHOR)
    rates = published_rates(_ANCHOR_BOARD)
    costs = CostArrays.of(NETWORKS[_ANCHOR]().cost("fp32"))
    efficiency = read_fitted().cpu.efficiency
    one, all_threads = (cpu_seconds(costs, rates, efficiency, threads) for threads in (1, published.threads))
    return published.ms * 1e-3 * (one / all_threads) * rates.clock_hz / counted


@cache
def _bridge_seconds(board: str, arithmetic: Arithmetic) -> float:
    """Geometric mean of the published one-thread latencies of EfficientDet-Lite."""
    logs = [
        log(one.ms * 1e-3)
        for one in read_latencies().latencies
        if (one.family, one.device, one.arithmetic, one.threads) == (_BRIDGE, board, arithmetic, 1)
    ]
    return exp(sum(logs) / len(logs))
