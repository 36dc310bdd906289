"""Folders of images and masks: listing, reading, pairing, drawing, identifying.

Frames are decoded as OpenCV does by default: 8 bits, three channels, blue first; grey images
become colour, alpha is dropped, 16 bits are reduced to 8. An EXIF orientation is applied, as
it was in training with `cv2.imread`. Masks are positive above 127, because masks stored as
JPEG hold every value from 0 to 255.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import DatasetError
from nanonet_edge.image_header import is_complete, read_header
from nanonet_edge.manifest import sha256_file

Frame = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
MASK_THRESHOLD = 127
#: 8192 x 8192: twice an 8K frame, 200 MB when decoded. Larger claims are refused unread.
MAX_PIXELS = 1 << 26
_NAMED = 3


@dataclass(frozen=True)
class Sample:
    """An image and, where there is one, its mask; `name` is the path below the image folder."""

    name: str
    image: Path
    mask: Path | None = None


@dataclass(frozen=True)
class Pairing:
    """The outcome of `pair_masks`: samples in the images' order, and masks without an image."""

    samples: tuple[Sample, ...]
    orphan_masks: tuple[Path, ...]


def list_images(folder: Path | str) -> list[Path]:
    """List the images below a folder, in natural order (``2.jpg`` before ``10.jpg``).

    Nested folders and links are followed, each real folder once; hidden files and folders are
    left out. Images are known by suffix, in any case.

    Raises:
        DatasetError: the folder is missing, is a file, or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise DatasetError(f"{folder}: expected a folder of images, found {found}")
    images = [path for path in _walk(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise DatasetError(f"{folder}: expected images ({kinds}), found none")
    return sorted(images, key=lambda path: _natural_key(path.relative_to(folder).as_posix()))


def find_split(folder: Path | str) -> tuple[Path, Path | None]:
    """Images and masks folder of a dataset.

    A folder that holds both `images/` and `masks/` (the layout of Kvasir-SEG) gives the two;
    any other is a folder of images without masks.
    """
    folder = Path(folder)
    images, masks = folder / "images", folder / "masks"
    return (images, masks) if images.is_dir() and masks.is_dir() else (folder, None)


def read_frame(path: Path | str, max_pixels: int = MAX_PIXELS) -> Frame:
    """Decode an image as a colour frame.

    Returns:
        (H, W, 3) uint8, blue first.

    Raises:
        DatasetError: the file is missing, empty, damaged, not an image, or above `max_pixels`.
    """
    import cv2

    return _decode(Path(path), cv2.IMREAD_COLOR, max_pixels)


def read_mask(path: Path | str, max_pixels: int = MAX_PIXELS) -> Mask:
    """Decode a mask.

    Returns:
        (H, W) uint8, 1 where the grey value is above 127.

    Raises:
        DatasetError: as `read_frame`.
    """
    import cv2

    grey = _decode(Path(path), cv2.IMREAD_GRAYSCALE, max_pixels)
    return np.asarray(grey > MASK_THRESHOLD, np.uint8)


def read_sample(sample: Sample) -> tuple[Frame, Mask | None]:
    """Decode an image and its mask.

    Raises:
        DatasetError: as `read_frame`, or the two differ in size.
    """
    frame = read_frame(sample.image)
    if sample.mask is None:
        return frame, None
    mask = read_mask(sample.mask)
    if mask.shape != frame.shape[:2]:
        raise DatasetError(
            f"{sample.mask}: expected the size of its image {sample.image.name}, "
            f"{_size(frame)}, found {_size(mask)}"
        )
    return frame, mask


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """Resize a mask of 0 and 1 to (height, width), bilinearly as frames are, halves going to 1."""
    import cv2

    if mask.shape == size:
        return mask
    grey = cv2.resize(mask * np.uint8(255), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grey > MASK_THRESHOLD, np.uint8)


def image_samples(images: Iterable[Path], root: Path | str) -> tuple[Sample, ...]:
    """Name images by their path below `root`, without masks."""
    return tuple(Sample(path.relative_to(root).as_posix(), path) for path in images)


def pair_masks(image_folder: Path | str, mask_folder: Path | str, *, require_all: bool = True) -> Pairing:
    """Pair every image with the mask of the same stem.

    The path below the folder counts first (``a/1.jpg`` with ``a/1.png``); an image without
    such a mask takes the one that has its stem alone, if only one has.

    Args:
        image_folder: folder of images.
        mask_folder: folder of masks.
        require_all: refuse images without a mask; otherwise their samples have none.

    Raises:
        DatasetError: a folder cannot be listed, a stem is ambiguous, or images have no mask
            (the first few are named).
    """
    image_folder, mask_folder = Path(image_folder), Path(mask_folder)
    images, masks = list_images(image_folder), list_images(mask_folder)
    by_path = _unique(masks, mask_folder)
    stems = Counter(path.stem for path in masks)
    by_stem = {path.stem: path for path in masks if stems[path.stem] == 1}
    _unique(images, image_folder)
    samples = tuple(
        Sample(
            path.relative_to(image_folder).as_posix(),
            path,
            by_path.get(_key(path, image_folder)) or by_stem.get(path.stem),
        )
        for path in images
    )
    without = [sample.name for sample in samples if sample.mask is None]
    if without and require_all:
        raise DatasetError(
            f"{mask_folder}: expected a mask for each of {len(samples)} images, "
            f"found none for {len(without)}: {_some(without)}"
        )
    used = Counter(sample.mask for sample in samples if sample.mask is not None)
    shared = [str(mask) for mask, count in used.items() if count > 1]
    if shared:
        raise DatasetError(f"{mask_folder}: expected one image per mask, found several for {_some(shared)}")
    return Pairing(samples, tuple(mask for mask in masks if mask not in used))


def draw(samples: Sequence[Sample], count: int, seed: int = 0) -> list[Sample]:
    """Draw `count` samples without replacement; all of them if there are fewer.

    Each sample is ranked by a SHA-256 of the seed and its name, so the draw is the same on
    every platform and Python, and adding an image to the folder displaces at most one.

    Returns:
        The drawn samples, in the order they came.

    Raises:
        ValueError: `count` is negative.
    """
    if count < 0:
        raise ValueError(f"cannot draw {count} samples")

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{seed}/{samples[index].name}".encode("utf-8", "surrogateescape")).digest()

    return [samples[index] for index in sorted(sorted(range(len(samples)), key=rank)[:count])]


def images_digest(images: Iterable[Path]) -> str:
    """SHA-256 over the hex SHA-256 of each file's bytes, in order, each on a line of its own."""
    digest = hashlib.sha256()
    for path in images:
        digest.update(f"{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def frames_digest(frames: Iterable[Frame]) -> str:
    """The same for frames that are in no file: each one's shape and pixels count."""
    digest = hashlib.sha256()
    for frame in frames:
        one = hashlib.sha256(str(frame.shape).encode() + np.ascontiguousarray(frame).tobytes())
        digest.update(f"{one.hexdigest()}\n".encode())
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[Path]:
    visited = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, followlinks=True):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(Path(parent, name))
            if not name.startswith(".") and real not in visited:
                visited.add(real)
                kept.append(name)
        folders[:] = kept  # os.walk descends into what is left here
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"([0-9]+)", text.casefold())
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)], text


