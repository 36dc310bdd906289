"""Write generated frames and masks to a folder that any command reads as a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from nanonet_edge.atomic import replaced_folder, write_text
from nanonet_edge.errors import UsageError
from nanonet_edge.phantom import DEFAULT_SIZE, generate

PHANTOM_NAME = "phantom.json"
JPEG_QUALITY = 95

Progress = Callable[[str, int, int], None]


def write_phantoms(
    folder: Path,
    count: int,
    *,
    size: int = DEFAULT_SIZE,
    seed: int = 0,
    image_format: Literal["png", "jpg"] = "png",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write `images/` and `masks/` of equal stems, and `phantom.json` that says what they are.

    Masks hold 0 and 255, and are PNG whatever the images are: JPEG would blur their outlines.
    The folder is written whole or not at all.

    Args:
        folder: becomes the dataset's.
        count: how many frames, at least 1.
        size: height and width in pixels, at least 32.
        seed: frame `i` is that of ``nanonet_edge.phantom.draw_frame(i, size, seed)``.
        image_format: ``"png"``, or ``"jpg"`` of quality 95.
        overwrite: replace what is in `folder`.
        progress: called with the frames that are written, and `count`.

    Returns:
        How many of the frames show no polyp.

    Raises:
        UsageError: `folder` is not empty, or a number makes no sense.
    """
    if count < 1:
        raise UsageError(f"expected at least one frame, found a count of {count}")
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: expected an empty folder or none; add --overwrite to replace it")
    try:
        frames = generate(count, size, seed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    empty, digits = 0, max(4, len(str(count - 1)))
    with replaced_folder(folder) as staging:
        for name in ("images", "masks"):
            (staging / name).mkdir()
        for index, (frame, mask) in enumerate(frames):
            stem = f"{index:0{digits}}"
            _write(staging / "images" / f"{stem}.{image_format}", frame)
            _write(staging / "masks" / f"{stem}.png", mask * np.uint8(255))
            empty += not mask.any()
            if progress is not None:
                progress("draw", index + 1, count)
        about = {"obtained": "generated", "count": count, "size": size, "seed": seed, "empty_masks": empty}
        write_text(staging / PHANTOM_NAME, json.dumps(about, indent=1) + "\n")
    return empty


def _write(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix == ".jpg" else []
    _, encoded = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(encoded.tobytes())
