"""The names that `import nanonet_edge` promises, and what the import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nanonet_edge

ERRORS = {
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "CompilerError",
    "DatasetError",
    "DeviceError",
    "InputError",
    "MissingExtraError",
    "NanonetEdgeError",
    "RuntimeFailure",
    "TensorError",
    "TrainingError",
    "UnsupportedError",
    "UsageError",
}
VOCABULARY = {
    "Artifact",
    "Bundle",
    "Checkpoint",
    "Comparator",
    "Format",
    "Golden",
    "Graph",
    "Head",
    "InputContract",
    "KerasReference",
    "Manifest",
    "OutputContract",
    "Precision",
    "Topology",
    "COMPARATORS",
    "VARIANTS",
    "Variant",
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
}


def test_public_names_are_these() -> None:
    assert set(nanonet_edge.__all__) == ERRORS | VOCABULARY | {"__version__"}


@pytest.mark.parametrize("name", nanonet_edge.__all__)
def test_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(nanonet_edge, name) is not None
    assert name in dir(nanonet_edge)


def test_every_error_is_public() -> None:
    from nanonet_edge import errors

    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined == ERRORS


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'nanonet_edge' has no attribute 'Banana'"):
        _ = nanonet_edge.Banana  # type: ignore[attr-defined]


def test_import_brings_in_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; before = set(sys.modules); import nanonet_edge; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*sorted(new - sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["nanonet_edge"]
