"""`manifest.json`: what a bundle holds and where each file came from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from nanonet_edge.contract import InputContract, OutputContract
from nanonet_edge.errors import BundleError
from nanonet_edge.variants import Format, Head, Precision, Target, Topology

SCHEMA_VERSION: Final = 1
MANIFEST_NAME = "manifest.json"
#: How the origin of random weights begins.
UNTRAINED = "untrained"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    outside = parts.is_absolute() or PureWindowsPath(path).drive or ".." in parts.parts or "\\" in path
    if outside or not parts.parts or not path.isprintable():
        raise ValueError(f"path {path!a} is not that of a file in the bundle")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]


class Record(BaseModel):
    """Base of everything that is written as JSON: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(Record):
    """One file of the bundle: relative path, size in bytes, SHA-256."""

    path: RelativePath
    bytes: int = Field(ge=0)
    sha256: Sha256


class CalibrationRecord(Record):
    """Where the activation ranges of a static precision came from.

    `source` is "images" (a folder of the user's), "recorded" (shipped with the weights) or
    "generated" (frames drawn by the toolkit). `digest` is a SHA-256 over the ordered list of
    the images' own digests, so two bundles can be seen to have used the same images. `method`
    chose the ranges; `rounding` chose the integer weights.
    """

    source: Literal["images", "recorded", "generated"]
    count: int = Field(ge=1)
    digest: Sha256
    method: Literal["min-max", "percentile", "mse"]
    rounding: Literal["compensated", "nearest"] = "nearest"
    seed: int | None = None
    detail: str = ""


class TargetRecord(Record):
    """What an artifact was rewritten for, and what that accelerator's compiler makes of it.

    `report` is JSON: which operators map (`nanonet_edge.edgetpu.CoralReport` for Coral). `compiled`,
    the compiler's result, runs on that accelerator alone; None where there was no compiler.
    """

    name: Target
    report: FileRecord
    compiled: FileRecord | None = None
    compiler: str | None = None


class ArtifactRecord(Record):
    """One exported model.

    `graph` is "rewritten" or "straight"; `passes` lists the rewrites that were applied, in
    order. `files[0]` is the one an engine opens (OpenVINO has a second, the weights). `target`
    is None unless it was rewritten for one accelerator; other engines run it all the same.
    `layers` says what each layer computes in, for precision `mixed`.
    """

    name: str
    format: Format
    precision: Precision
    graph: Literal["rewritten", "straight"]
    files: tuple[FileRecord, ...] = Field(min_length=1)
    input: InputContract
    output: OutputContract
    passes: tuple[str, ...] = ()
    layers: dict[str, Literal["int8", "fp32"]] = Field(default_factory=dict)
    calibration: CalibrationRecord | None = None
    quantizer: str | None = None
    target: TargetRecord | None = None

    @property
    def bytes(self) -> int:
        """Size of all its files together."""
        return sum(file.bytes for file in self.files)


class WeightsRecord(Record):
    """The reference weights: a copy in the bundle, where they came from, how many they are."""

    file: FileRecord
    sha256: Sha256 = Field(description="of the checkpoint that was read")
    origin: str
    parameters: int = Field(gt=0)

    @property
    def is_untrained(self) -> bool:
        """Whether they are random: times count, masks mean nothing."""
        return self.origin.startswith(UNTRAINED)


class GoldenRecord(Record):
    """Frames and the reference's answer to them, for a check on the device.

    The file is an .npz: `frames` (n, H, W, 3) uint8 BGR; `probability` (n, H, W, classes)
    float32 from the reference.
    """

    file: FileRecord
    count: int = Field(ge=1)
    source: str


class Manifest(Record):
    """The whole of `manifest.json`; `topology` is null for a network that is no NanoNet."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    created: str
    variant: str
    topology: Topology | None
    classes: int = Field(ge=1)
    size: int = Field(gt=0)
    head: Head
    weights: WeightsRecord
    golden: GoldenRecord
    artifacts: tuple[ArtifactRecord, ...]
    versions: dict[str, str]

    def to_json(self) -> str:
        """The text that is written to disk."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """Every file the manifest vouches for."""
        listed = [self.weights.file, self.golden.file]
        for artifact in self.artifacts:
            listed.extend(artifact.files)
            if artifact.target is not None:
                extra = (artifact.target.report, artifact.target.compiled)
                listed.extend(file for file in extra if file is not None)
        return tuple(listed)


def parse_manifest(text: str, path: Path) -> Manifest:
    """Read the text of a `manifest.json`.

    Raises:
        BundleError: it is not JSON, of another schema version, or a field is wrong.
    """
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(data, dict) or data.get("schema_version") != SCHEMA_VERSION:
        found = data.get("schema_version") if isinstance(data, dict) else type(data).__name__
        raise BundleError(f"{path}: expected schema_version {SCHEMA_VERSION}, found {found}")
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: field '{where}': {first['msg']}") from None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def record_file(path: Path, root: Path) -> FileRecord:
    """Describe a file that lies under `root`."""
    return FileRecord(
        path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=sha256_file(path)
    )
