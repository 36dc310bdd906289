"""The agent's measuring process, fresh for each pair of artifact and runtime. Python >= 3.9, NumPy, OpenCV.

It reads one pair as JSON from stdin, answers a line with the first inference's duration, and one with
all the figures, raw: nanoseconds and bytes. If stdin ends before that, so does the process. The order is
that of `nanonet_edge.benchmarks.worker`, and so is the code that times, that turns frames into masks, and
that reads memory.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import IO, Any

from nanonet_edge.benchmarks.memory import rise_above, take_baseline
from nanonet_edge.benchmarks.remote.agent_engines import engine_version, open_engine
from nanonet_edge.benchmarks.timing import run_until, timed, to_camera_size, warm_up
from nanonet_edge.pixels import preprocess, to_mask


def contract(fields: dict[str, Any]) -> Any:
    """A contract of the manifest, as `nanonet_edge.pixels` takes it."""
    shape = tuple(fields["shape"])
    size = shape[1:3] if fields["layout"] == "nhwc" else shape[2:4]
    return SimpleNamespace(**{**fields, "shape": shape, "size": size})


def measure(pair: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> None:
    """Measure one pair; `tell` is called twice."""
    import cv2
    import numpy as np

    cv2.setNumThreads(pair["threads"])
    takes, gives = contract(pair["input"]), contract(pair["output"])
    with np.load(pair["golden"], allow_pickle=False) as data:
        frames = to_camera_size(data["frames"])
    tensor = preprocess(frames[0], takes)

    def load() -> Any:
        return open_engine(pair["runtime"], pair["path"], pair["threads"], pair["options"])

    baseline = take_baseline()
    start = time.perf_counter_ns()
    engine = load()
    startup = time.perf_counter_ns() - start
    start = time.perf_counter_ns()
    output = engine.invoke(tensor)
    first = time.perf_counter_ns() - start
    if (output.shape, output.dtype) != (gives.shape, np.dtype(gives.dtype)):
        raise RuntimeError(
            f"expected an output of {gives.shape} {gives.dtype}, found {output.shape} {output.dtype}"
        )
    tell({"first_ns": first})
    count = 0

    def process_next() -> None:
        nonlocal count
        to_mask(engine.invoke(preprocess(frames[count % len(frames)], takes)), gives)
        count += 1

    def scope(call: Callable[[], object]) -> dict[str, Any]:
        warmup_runs = warm_up(timed(call))
        began = time.monotonic_ns()
        samples = run_until(timed(call), min_seconds=pair["min_seconds"], min_count=pair["min_count"])
        return {
            "warmup_runs": warmup_runs,
            "samples_ns": samples,
            "window_ns": [began, time.monotonic_ns()],
        }

    found = {"startup_ns": startup, "first_ns": first, "invoke": scope(lambda: engine.invoke(tensor))}
    found["frame"] = scope(process_next)
    found["rise_bytes"] = rise_above(baseline)
    start = time.perf_counter_ns()
    load()
    found["load_ns"] = time.perf_counter_ns() - start
    found["engine"] = {"version": engine_version(pair["runtime"]), **engine.describe()}
    tell(found)


def serve(request: IO[str], answers: IO[str]) -> None:
    """Answer one request; an error becomes the answer."""

    def tell(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        pair = json.loads(request.readline())
        threading.Thread(target=_end_with, args=(request,), daemon=True).start()
        measure(pair, tell)
    except Exception as error:  # noqa: BLE001 - engines raise anything
        tell({"error": " ".join(str(error).split())[:400] or type(error).__name__})


def _end_with(source: IO[str]) -> None:
    """Nobody wants the figures of an agent that was killed, and going on would disturb the next one's."""
    source.read()
    os._exit(1)


def main() -> None:
    """Serve stdin and stdout; what engines print goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)
