"""Random networks with the statistics of trained ones, their calibrations and their artifacts.

Everything is made once per test run and shared: graphs and artifacts are immutable.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.bundle import Artifact
from nanonet_edge.contract import InputContract, preprocess
from nanonet_edge.export.calibration import Calibration, CalibrationFrames, calibrate
from nanonet_edge.export.writers import ArtifactWriter, Boundary
from nanonet_edge.graph import Graph, Node
from nanonet_edge.interpreter import evaluate
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.passes import Rewritten, rewrite
from nanonet_edge.phantom import draw_frame
from nanonet_edge.variants import Format, Precision, Topology, get_variant

Frame = npt.NDArray[np.uint8]
Tensor = npt.NDArray[np.float32]

SIZE = 64
#: Frames that judge are none of those that calibrate.
CALIBRATION_COUNT = 8
JUDGES = range(100, 102)
VARIANTS = ("a", "b", "c")


@cache
def frame(index: int, size: int = SIZE) -> Frame:
    return draw_frame(index, size, seed=1)[0]


def judges() -> list[Frame]:
    return [frame(index) for index in JUDGES]


def tensor(image: Frame, size: int = SIZE) -> Tensor:
    """A frame as the float network takes it: (1, size, size, 3) float32 in [0, 1]."""
    return preprocess(image, InputContract(name="input", shape=(1, size, size, 3)))


def network(variant: str = "c", classes: int = 1, topology: Topology = Topology.RELEASED) -> Graph:
    """The unrewritten network with random weights, whose masks have every label."""
    return _network(variant, classes, topology)


@cache
def _network(variant: str, classes: int, topology: Topology) -> Graph:
    graph = build_network(get_variant(variant), topology, size=SIZE, classes=classes, fill=random_fill(5))
    head = graph["head"]
    kernel = 3 * head.weights["kernel"]
    graph = with_weights(graph, {"head": {"kernel": kernel, "bias": np.zeros(classes)}})
    logits = evaluate(Graph(graph.nodes, "head"), tensor(frame(0)))
    return with_weights(graph, {"head": {"bias": -np.median(logits, axis=(0, 1, 2))}})


def rewritten(variant: str = "c", classes: int = 1, topology: Topology = Topology.RELEASED) -> Rewritten:
    return _rewritten(variant, classes, topology)


@cache
def _rewritten(variant: str, classes: int, topology: Topology) -> Rewritten:
    return rewrite(network(variant, classes, topology))


def calibration_frames(count: int = CALIBRATION_COUNT) -> CalibrationFrames:
    return CalibrationFrames(count, frame, "generated", "0" * 64, seed=1)


def calibrated(variant: str = "c", classes: int = 1) -> Calibration:
    return _calibrated(variant, classes)


@cache
def _calibrated(variant: str, classes: int) -> Calibration:
    return calibrate(rewritten(variant, classes).graph, calibration_frames(), "min-max")


def expected(graph: Graph, image: Frame) -> Tensor:
    """What the NumPy interpreter answers: (H, W, classes)."""
    return evaluate(graph, tensor(image, graph.size))[0]


class Shelf:
    """Artifacts by what they are; each is written when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[tuple[Any, ...], Artifact] = {}

    def artifact(
        self,
        file_format: Format,
        precision: Precision,
        *,
        variant: str = "c",
        classes: int = 1,
        boundary: Boundary | None = None,
    ) -> Artifact:
        """An artifact of a random network."""
        key = (file_format, precision, variant, classes, boundary)
        if key not in self._made:
            rewriting = rewritten(variant, classes)
            needs = precision not in (Precision.FP32, Precision.FP16)
            calibration = calibrated(variant, classes) if needs else None
            self._made[key] = self.write(rewriting, calibration, file_format, precision, boundary)
        return self._made[key]

    def write(
        self,
        rewriting: Rewritten,
        calibration: Calibration | None,
        file_format: Format,
        precision: Precision,
        boundary: Boundary | None = None,
    ) -> Artifact:
        """An artifact of any rewritten graph, in a folder of its own."""
        folder = self._root / f"{len(list(self._root.iterdir()))}"
        folder.mkdir()
        writer = ArtifactWriter(
            folder, "nanonet", rewriting.graph, rewriting.applied, calibration, boundary or Boundary()
        )
        record = writer.write(file_format, precision)
        return Artifact(folder / record.files[0].path, record, "0" * 64)


def with_weights(graph: Graph, changes: Mapping[str, Mapping[str, npt.ArrayLike]]) -> Graph:
    """The graph with some arrays replaced: node name -> weight name -> array."""

    def changed(node: Node) -> Node:
        given = {name: np.asarray(array, np.float32) for name, array in changes.get(node.name, {}).items()}
        return node.but(weights={**node.weights, **given}) if given else node

    unknown = changes.keys() - {node.name for node in graph}
    assert not unknown, unknown
    return Graph(tuple(changed(node) for node in graph), graph.output)
