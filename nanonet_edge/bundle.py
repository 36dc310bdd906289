"""A bundle on disk: a folder with artifacts, their manifest and golden vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import BundleError
from nanonet_edge.manifest import (
    MANIFEST_NAME,
    ArtifactRecord,
    FileRecord,
    Manifest,
    parse_manifest,
    sha256_file,
)

_MANIFEST_LIMIT = 16 << 20


@dataclass(frozen=True)
class Artifact:
    """One exported model on disk, with the record that describes it.

    Attributes:
        path: the file an engine opens.
        record: its entry in the manifest.
        manifest_sha256: SHA-256 of the manifest it was listed in; results carry it.
    """

    path: Path
    record: ArtifactRecord
    manifest_sha256: str

    @property
    def name(self) -> str:
        """The file's stem, such as ``nanonet-c.static_wi8_ai8.tflite``."""
        return self.record.name


@dataclass(frozen=True)
class Golden:
    """Golden vectors: `frames` (n, H, W, 3) uint8 BGR, `probability` (n, H, W, classes) float32."""

    frames: npt.NDArray[np.uint8]
    probability: npt.NDArray[np.float32]


class Bundle:
    """A bundle that was opened and whose files have the digests the manifest gives."""

    def __init__(self, root: Path, manifest: Manifest, manifest_sha256: str) -> None:
        self.root = root
        self.manifest = manifest
        self.manifest_sha256 = manifest_sha256

    @classmethod
    def open(cls, root: Path | str) -> Bundle:
        """Open a bundle and check every file against its digest.

        Raises:
            BundleError: no manifest, a file is missing, or a digest or size differs.
        """
        root = Path(root)
        path = root / MANIFEST_NAME
        if not root.is_dir():
            raise BundleError(
                f"{root}: expected a bundle folder, found {'a file' if root.exists() else 'nothing'}"
            )
        if not path.is_file():
            raise BundleError(f"{root}: expected a bundle with {MANIFEST_NAME}, found none")
        if path.stat().st_size > _MANIFEST_LIMIT:
            raise BundleError(
                f"{path}: expected at most {_MANIFEST_LIMIT} bytes, found {path.stat().st_size}"
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise BundleError(f"{path}: expected JSON text, found binary data") from None
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
        manifest = parse_manifest(text, path)
        for record in manifest.files:
            _check_file(root, record)
        return cls(root, manifest, sha256_file(path))

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Every artifact, in the manifest's order."""
        return tuple(self._artifact(record) for record in self.manifest.artifacts)

    def artifact(self, name: str) -> Artifact:
        """One artifact by name.

        Raises:
            BundleError: the bundle has none of that name.
        """
        for record in self.manifest.artifacts:
            if record.name == name:
                return self._artifact(record)
        names = ", ".join(record.name for record in self.manifest.artifacts)
        raise BundleError(f"{self.root}: expected an artifact named '{name}', found {names}")

    @property
    def weights_path(self) -> Path:
        """The reference weights."""
        return self.root / self.manifest.weights.file.path

    def golden(self) -> Golden:
        """Read the golden vectors.

        Raises:
            BundleError: the file is no .npz, or its arrays are not what the manifest says.
        """
        path = self.root / self.manifest.golden.file.path
        try:
            # A plain .npy would be no context manager: TypeError or AttributeError by Python's version.
            with np.load(path, allow_pickle=False) as data:
                frames, probability = data["frames"], data["probability"]
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, BadZipFile) as error:
            raise BundleError(f"{path}: expected golden vectors (.npz): {error}") from None
        size, count = self.manifest.size, self.manifest.golden.count
        wanted = ((count, size, size, self.manifest.classes), np.float32)
        if frames.dtype != np.uint8 or frames.ndim != 4 or len(frames) != count or frames.shape[3] != 3:
            raise BundleError(f"{path}: expected {count} uint8 frames, found {frames.dtype} {frames.shape}")
        if (probability.shape, probability.dtype) != wanted:
            raise BundleError(
                f"{path}: expected probabilities of shape {wanted[0]}, float32, "
                f"found {probability.shape}, {probability.dtype}"
            )
        return Golden(frames, probability)

    def _artifact(self, record: ArtifactRecord) -> Artifact:
        return Artifact(self.root / record.files[0].path, record, self.manifest_sha256)


def _check_file(root: Path, record: FileRecord) -> None:
    path = root / record.path
    if not path.is_file():
        raise BundleError(f"{path}: listed in {MANIFEST_NAME}, found nothing")
    size = path.stat().st_size
    if size != record.bytes:
        raise BundleError(f"{path}: expected {record.bytes} bytes, found {size}")
    digest = sha256_file(path)
    if digest != record.sha256:
        raise BundleError(f"{path}: expected sha256 {record.sha256[:12]}…, found {digest[:12]}…")
