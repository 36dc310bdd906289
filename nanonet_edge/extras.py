"""Optional dependencies: import one, or say in one line how to get it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from types import ModuleType

from nanonet_edge.errors import MissingExtraError
from nanonet_edge.quiet import quiet

#: module name -> (extra that brings it, distributions that may provide it)
OPTIONAL: dict[str, tuple[str, tuple[str, ...]]] = {
    "tensorflow": ("export", ("tensorflow", "tensorflow-cpu")),
    "keras": ("export", ("keras",)),
    "onnx": ("export", ("onnx",)),
    "tf2onnx": ("export", ("tf2onnx",)),
    "nncf": ("export", ("nncf",)),
    "flatbuffers": ("export", ("flatbuffers",)),
    "ai_edge_litert": ("litert", ("ai-edge-litert",)),
    "tflite_runtime": ("tflite-runtime", ("tflite-runtime",)),
    "onnxruntime": ("onnx", ("onnxruntime", "onnxruntime-gpu")),
    "openvino": ("openvino", ("openvino",)),
    "albumentations": ("train", ("albumentations",)),
    "matplotlib": ("train", ("matplotlib",)),
    "plotly": ("report", ("plotly",)),
    "tensorboardX": ("tensorboard", ("tensorboardX",)),
    "asyncssh": ("remote", ("asyncssh",)),
    "scipy": ("dev", ("scipy",)),
}

#: They talk on stderr while they are imported, whatever their log levels are set to.
_TALKATIVE = ("tensorflow", "keras")


def require(module: str) -> ModuleType:
    """Import an optional module such as ``"onnxruntime"`` or ``"ai_edge_litert.interpreter"``.

    Raises:
        MissingExtraError: it is not installed; the message names the extra.
    """
    root = module.partition(".")[0]
    extra, _ = OPTIONAL[root]
    if root in ("tensorflow", "keras"):
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if root in ("openvino", "nncf"):
        # Both send usage data home when they convert. A module that cannot be imported is the
        # state in which they do not; who imported it before us has chosen otherwise.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if root == "albumentations":
        # It asks the package index for its newest version whenever it is imported.
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        if root in _TALKATIVE and root not in sys.modules:
            with quiet():
                return importlib.import_module(module)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == root:
            raise MissingExtraError(root, extra) from None
        raise


def ensure(*modules: str) -> None:
    """Check, without importing, that optional modules are there: before work that would be wasted.

    Raises:
        MissingExtraError: names the first that is not.
    """
    for module in modules:
        if not is_installed(module):
            raise MissingExtraError(module, OPTIONAL[module][0])


def is_installed(module: str) -> bool:
    """Whether an optional module could be imported, without importing it."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def version_of(module: str) -> str | None:
    """The installed version of an optional module's distribution, or None."""
    for distribution in OPTIONAL[module][1]:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
