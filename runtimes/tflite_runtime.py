"""tflite-runtime 2.14, the last of the old wheels: in an environment and a process of its own.

It needs Python <= 3.11 and NumPy < 2. `tflite_worker` documents the protocol, and
`_tflite_client.find_python` says where the environment is looked for.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import NanonetEdgeError, RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes._tflite_client import WorkerClient, find_python
from nanonet_edge.runtimes._tflite_graph import read_execution
from nanonet_edge.runtimes._tflite_interpreter import explain_refusal, read_details, read_operator
from nanonet_edge.runtimes.artifact import ArtifactRuntime, Declared
from nanonet_edge.runtimes.base import Array
from nanonet_edge.variants import Format

_START_SECONDS = 30.0
_LOAD_SECONDS = 60.0
_INVOKE_SECONDS = 60.0


class TfliteRuntime(ArtifactRuntime):
    """The interpreter of tflite_runtime, in a worker process that dies with `close`.

    Attributes:
        invoke_seconds: how long one invoke may take before the worker is killed.
    """

    name = "tflite-runtime"
    module = "tflite_runtime"
    formats = frozenset({Format.TFLITE})
    known_options: ClassVar[Mapping[str, str]] = {
        "no-xnnpack": "run the built-in kernels instead of the XNNPACK delegate"
    }
    invoke_seconds: float = _INVOKE_SECONDS

    _client: WorkerClient | None = None
    _loaded: Mapping[str, Any] = {}

    @classmethod
    def obstacle(cls) -> UsageError | None:
        """No Python interpreter with tflite_runtime can be found, or the one that was is broken."""
        try:
            _version_in(find_python())
        except UsageError as error:
            return error
        except RuntimeFailure as error:
            return UnsupportedError(str(error))
        return None

    @classmethod
    def version(cls) -> str | None:
        """The version in the environment that would be used, None where there is none."""
        try:
            return _version_in(find_python())
        except NanonetEdgeError:
            return None

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._opened.pid

    @property
    def _opened(self) -> WorkerClient:
        if self._client is None:
            raise RuntimeFailure(f"{self.source}: no worker is running")
        return self._client

    def _start(self) -> None:
        python = find_python()
        self._version = _version_in(python)
        self._client = WorkerClient(python)

    def _load(self, path: Path) -> None:
        request = {
            "op": "load",
            "path": str(path.resolve()),
            "threads": self.threads,
            "xnnpack": "no-xnnpack" not in self.options,
        }
        try:
            self._loaded, _ = self._opened.ask(self.source, request, timeout=_LOAD_SECONDS)
        except RuntimeFailure as error:
            if (refusal := explain_refusal(self.source, str(error), self.name)) is not None:
                raise refusal from error
            raise
        self.load_ns = int(self._loaded["load_ns"])

    def _declared(self) -> tuple[Declared, Declared]:
        return read_details(_details(self._loaded["input"])), read_details(_details(self._loaded["output"]))

    def _invoke(self, x: Array) -> Array:
        request = {"op": "invoke"}
        _, data = self._opened.ask(self.source, request, x.tobytes(), timeout=self.invoke_seconds)
        return np.frombuffer(data, self.output.dtype).reshape(self.output.shape).copy()

    def _time(self, x: Array, min_runs: int, min_seconds: float, max_seconds: float) -> npt.NDArray[np.int64]:
        request = {"op": "time", "min_runs": min_runs, "min_seconds": min_seconds, "max_seconds": max_seconds}
        timeout = min(max_seconds + self.invoke_seconds, threading.TIMEOUT_MAX)
        _, data = self._opened.ask(self.source, request, x.tobytes(), timeout=timeout)
        return np.frombuffer(data, "<i8").astype(np.int64)

    def _memory(self) -> tuple[int, int] | None:
        fields, _ = self._opened.ask(self.source, {"op": "memory"}, timeout=self.invoke_seconds)
        baseline, peak = fields["baseline_bytes"], fields["peak_bytes"]
        return None if baseline is None or peak is None else (int(baseline), int(peak))

    def _describe(self) -> RuntimeInfo:
        execution = read_execution([read_operator(details) for details in self._loaded["operators"]])
        return RuntimeInfo(
            name=self.name,
            version=self._version,
            delegate=execution.delegate,
            device="CPU",
            threads=self.threads,
            computed_precision=execution.precision,
            options={"delegated_operators": f"{execution.delegated} of {execution.operators}"},
        )

    def _release(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _details(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**tensor, "quantization": (tensor["scale"], tensor["zero_point"])}


@functools.cache
def _version_in(python: Path) -> str:
    """Ask an interpreter for its tflite_runtime."""
    client = WorkerClient(python)
    try:
        fields, _ = client.ask(str(python), {"op": "hello"}, timeout=_START_SECONDS)
    finally:
        client.close()
    return str(fields["version"])
