"""A bundle of integer artifacts of a random NanoNet-C, 64x64, made without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nanonet_edge.bundle import Bundle
from nanonet_edge.checkpoint import save_checkpoint
from nanonet_edge.export.calibration import Calibration, calibrate
from nanonet_edge.export.writers import ArtifactWriter, Boundary
from nanonet_edge.graph import Graph, Node
from nanonet_edge.interpreter import evaluate
from nanonet_edge.manifest import (
    MANIFEST_NAME,
    GoldenRecord,
    Manifest,
    WeightsRecord,
    record_file,
)
from nanonet_edge.variants import Format, Head, Precision, Topology
from tests.export.networks import (
    SIZE,
    calibrated,
    calibration_frames,
    expected,
    frame,
    network,
    rewritten,
    tensor,
)

INT8 = Precision.STATIC_WI8_AI8


def small_graph() -> Graph:
    """Eight layers of every kind that a NanoNet has, for 64x64, with random weights."""
    rng = np.random.default_rng(4)

    def kernel(*shape: int) -> dict[str, npt.NDArray[np.float32]]:
        spread = np.sqrt(2 / np.prod(shape[:3])) if shape[3] > 1 else 0.5
        return {
            "kernel": rng.normal(0, spread, shape).astype(np.float32),
            "bias": rng.normal(0, 0.1, shape[3] if shape[3] > 1 else shape[2]).astype(np.float32),
        }

    head = kernel(1, 1, 8, 1)
    nodes = (
        Node("image", "input", attributes={"size": SIZE, "channels": 3}),
        Node("first", "conv2d", ("image",), kernel(3, 3, 3, 8), {"strides": 2, "activation": "relu6"}),
        Node("deep", "depthwise_conv2d", ("first",), kernel(3, 3, 8, 1), {"activation": "relu"}),
        Node("point", "conv2d", ("deep",), kernel(1, 1, 8, 8)),
        Node("sum", "add", ("point", "first"), attributes={"activation": "relu"}),
        Node("squeeze", "global_mean", ("sum",), attributes={"keepdims": True}),
        Node("gate", "sigmoid", ("squeeze",)),
        Node("scale", "multiply", ("sum", "gate")),
        Node("up", "upsample_bilinear", ("scale",)),
        Node("head", "conv2d", ("up",), {"kernel": head["kernel"], "bias": np.zeros(1, np.float32)}),
        Node("probability", "sigmoid", ("head",)),
    )
    graph = Graph(nodes, "probability")
    logits = evaluate(Graph(nodes[:-1], "head"), tensor(frame(0)))
    weights = {"kernel": head["kernel"], "bias": -np.median(logits, keepdims=True)[0, 0, 0]}
    changed = (node.but(weights=weights) if node.name == "head" else node for node in graph)
    return Graph(tuple(changed), graph.output)


def write_file(folder: Path, file_format: Format, widened: Mapping[str, float] | None = None) -> Path:
    """A static int8 file of the small graph, without a manifest."""
    folder.mkdir(parents=True)
    graph = small_graph()
    calibration = calibrate(graph, calibration_frames(2), "min-max", "nearest")
    writer = ArtifactWriter(folder, "small", graph, (), _spoilt(calibration, widened), Boundary())
    return folder / writer.write(file_format, INT8).files[0].path


def _spoilt(calibration: Calibration, widened: Mapping[str, float] | None) -> Calibration:
    ranges = dict(calibration.ranges)
    for name, factor in (widened or {}).items():
        ranges[name] = (ranges[name][0] * factor, ranges[name][1] * factor)
    return replace(calibration, ranges=ranges)


def write_bundle(
    root: Path,
    formats: tuple[Format, ...] = tuple(Format),
    *,
    precisions: tuple[Precision, ...] = (INT8,),
    boundary: Boundary | None = None,
    widened: Mapping[str, float] | None = None,
    floats: frozenset[str] = frozenset(),
) -> Bundle:
    """Write and open it; `widened` multiplies the ranges of some tensors, which spoils them."""
    root.mkdir(parents=True)
    calibration = _spoilt(calibrated(), widened)
    rewriting = rewritten()
    writer = ArtifactWriter(
        root, "nanonet-c", rewriting.graph, rewriting.applied, calibration, boundary or Boundary(), floats
    )
    artifacts = tuple(writer.write(each, precision) for each in formats for precision in precisions)
    save_checkpoint(network(), root / "weights.h5", "made by the tests")
    frames = np.stack([frame(index) for index in range(2)])
    probability = np.stack([expected(rewriting.graph, each) for each in frames])
    np.savez_compressed(root / "golden.npz", frames=frames, probability=probability)
    weights = record_file(root / "weights.h5", root)
    manifest = Manifest(
        name="nanonet-c",
        created="2024-01-01T00:00:00+00:00",
        variant="c",
        topology=Topology.RELEASED,
        classes=1,
        size=SIZE,
        head=Head.PROBABILITY,
        weights=WeightsRecord(file=weights, sha256=weights.sha256, origin="made by the tests", parameters=1),
        golden=GoldenRecord(file=record_file(root / "golden.npz", root), count=2, source="generated"),
        artifacts=artifacts,
        versions={},
    )
    (root / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return Bundle.open(root)
