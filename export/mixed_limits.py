"""What the TFLite file of a mixed assignment weighs, and how long LiteRT takes for it here."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, Final

from nanonet_edge.export.mixed_graph import Floats, MixedGraph
from nanonet_edge.extras import require
from nanonet_edge.quiet import captured_output

_WARM_UP_SECONDS: Final = 0.2
_WARM_UP_RUNS: Final = 5
_RUNS: Final = 50


@dataclass(frozen=True)
class FileLimits:
    """What the TFLite file may weigh and take; None sets no limit.

    Attributes:
        graph: with layers of both kinds.
        max_kib: size in KiB.
        max_ms: median time of an inference in LiteRT on one thread of this machine, in milliseconds.
    """

    graph: MixedGraph
    max_kib: float | None = None
    max_ms: float | None = None

    def admit(self, floats: Floats) -> bool:
        """Whether the file with these layers in float is within the limits.

        Raises:
            MissingExtraError: ai-edge-litert is not installed and there is a limit of time.
        """
        if self.max_kib is None and self.max_ms is None:
            return True
        model = self.graph.tflite(floats)
        if self.max_kib is not None and len(model) > 1024 * self.max_kib:
            return False
        return self.max_ms is None or inference_ms(model) <= self.max_ms

    def __str__(self) -> str:
        limits = ((self.max_kib, "KiB"), (self.max_ms, "ms"))
        return " and ".join(f"{limit:g} {unit}" for limit, unit in limits if limit is not None)


def inference_ms(model: bytes) -> float:
    """Median time of an inference in LiteRT on one thread, in milliseconds.

    After 0.2 seconds and 5 runs to warm up, of 50 runs: enough to choose by, not to report.
    """
    engine: Any = require("ai_edge_litert.interpreter")
    with captured_output():
        interpreter = engine.Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    start, runs = time.perf_counter(), 0
    while runs < _WARM_UP_RUNS or time.perf_counter() - start < _WARM_UP_SECONDS:
        interpreter.invoke()
        runs += 1
    samples = []
    for _ in range(_RUNS):
        begin = time.perf_counter_ns()
        interpreter.invoke()
        samples.append(time.perf_counter_ns() - begin)
    return statistics.median(samples) / 1e6
