"""Which layers stay in float, so that the rest in integers keeps the mask.

First the cost of each rounding: the mean Dice that comes back if a layer alone is relieved of it.
A rounding is spared in a file only if the layer that gives a tensor and all that read it are in
float, so layers enter together with their readers, in the order of that ranking. Bisection finds how
many roundings must go; then every layer is tried in integers again, those with the most
multiply-accumulates first.

Trials are simulated in fp32 by onnxruntime, on the model that will be written, and kept in a
journal: a search that was killed goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from nanonet_edge import masks
from nanonet_edge.atomic import write_text
from nanonet_edge.contract import PROBABILITY_THRESHOLD, OutputContract, to_mask
from nanonet_edge.export.mixed_graph import Floats, MixedGraph
from nanonet_edge.export.mixed_limits import FileLimits
from nanonet_edge.export.mixed_writers import build_mixed_onnx
from nanonet_edge.export.onnx_graph import INPUT_NAME, build_onnx
from nanonet_edge.export.quantization import as_uint8, plan_activations
from nanonet_edge.extras import require
from nanonet_edge.manifest import Record

JOURNAL_NAME: Final = "mixed.json"
DEFAULT_MIN_DICE: Final = 0.99
DEFAULT_TRIALS: Final = 16

Tensor = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Progress = Callable[[str, int, int], None]


class Trial(Record):
    """The mean Dice of one assignment against the float graph's masks.

    `relief`: the roundings of the layers in `floats` are left out for all their readers, which is a
    measure and not a file; `file`: as the file would compute.
    """

    kind: Literal["relief", "file"]
    floats: tuple[str, ...]
    mean_dice: float


class MixedResult(Record):
    """`mixed.json`: what was tried and what came of it; `result` is None until it is known.

    `key` is a digest of all that the trials depend on. `ranking` lists the layers by what their
    rounding costs (none where no layer need be in float), `floats` of the result in the graph's order.
    """

    schema_version: Literal[1] = 1
    kind: Literal["mixed"] = "mixed"
    obtained: Literal["predicted"] = "predicted"
    key: str
    min_dice: float
    frames: int
    layers: tuple[str, ...]
    ranking: tuple[str, ...] = ()
    result: Trial | None = None
    trials: tuple[Trial, ...] = ()


class MixedJudge:
    """Simulates assignments on frames.

    Args:
        graph: of both kinds.
        tensors: inputs, (1, H, W, 3) float32 in [0, 1].
        threads: of onnxruntime; 0 lets it choose.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """

    def __init__(self, graph: MixedGraph, tensors: Sequence[Tensor], threads: int = 0) -> None:
        self._graph, self._tensors, self._threads = graph, tensors, threads
        exact = graph.exact
        self._gives = OutputContract(
            name=exact.output,
            shape=(1, exact.classes, exact.size, exact.size),
            layout="nchw",
            classes=exact.classes,
            threshold=PROBABILITY_THRESHOLD if exact.classes == 1 else None,
        )
        self._references = self._labels(build_onnx(exact))

    def mean_dice(self, floats: Floats, *, relieved: bool = False) -> float:
        """Agreement of an assignment with the float graph; see `Trial` for `relieved`."""
        graph = self._graph.assigned(floats)
        plan = as_uint8(plan_activations(graph, self._graph.calibration.ranges))
        model = build_mixed_onnx(graph, plan, floats, relieved=relieved)
        pairs = zip(self._references, self._labels(model), strict=True)
        return float(np.mean([masks.overlap(reference, found).dice for reference, found in pairs]))

    def _labels(self, model: Any) -> list[Labels]:
        engine: Any = require("onnxruntime")
        options = engine.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        # Rounding is simulated in fp32: no engine's own way of rounding decides.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        session = engine.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        outputs = (session.run(None, {INPUT_NAME: tensor})[0] for tensor in self._tensors)
        return [to_mask(output, self._gives) for output in outputs]


class MixedSearch:
    """Finds the layers to keep in float.

    Args:
        graph: of both kinds.
        judge: gives an assignment's mean Dice; see `MixedJudge.mean_dice`.
        min_dice: to be reached.
        frames: how many the judge looks at.
        journal: file of trials; goes on with what is there for the same `key`.
        key: digest of all that trials depend on.
        progress: called with ("mixed", trials, an estimate of how many).
        limits: of the TFLite file; None sets none.
    """

    def __init__(
        self,
        graph: MixedGraph,
        judge: MixedJudge,
        *,
        min_dice: float,
        frames: int,
        journal: Path,
        key: str,
        progress: Progress,
        limits: FileLimits | None = None,
    ) -> None:
        self._limits = limits or FileLimits(graph)
        self._graph, self._judge, self._journal, self._progress = graph, judge, journal, progress
        self._state = MixedResult(key=key, min_dice=min_dice, frames=frames, layers=graph.layers)
        earlier = _read_journal(journal)
        if earlier is not None and (earlier.key, earlier.layers) == (key, graph.layers):
            self._state = self._state.model_copy(update={"trials": earlier.trials})
        self._known = {(t.kind, frozenset(t.floats)): t.mean_dice for t in self._state.trials}
        self._asked: set[tuple[str, Floats]] = set()

    def run(self) -> Trial:
        """Search, and write the journal as it goes; returns the assignment that was found."""
        floats: Floats = frozenset()
        ranking: tuple[str, ...] = ()
        if not self._reaches(floats):
            ranking = self._rank()
            floats = self._prune(self._grow(ranking))
            if not self._limits.admit(floats):
                floats = self._fill(ranking)
        order = tuple(name for name in self._graph.layers if name in floats)
        result = Trial(kind="file", floats=order, mean_dice=self._dice("file", floats))
        self._state = self._state.model_copy(update={"ranking": ranking, "result": result})
        self._save()
        return result

    def _rank(self) -> tuple[str, ...]:
        """Layers by the Dice that comes back without their rounding, the most first."""
        gains = {name: self._dice("relief", frozenset({name})) for name in self._graph.layers}
        return tuple(sorted(gains, key=lambda name: -gains[name]))

    def _grow(self, ranking: Sequence[str]) -> Floats:
        """A short head of the ranking whose roundings must go; without any rounding all is well.

        Heads of 1, 2, 4 ... are tried first: Dice does not rise steadily, and short ones are cheap.
        """
        short, enough = 0, 1
        while enough < len(ranking) and not self._reaches(self._graph.freed(ranking[:enough])):
            short, enough = enough, min(2 * enough, len(ranking))
        while enough - short > 1:
            middle = (short + enough) // 2
            if self._reaches(self._graph.freed(ranking[:middle])):
                enough = middle
            else:
                short = middle
        return self._graph.freed(ranking[:enough])

    def _prune(self, floats: Floats) -> Floats:
        """Put layers back into integers one by one, where the mask allows, the costly ones first."""
        work = self._graph.work()
        for name in sorted(floats, key=lambda one: (-work[one], one)):
            if self._reaches(fewer := floats - {name}):
                floats = fewer
        return floats

    def _fill(self, ranking: Sequence[str]) -> Floats:
        """Where what is needed does not fit: the longest head of the ranking that does."""
        heads = (self._graph.freed(ranking[:count]) for count in range(len(ranking), -1, -1))
        return next((floats for floats in heads if self._limits.admit(floats)), frozenset())

    def _reaches(self, floats: Floats) -> bool:
        return self._dice("file", floats) >= self._state.min_dice

    def _dice(self, kind: Literal["relief", "file"], floats: Floats) -> float:
        key = (kind, floats)
        if key not in self._known:
            self._known[key] = self._judge.mean_dice(floats, relieved=kind == "relief")
            trial = Trial(kind=kind, floats=tuple(sorted(floats)), mean_dice=self._known[key])
            self._state = self._state.model_copy(update={"trials": (*self._state.trials, trial)})
            self._save()
        self._asked.add(key)
        total = len(self._graph.layers) + 20
        self._progress("mixed", len(self._asked), max(total, len(self._asked)))
        return self._known[key]

    def _save(self) -> None:
        write_text(self._journal, self._state.model_dump_json(indent=1) + "\n")


def _read_journal(path: Path) -> MixedResult | None:
    """What an earlier search left; a journal that cannot be read is none."""
    try:
        return MixedResult.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
