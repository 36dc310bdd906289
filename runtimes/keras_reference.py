"""The reference as a runtime: the Keras model at fp32, with the unrewritten graph.

It opens a bundle's reference weights, not one of its artifacts. TensorFlow takes its number of
threads once per process: whoever wants another number needs a fresh process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from nanonet_edge.bundle import Bundle
from nanonet_edge.contract import InputContract, OutputContract
from nanonet_edge.errors import RuntimeFailure, UnsupportedError
from nanonet_edge.extras import require, version_of
from nanonet_edge.reference import KerasReference
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes.base import Array
from nanonet_edge.runtimes.engine import EngineRuntime

_ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"
_THREADS_VARIABLE = "TF_NUM_INTRAOP_THREADS"
_PREDICT = "predict"
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class KerasRuntime(EngineRuntime):
    """A bundle's reference weights in TensorFlow.

    Args:
        bundle: an opened bundle.
        threads: within an operation; operations run one after the other.
        options: "predict" or nothing.

    Raises:
        UsageError: an unknown option, or fewer than one thread.
        MissingExtraError: TensorFlow is not installed.
        UnsupportedError: TensorFlow already runs in this process with another number of threads.
        CheckpointError: the weights are no NanoNet.
        RuntimeFailure: TensorFlow failed to build the model.
    """

    name = "keras"
    module = "tensorflow"
    known_options: ClassVar[Mapping[str, str]] = {
        _PREDICT: "model.predict on one image at a time, as the paper measured, not a direct call"
    }

    _reference: KerasReference | None = None

    @classmethod
    def version(cls) -> str | None:
        """Keras's version; that of its backend, TensorFlow, is in `info`."""
        return version_of("keras") if cls.obstacle() is None else None

    def __init__(self, bundle: Bundle, threads: int = 1, options: tuple[str, ...] = ()) -> None:
        takes, gives = reference_contracts(bundle)
        super().__init__(str(bundle.weights_path), takes, gives, threads)
        self.check_options(options)
        if (obstacle := self.obstacle()) is not None:
            raise obstacle
        self.options = options
        set_threads(threads)
        start = time.perf_counter_ns()
        size = bundle.manifest.size
        self._reference = self._guard("load", lambda: KerasReference(bundle.weights_path, size))
        self.load_ns = time.perf_counter_ns() - start

    @property
    def _model(self) -> Any:
        if self._reference is None:
            raise RuntimeFailure(f"{self.source}: no model is open")
        return self._reference.model

    def _invoke(self, x: Array) -> Array:
        if _PREDICT in self.options:
            return np.asarray(self._model.predict(x, verbose=0))
        # A copy: the array that TensorFlow lends must not be written to.
        return np.array(self._model(x, training=False))

    def _describe(self) -> RuntimeInfo:
        return RuntimeInfo(
            name=self.name,
            version=self.version() or "unknown",
            delegate="none",
            device="CPU",
            threads=self.threads,
            computed_precision=_PRECISIONS.get(self._model.compute_dtype, self._model.compute_dtype),
            options={
                "call": _PREDICT if _PREDICT in self.options else "direct",
                "backend": f"tensorflow {version_of('tensorflow')}",
                "onednn": _onednn(),
            },
        )

    def _release(self) -> None:
        if self._reference is not None:
            self._reference.close()
            self._reference = None


def reference_contracts(bundle: Bundle) -> tuple[InputContract, OutputContract]:
    """What a bundle's reference takes and gives: NHWC float32, BGR pixels in and probabilities out."""
    size, classes = bundle.manifest.size, bundle.manifest.classes
    gives = OutputContract(
        name="probability",
        shape=(1, size, size, classes),
        classes=classes,
        threshold=0.5 if classes == 1 else None,
    )
    return InputContract(name="image", shape=(1, size, size, 3)), gives


def set_threads(threads: int) -> None:
    """Give TensorFlow its number of threads, before it runs anything.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        UnsupportedError: it already runs with another number.
    """
    threading = require("tensorflow").config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        if (running := running_threads()) != threads:
            raise UnsupportedError(
                f"TensorFlow already runs in this process with {running} threads, which it cannot change: "
                f"expected {threads}, so use a fresh process"
            ) from None


def running_threads() -> int:
    """How many threads TensorFlow's operations use in this process, unless they are still to be set."""
    asked = int(require("tensorflow").config.threading.get_intra_op_parallelism_threads())
    environment = os.environ.get(_THREADS_VARIABLE, "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or (int(environment) if environment.isdigit() else 0) or usable


def _onednn() -> str:
    """Whether TensorFlow may use oneDNN's kernels, which makes a factor of two or three on x86."""
    return {"0": "off", "1": "on"}.get(os.environ.get(_ONEDNN_VARIABLE, ""), "TensorFlow's default")
