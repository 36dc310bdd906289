"""Take a trained NanoNet to an edge device: export it, check it, measure it, choose.

The names below are the public API, whatever module they live in. Importing this package
imports no framework, no NumPy and no pydantic: names that need them are resolved on first
use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nanonet_edge.errors import (
    BundleError,
    CalibrationError,
    CheckpointError,
    CompilerError,
    DatasetError,
    DeviceError,
    InputError,
    MissingExtraError,
    NanonetEdgeError,
    RuntimeFailure,
    TensorError,
    TrainingError,
    UnsupportedError,
    UsageError,
)

if TYPE_CHECKING:
    from nanonet_edge.bundle import Artifact, Bundle, Golden
    from nanonet_edge.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from nanonet_edge.contract import InputContract, OutputContract, preprocess, to_mask, to_probability
    from nanonet_edge.data.layouts import open_dataset
    from nanonet_edge.datasets import read_frame
    from nanonet_edge.graph import Graph
    from nanonet_edge.interpreter import evaluate
    from nanonet_edge.manifest import Manifest
    from nanonet_edge.network import build_network
    from nanonet_edge.passes import rewrite
    from nanonet_edge.reference import KerasReference
    from nanonet_edge.variants import (
        COMPARATORS,
        VARIANTS,
        Comparator,
        Format,
        Head,
        Precision,
        Topology,
        Variant,
    )

__version__ = "0.1.0"

#: Public name -> module that defines it. Mirror additions in the block above and in __all__.
_LAZY = {
    "Artifact": "nanonet_edge.bundle",
    "Bundle": "nanonet_edge.bundle",
    "COMPARATORS": "nanonet_edge.variants",
    "Checkpoint": "nanonet_edge.checkpoint",
    "Comparator": "nanonet_edge.variants",
    "Format": "nanonet_edge.variants",
    "Golden": "nanonet_edge.bundle",
    "Graph": "nanonet_edge.graph",
    "Head": "nanonet_edge.variants",
    "InputContract": "nanonet_edge.contract",
    "KerasReference": "nanonet_edge.reference",
    "Manifest": "nanonet_edge.manifest",
    "OutputContract": "nanonet_edge.contract",
    "Precision": "nanonet_edge.variants",
    "Topology": "nanonet_edge.variants",
    "VARIANTS": "nanonet_edge.variants",
    "Variant": "nanonet_edge.variants",
    "build_network": "nanonet_edge.network",
    "evaluate": "nanonet_edge.interpreter",
    "load_checkpoint": "nanonet_edge.checkpoint",
    "open_dataset": "nanonet_edge.data.layouts",
    "preprocess": "nanonet_edge.contract",
    "read_frame": "nanonet_edge.datasets",
    "rewrite": "nanonet_edge.passes",
    "save_checkpoint": "nanonet_edge.checkpoint",
    "to_mask": "nanonet_edge.contract",
    "to_probability": "nanonet_edge.contract",
}

__all__ = [
    "COMPARATORS",
    "VARIANTS",
    "Artifact",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "Checkpoint",
    "CheckpointError",
    "Comparator",
    "CompilerError",
    "DatasetError",
    "DeviceError",
    "Format",
    "Golden",
    "Graph",
    "Head",
    "InputContract",
    "InputError",
    "KerasReference",
    "Manifest",
    "MissingExtraError",
    "NanonetEdgeError",
    "OutputContract",
    "Precision",
    "RuntimeFailure",
    "TensorError",
    "Topology",
    "TrainingError",
    "UnsupportedError",
    "UsageError",
    "Variant",
    "__version__",
    "build_network",
    "evaluate",
    "load_checkpoint",
    "open_dataset",
    "preprocess",
    "read_frame",
    "rewrite",
    "save_checkpoint",
    "to_mask",
    "to_probability",
]


def __getattr__(name: str) -> object:
    try:
        module = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'") from None
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
