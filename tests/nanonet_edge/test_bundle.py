"""Opening a bundle: every file is what the manifest says, or the file is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import BundleError
from nanonet_edge.manifest import MANIFEST_NAME, Manifest, record_file, sha256_file
from tests.tiny_bundle import make_tiny_bundle, tiny_frames, tiny_reference


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return shutil.copytree(whole, tmp_path / "bundle")


def refusal(root: Path | str) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_whole_bundle_opens(whole: Path) -> None:
    bundle = Bundle.open(str(whole))
    assert bundle.root == whole
    assert [artifact.name for artifact in bundle.artifacts] == [
        "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.openvino",
    ]  # fmt: skip
    assert bundle.manifest_sha256 == sha256_file(whole / MANIFEST_NAME)
    assert bundle.weights_path == whole / "weights.bin"
    artifact = bundle.artifact("tiny.fp32.openvino")
    assert artifact.path == whole / "tiny.fp32.xml"
    assert artifact.manifest_sha256 == bundle.manifest_sha256
    assert artifact in bundle.artifacts


def test_an_artifact_that_is_not_there_is_answered_with_the_list(whole: Path) -> None:
    with pytest.raises(BundleError, match=r"named 'x', found tiny\.fp32\.onnx, tiny\.fp16\.onnx, tiny"):
        Bundle.open(whole).artifact("x")


def test_golden_vectors_are_read(whole: Path) -> None:
    golden = Bundle.open(whole).golden()
    frames = tiny_frames(4, 64)
    assert np.array_equal(golden.frames, frames)
    assert np.array_equal(golden.probability, tiny_reference(frames))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'}: expected a bundle folder, found nothing"


def test_a_file_in_place_of_the_folder(root: Path) -> None:
    path = root / "weights.bin"
    assert refusal(path) == f"{path}: expected a bundle folder, found a file"


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: expected a bundle with manifest.json, found none"


def test_a_folder_named_as_the_manifest(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).mkdir()
    assert refusal(tmp_path) == f"{tmp_path}: expected a bundle with manifest.json, found none"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "expected JSON, found"),
        (b"no json", "expected JSON, found"),
        (b"\xff\xfe\0\0", "expected JSON text, found binary data"),
        (b"{}", "expected schema_version 1, found None"),
        (b" " * ((16 << 20) + 1), "expected at most 16777216 bytes, found 16777217"),
    ],
    ids=["empty", "text", "binary", "object", "huge"],
)
def test_a_manifest_that_is_none(root: Path, data: bytes, expected: str) -> None:
    path = root / MANIFEST_NAME
    path.write_bytes(data)
    assert refusal(root).startswith(f"{path}: {expected}")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_manifest(root: Path, share: float) -> None:
    path = root / MANIFEST_NAME
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert refusal(root).startswith(f"{path}: expected JSON, found")


FILES = ["weights.bin", "golden.npz", "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.xml", "tiny.fp32.bin"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turn_into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (flip, "expected sha256 "),
        (truncate, "expected {} bytes, found "),
        (Path.unlink, "listed in manifest.json, found nothing"),
        (turn_into_folder, "listed in manifest.json, found nothing"),
    ],
)
def test_a_file_that_differs_is_named(
    root: Path, name: str, spoil: Callable[[Path], None], expected: str
) -> None:
    path = root / name
    size = path.stat().st_size
    spoil(path)
    assert refusal(root).startswith(f"{path}: {expected.format(size)}")


def test_a_file_that_the_manifest_does_not_know_is_let_be(root: Path) -> None:
    (root / "notes.txt").write_text("mine")
    Bundle.open(root)


def frames_of(
    count: int = 4, dtype: str = "uint8", channels: int = 3
) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    return np.zeros((count, 64, 64, channels), dtype)


ANSWERS = np.zeros((4, 64, 64, 1), np.float32)


def save_golden(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


BAD_GOLDEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("golden"),
    "npy": lambda path: path.write_bytes(b"\x93NUMPY\x01\0v\0"),
    "no arrays": save_golden,
    "no answers": lambda path: save_golden(path, frames=frames_of()),
    "pickled": lambda path: save_golden(path, frames=np.array([None] * 4), probability=ANSWERS),
    "float frames": lambda path: save_golden(path, frames=frames_of(dtype="float32"), probability=ANSWERS),
    "grey frames": lambda path: save_golden(path, frames=frames_of(channels=1), probability=ANSWERS),
    "too few frames": lambda path: save_golden(path, frames=frames_of(3), probability=ANSWERS),
    "too few answers": lambda path: save_golden(path, frames=frames_of(), probability=ANSWERS[:3]),
    "double answers": lambda path: save_golden(path, frames=frames_of(), probability=ANSWERS.astype(float)),
}


@pytest.mark.parametrize("kind", BAD_GOLDEN)
def test_golden_vectors_that_are_none_are_named(root: Path, kind: str) -> None:
    """Even if the manifest vouches for the file: a bundle may come from a stranger."""
    path = root / "golden.npz"
    BAD_GOLDEN[kind](path)
    manifest = Manifest.model_validate_json((root / MANIFEST_NAME).read_text())
    golden = manifest.golden.model_copy(update={"file": record_file(path, root)})
    (root / MANIFEST_NAME).write_text(manifest.model_copy(update={"golden": golden}).to_json())
    bundle = Bundle.open(root)
    with pytest.raises(BundleError) as caught:
        bundle.golden()
    assert str(caught.value).startswith(f"{path}: expected ")
