"""Opening an exported file in an engine: the checks that every engine shares."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from nanonet_edge.bundle import Artifact
from nanonet_edge.contract import InputContract, OutputContract
from nanonet_edge.errors import RuntimeFailure, UnsupportedError
from nanonet_edge.extras import require
from nanonet_edge.manifest import FileRecord, sha256_file
from nanonet_edge.runtimes.engine import EngineRuntime
from nanonet_edge.variants import Format

_SCALE_TOLERANCE = 1e-5
_HEAD_BYTES = 64


@dataclass(frozen=True)
class Declared:
    """What a model file says of one of its tensors; None where the format does not tell.

    Attributes:
        shape: sizes; a size that is not fixed appears as the file names it.
        dtype: NumPy's name, such as "float32".
        scale: of the affine quantization.
        zero_point: of the affine quantization.
    """

    shape: tuple[int | str, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class ArtifactRuntime(EngineRuntime):
    """A runtime that opens an artifact of a bundle.

    Class attributes:
        formats: what it can load.

    Raises (from the constructor):
        UnsupportedError: the engine cannot load this format, or lacks what an option asks for.
        UsageError: an unknown option, or fewer than one thread.
        MissingExtraError: the engine is not installed.
        RuntimeFailure: the engine refused the file, or the file is not what its record says.
    """

    formats: ClassVar[frozenset[Format]]

    def __init__(self, artifact: Artifact, threads: int = 1, options: tuple[str, ...] = ()) -> None:
        super().__init__(str(artifact.path), artifact.record.input, artifact.record.output, threads)
        record = artifact.record
        if record.format not in self.formats:
            known = ", ".join(sorted(self.formats))
            raise UnsupportedError(f"{self.source}: {self.name} loads {known}, found {record.format}")
        self.check_options(options)
        if (obstacle := self.obstacle()) is not None:
            raise obstacle
        self.artifact = artifact
        self.options = options
        check_file(artifact)
        try:
            self._start()
            start = time.perf_counter_ns()
            self._guard("load", lambda: self._load(artifact.path))
            self.load_ns = self.load_ns or time.perf_counter_ns() - start
            found_input, found_output = self._guard("describe", self._declared)
            _check_declared(self.source, "input", self.input, found_input)
            _check_declared(self.source, "output", self.output, found_output)
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        """Get the engine ready; what this takes is not the model's load time."""
        require(self.module)

    @abstractmethod
    def _load(self, path: Path) -> None:
        """Load the file into the engine; sets `load_ns` if it knows better than a clock around it."""

    @abstractmethod
    def _declared(self) -> tuple[Declared, Declared]:
        """What the loaded file says of its only input and its only output."""


def only(source: str, what: str, count: int) -> None:
    """Refuse a model that has not exactly one input, or not exactly one output.

    Raises:
        RuntimeFailure: it has another number.
    """
    if count != 1:
        raise RuntimeFailure(f"{source}: expected one {what}, found {count}")


def check_file(artifact: Artifact) -> None:
    """Look at a model's files before a native parser does: some of them crash on damage.

    Raises:
        RuntimeFailure: a file is absent or empty, is not the one that was recorded, or does not
            begin as its format does.
    """
    root = artifact.path.parents[len(Path(artifact.record.files[0].path).parts) - 1]
    for record in artifact.record.files:
        _check_recorded(root / record.path, record)
    with artifact.path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if artifact.record.format is Format.TFLITE:
        _check_flatbuffer(artifact.path, head)
    elif artifact.record.format is Format.OPENVINO and not head.lstrip().startswith(b"<"):
        raise RuntimeFailure(f"{artifact.path}: expected OpenVINO IR (XML), found {head[:8]!r}")


def _check_recorded(path: Path, record: FileRecord) -> None:
    if not path.is_file():
        found = "a folder" if path.exists() else "nothing"
        raise RuntimeFailure(f"{path}: expected a model file, found {found}")
    size = path.stat().st_size
    if size == 0:
        raise RuntimeFailure(f"{path}: expected a model file, found an empty one")
    if size != record.bytes:
        raise RuntimeFailure(f"{path}: expected {record.bytes} bytes by its manifest, found {size}")
    digest = sha256_file(path)
    if digest != record.sha256:
        raise RuntimeFailure(f"{path}: expected sha256 {record.sha256[:12]}…, found {digest[:12]}…")


def _check_flatbuffer(path: Path, head: bytes) -> None:
    if len(head) < 8 or head[4:8] != b"TFL3":
        raise RuntimeFailure(f"{path}: expected a TFLite flatbuffer (TFL3 at byte 4), found {head[4:8]!r}")
    root = int.from_bytes(head[:4], "little")
    size = path.stat().st_size
    if not 4 <= root <= size - 4:
        raise RuntimeFailure(f"{path}: expected a root table within {size} bytes, found it at {root}")


def _check_declared(
    source: str, what: str, expected: InputContract | OutputContract, found: Declared
) -> None:
    where = f"{source}: {what} '{expected.name}'"
    if not _fits(found.shape, expected.shape):
        shape = "(" + ", ".join(str(size) for size in found.shape) + ")"
        raise RuntimeFailure(f"{where}: expected shape {expected.shape} by its manifest, found {shape}")
    if found.dtype != np.dtype(expected.dtype).name:
        raise RuntimeFailure(f"{where}: expected dtype {expected.dtype} by its manifest, found {found.dtype}")
    if found.scale is not None and abs(found.scale - expected.scale) > _SCALE_TOLERANCE * abs(expected.scale):
        raise RuntimeFailure(
            f"{where}: expected scale {expected.scale:.8g} by its manifest, found {found.scale:.8g}"
        )
    if found.zero_point is not None and found.zero_point != expected.zero_point:
        raise RuntimeFailure(
            f"{where}: expected zero point {expected.zero_point} by its manifest, found {found.zero_point}"
        )


def _fits(found: tuple[int | str, ...], expected: tuple[int, ...]) -> bool:
    """Whether a declared shape admits the expected one; a size that is not fixed admits any."""
    return len(found) == len(expected) and all(
        isinstance(size, str) or size == want for size, want in zip(found, expected, strict=True)
    )
