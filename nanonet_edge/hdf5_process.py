"""Reads a checkpoint in a process of its own, so that a hostile file cannot take ours down.

libhdf5 follows some damaged link tables into memory that is not mapped (seen with 1.14.6: one
flipped byte, SIGSEGV). No check from outside foresees that, so the parser runs in a child;
what comes back is JSON and raw float32, which execute nothing.

    stdout of the child: one line of JSON, then the arrays, little-endian, one after the other
        {"error": MESSAGE}  or  {"layers": [[label, op, [[weight, shape], ...]], ...]}
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from nanonet_edge.errors import CheckpointError
from nanonet_edge.hdf5 import Arrays, Layer, read_layers

_TIMEOUT_S = 120.0
_WINDOWS_CRASH = 0xC000_0000


def read_layers_isolated(path: Path) -> list[Layer]:
    """The same as `nanonet_edge.hdf5.read_layers`, and safe from crashes of the HDF5 library.

    Raises:
        CheckpointError: as there; or the library crashed, or read on for two minutes.
    """
    # The child must find this very package, however the parent came to find it, and nothing else.
    search = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    try:
        child = subprocess.run(
            [sys.executable, "-m", __name__, str(path)],
            env={**os.environ, "PYTHONPATH": search, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CheckpointError(
            f"{path}: expected a Keras checkpoint, found a file that takes over {_TIMEOUT_S:.0f} s to read"
        ) from None
    if child.returncode < 0 or child.returncode >= _WINDOWS_CRASH:
        raise CheckpointError(
            f"{path}: expected a Keras checkpoint, found a damaged file that crashes the HDF5 library"
            f" (exit status {child.returncode})"
        )
    if child.returncode:
        # No file does that: the installation is broken, and its own words say how.
        raise RuntimeError(f"the checkpoint reader failed: {child.stderr.decode(errors='replace')}")
    return _unpack(child.stdout)


def _unpack(data: bytes) -> list[Layer]:
    line, _, values = data.partition(b"\n")
    header = json.loads(line)
    if "error" in header:
        raise CheckpointError(header["error"])
    layers, offset = [], 0
    for label, op, described in header["layers"]:
        arrays: Arrays = {}
        for name, shape in described:
            count = int(np.prod(shape))
            flat = np.frombuffer(values, "<f4", count, offset)
            arrays[name] = flat.reshape(shape).astype(np.float32)
            offset += 4 * count
        layers.append(Layer(label, op, arrays))
    return layers


def _main(path: str) -> None:
    out = sys.stdout.buffer
    try:
        layers = read_layers(Path(path))
    except CheckpointError as error:
        out.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    described = [
        [layer.label, layer.op, [[name, array.shape] for name, array in layer.weights.items()]]
        for layer in layers
    ]
    out.write(json.dumps({"layers": described}).encode() + b"\n")
    for layer in layers:
        for array in layer.weights.values():
            out.write(array.astype("<f4").tobytes())


if __name__ == "__main__":
    _main(sys.argv[1])