def _decode(path: Path, flags: int, max_pixels: int) -> npt.NDArray[np.uint8]:
    import cv2

    if not path.is_file():
        found = "a folder" if path.is_dir() else "a broken link" if path.is_symlink() else "no file"
        raise DatasetError(f"{path}: expected an image, found {found}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    if not data:
        raise DatasetError(f"{path}: expected an image, found an empty file")
    header = read_header(data)
    if header is None:
        raise DatasetError(f"{path}: expected a JPEG, PNG, BMP or TIFF image, found something else")
    if header.pixels > max_pixels:
        raise DatasetError(
            f"{path}: expected at most {max_pixels} pixels, "
            f"found a header that claims {header.width}x{header.height} ({header.pixels} pixels)"
        )
    if not is_complete(data, header.kind):
        raise DatasetError(f"{path}: expected a whole {header.kind} image, found one that is cut off")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise DatasetError(f"{path}: {header.kind} image cannot be decoded: {error.err}") from None
    if image is None:
        raise DatasetError(f"{path}: expected a {header.kind} image, found a damaged or unsupported one")
    return np.asarray(image, np.uint8)


def _key(path: Path, root: Path) -> str:
    return path.relative_to(root).with_suffix("").as_posix()


def _unique(paths: Sequence[Path], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = found.setdefault(_key(path, root), path)
        if other != path:
            raise DatasetError(f"{root}: expected one image per stem, found {other.name} and {path.name}")
    return found


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _size(image: npt.NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
