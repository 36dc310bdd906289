"""Calibration: rounded weights and activation ranges from a set of frames, or from a recording."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from nanonet_edge import atomic
from nanonet_edge.contract import InputContract, preprocess
from nanonet_edge.errors import CalibrationError
from nanonet_edge.export.observe import Observer, Tensor
from nanonet_edge.export.preparation import channel_sizes, choose_factors, linear_groups
from nanonet_edge.export.quantization import Ranges, quantize_weights
from nanonet_edge.export.ranges import Method, find_ranges
from nanonet_edge.export.rounding import MomentCollector, round_weights
from nanonet_edge.graph import CONVOLUTIONS, Graph, Node
from nanonet_edge.manifest import CalibrationRecord
from nanonet_edge.passes.channels import Factors, ScaleChannels

Frame = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int], None]

Rounding = Literal["compensated", "nearest"]

_FORMAT = 2
_FACTORS = "/factors"


@dataclass(frozen=True)
class CalibrationFrames:
    """Frames to calibrate with, read when they are needed and never all at once.

    Attributes:
        count: how many.
        read: gives frame `i` as (H, W, 3) uint8 BGR.
        source, digest, seed, detail: see `CalibrationRecord`.
    """

    count: int
    read: Callable[[int], Frame]
    source: Literal["images", "generated"]
    digest: str
    seed: int | None = None
    detail: str = ""

    def tensors(self, contract: InputContract) -> Iterator[Tensor]:
        """Each frame as the network takes it, through the code that inference uses."""
        return (preprocess(self.read(index), contract) for index in range(self.count))


@dataclass(frozen=True)
class Calibration:
    """What a static precision needs besides the graph.

    Attributes:
        prepared: the rewritten graph with scaled channels; in floating point the same function.
        graph: that graph with rounded weights; see `round_weights`.
        ranges: of its tensors.
        record: where they came from.
        factors: by which channels were scaled; see `ScaleChannels`.
    """

    prepared: Graph
    graph: Graph
    ranges: Ranges
    record: CalibrationRecord
    factors: Factors = field(default_factory=dict)

    @property
    def passes(self) -> tuple[str, ...]:
        """The names of the passes behind `prepared`."""
        return (ScaleChannels.name,) if self.factors else ()


def input_contract(graph: Graph) -> InputContract:
    """What a graph takes before an artifact's boundary changes it: (1, size, size, 3) float32 BGR."""
    return InputContract(name=graph.input.name, shape=(1, graph.size, graph.size, 3))


def calibrate(
    graph: Graph,
    frames: CalibrationFrames,
    method: Method = "mse",
    rounding: Rounding = "compensated",
    progress: Progress | None = None,
    *,
    prepares: bool = True,
) -> Calibration:
    """Prepare a rewritten graph, round its weights and find the ranges of its tensors.

    Args:
        graph: rewritten.
        frames: to look at.
        method: how ranges are chosen.
        rounding: "compensated" (see `rounding`), or "nearest" for comparison.
        progress: called with ("calibrate", done, total).
        prepares: bring channels to like ranges first; see `preparation`.

    Raises:
        CalibrationError: there are no frames, or a tensor is not finite.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    contract = input_contract(graph)
    rounds = rounding == "compensated"
    total = frames.count * (prepares + rounds + (1 if method == "min-max" else 2))
    done = 0

    def tensors() -> Iterator[Tensor]:
        nonlocal done
        for tensor in frames.tensors(contract):
            yield tensor
            done += 1
            if progress is not None:
                progress("calibrate", done, total)

    if not frames.count:
        raise CalibrationError("calibration: expected at least one frame, found none")
    factors: Factors = {}
    if prepares:
        names = [name for group in linear_groups(graph) for name in group]
        factors = choose_factors(graph, channel_sizes(graph, tensors(), names))
    prepared = rounded = ScaleChannels(factors).run(graph).graph
    if rounds:
        collector = MomentCollector(prepared)
        for values in Observer(prepared)(tensors()):
            collector.add(values)
        rounded = round_weights(prepared, collector.moments())
    record = CalibrationRecord(
        source=frames.source,
        count=frames.count,
        digest=frames.digest,
        method=method,
        rounding=rounding,
        seed=frames.seed,
        detail=frames.detail,
    )
    return Calibration(prepared, rounded, find_ranges(rounded, tensors, method), record, factors)


def save_calibration(calibration: Calibration, path: Path, weights_sha256: str) -> None:
    """Record a calibration beside weights: integers, scales, biases and ranges; no pixels."""
    arrays: dict[str, Any] = {}
    for node in calibration.graph:
        if node.op in CONVOLUTIONS:
            weights = quantize_weights(node)
            arrays[f"{node.name}/kernel"] = weights.kernel
            arrays[f"{node.name}/scales"] = weights.scales
            arrays[f"{node.name}/bias"] = node.bias
    arrays |= {f"{name}{_FACTORS}": array for name, array in calibration.factors.items()}
    arrays["ranges"] = np.array([calibration.ranges[node.name] for node in calibration.graph], np.float64)
    header = {
        "format": _FORMAT,
        "weights_sha256": weights_sha256,
        "size": calibration.graph.size,
        "tensors": [node.name for node in calibration.graph],
        "record": calibration.record.model_dump(mode="json"),
    }
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    atomic.write_bytes(path, buffer.getvalue())


def load_calibration(path: Path, graph: Graph, weights_sha256: str) -> Calibration | None:
    """Read a recorded calibration, if it was recorded for this very graph.

    Returns:
        None where the recording is for other weights, another input size or other rewrites.

    Raises:
        CalibrationError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            header = json.loads(bytes(data["header"]))
            names = [node.name for node in graph]
            ours = (_FORMAT, weights_sha256, graph.size, names)
            if (header["format"], header["weights_sha256"], header["size"], header["tensors"]) != ours:
                return None
            recorded = [name for name in data.files if name.endswith(_FACTORS)]
            factors = {name.removesuffix(_FACTORS): data[name] for name in recorded}
            prepared = ScaleChannels(factors).run(graph).graph
            nodes = [_restore(node, data) if node.op in CONVOLUTIONS else node for node in prepared]
            ranges = dict(zip(names, map(tuple, data["ranges"].tolist()), strict=True))
            record = CalibrationRecord.model_validate({**header["record"], "source": "recorded"})
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error) as error:
        raise CalibrationError(
            f"{path}: expected a recorded calibration, found a damaged file ({error})"
        ) from None
    return Calibration(prepared, Graph(tuple(nodes), graph.output), ranges, record, factors)


def _restore(node: Node, data: Mapping[str, npt.NDArray[Any]]) -> Node:
    kernel, scales = data[f"{node.name}/kernel"], data[f"{node.name}/scales"].astype(np.float64)
    if kernel.shape != node.weights["kernel"].shape or kernel.dtype != np.int8:
        raise ValueError(f"kernel of '{node.name}' has shape {kernel.shape} and dtype {kernel.dtype}")
    per_channel = scales.reshape(kernel.shape[2:]) if node.op == "depthwise_conv2d" else scales
    weights = {"kernel": (kernel * per_channel).astype(np.float32), "bias": data[f"{node.name}/bias"]}
    return node.but(weights=weights, attributes={**node.attributes, "kernel_scales": scales})
