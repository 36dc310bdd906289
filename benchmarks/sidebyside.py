"""Pictures of the worst images: frame, reference, artifact and where they differ."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nanonet_edge.atomic import replaced_folder
from nanonet_edge.benchmarks.agreement import Progress, Reference, answer, labels
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.agreement_result import AgreementRow, ImageResult, VerifyResult
from nanonet_edge.bundle import Bundle
from nanonet_edge.datasets import resize_mask
from nanonet_edge.errors import UsageError
from nanonet_edge.runtimes import ArtifactRuntime, open_runtime

Picture = npt.NDArray[np.uint8]

#: BGR. Blue, orange and white stay apart for colour-blind eyes.
BOTH = (255, 255, 255)
ADDED = (0, 140, 255)
LOST = (255, 120, 0)
TRUTH = (0, 220, 0)
#: ARTIFACT.RUNTIME.RANK.IMAGE.png
_PICTURE = re.compile(r"[A-Za-z0-9_.-]+\.[A-Za-z0-9_.-]+\.[0-9]+\.[A-Za-z0-9_.-]*\.png")
_PANEL = 320
_GAP = 6
_LINE = 18
_BACKGROUND = 24
_TEXT = (230, 230, 230)


def save_worst(
    result: VerifyResult,
    bundle: Bundle,
    data: VerificationData,
    reference: Reference,
    folder: Path,
    count: int = 5,
    progress: Progress | None = None,
    *,
    keep_others: bool = False,
) -> list[Path]:
    """Draw the images on which each artifact agrees least, as ``ARTIFACT.RUNTIME.RANK.IMAGE.png``.

    Only images whose masks differ are drawn. `folder` is replaced as a whole, and refused if
    it holds anything that is no such picture.

    Args:
        result: of `verify` on the same bundle and data.
        bundle: the bundle.
        data: the images.
        reference: the reference.
        folder: where to.
        count: at most so many per artifact.
        progress: called with ("worst images", done, total).
        keep_others: keep the pictures of artifacts and runtimes that are not in `result`.

    Returns:
        The files, artifact by artifact, worst first.

    Raises:
        UsageError: the folder holds something else.
        NanonetEdgeError: an image or artifact cannot be read any more.
    """
    check_pictures_folder(folder)
    wanted = [(row, _differing(row.worst(count))) for row in result.artifacts if row.summary is not None]
    total = sum(len(images) for _, images in wanted)
    names: list[str] = []
    with replaced_folder(folder) as staging:
        if keep_others:
            _keep_others(result, folder, staging)
        for row, images in wanted:
            if not images:
                continue
            threads = row.runtime.threads if row.runtime is not None else 1
            with open_runtime(bundle.artifact(row.artifact), row.spec, threads) as engine:
                for rank, image in enumerate(images, start=1):
                    names.append(_file_name(row, rank, image.agreement.name))
                    _write_png(staging / names[-1], _draw(row, image, data, reference, engine))
                    if progress is not None:
                        progress("worst images", len(names), total)
    return [folder / name for name in names]


def check_pictures_folder(folder: Path) -> None:
    """Make sure that replacing a folder loses nothing but pictures of `save_worst`.

    Raises:
        UsageError: it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder for pictures, found a file")
    for path in sorted(folder.iterdir()) if folder.exists() else ():
        if not path.is_file() or _PICTURE.fullmatch(path.name) is None:
            raise UsageError(
                f"{folder}: expected a folder of pictures that may be replaced, found {path.name} in it"
            )


def _keep_others(result: VerifyResult, folder: Path, staging: Path) -> None:
    renewed = tuple(_prefix(row) for row in result.artifacts)
    for path in folder.iterdir() if folder.exists() else ():
        if not path.name.startswith(renewed):
            shutil.copy2(path, staging / path.name)


def side_by_side(
    frame: Picture,
    reference: Picture,
    artifact: Picture,
    captions: Sequence[str],
    truth: Picture | None = None,
) -> Picture:
    """Put frame, reference mask, artifact mask and their difference in a row, captions below.

    In the difference white is where both are positive, orange where only the artifact is
    (invented), blue where only the reference is (lost). The outline of the truth is green.

    Args:
        frame: (H, W, 3) uint8 BGR, any size.
        reference: (h, w) mask.
        artifact: (h, w) mask.
        captions: lines of text; letters beyond ASCII appear as "?".
        truth: (h, w) mask or None.

    Returns:
        (height, width, 3) uint8 BGR.
    """
    import cv2

    height, width = reference.shape
    scale = max(1, round(_PANEL / height))
    size = (width * scale, height * scale)
    rule = cv2.INTER_AREA if frame.shape[0] > size[1] else cv2.INTER_LINEAR
    ours, theirs = artifact != 0, reference != 0
    panels = [
        np.array(cv2.resize(frame, size, interpolation=rule), np.uint8),
        _paint(size, (theirs, BOTH)),
        _paint(size, (ours, BOTH)),
        _paint(size, (ours & theirs, BOTH), (ours & ~theirs, ADDED), (theirs & ~ours, LOST)),
    ]
    if truth is not None:
        large = cv2.resize(truth, size, interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        for panel in panels:
            cv2.drawContours(panel, outline, -1, TRUTH, 1)
    titles = ("image", "reference", "artifact", "orange: added, blue: lost")
    titled = [_with_text(panel, [title]) for panel, title in zip(panels, titles, strict=True)]
    gap = np.full((titled[0].shape[0], _GAP, 3), _BACKGROUND, np.uint8)
    row = np.hstack([part for panel in titled for part in (panel, gap)][:-1])
    return _with_text(row, captions)


def _draw(
    row: AgreementRow,
    image: ImageResult,
    data: VerificationData,
    reference: Reference,
    engine: ArtifactRuntime,
) -> Picture:
    item = data.item(image.agreement.name)
    expected = labels(reference.probability(item.frame[np.newaxis])[0])
    found, _ = answer(engine, item)
    truth = None
    captions = [
        f"{item.name}   {row.artifact} on {row.spec}",
        f"Dice against the reference {image.agreement.dice:.4f}",
    ]
    if item.mask is not None and image.artifact_accuracy is not None and image.reference_accuracy is not None:
        truth = resize_mask(item.mask, (expected.shape[0], expected.shape[1]))
        captions[1] += (
            f"   DSC against the truth (green): reference {image.reference_accuracy.dsc:.4f}, "
            f"artifact {image.artifact_accuracy.dsc:.4f}"
        )
    return side_by_side(item.frame, expected, found, captions, truth)


def _differing(images: Sequence[ImageResult]) -> list[ImageResult]:
    return [image for image in images if image.agreement.pixel_agreement < 1.0]


def _paint(size: tuple[int, int], *layers: tuple[npt.NDArray[np.bool_], tuple[int, int, int]]) -> Picture:
    """Colour the pixels of each layer and enlarge to (width, height)."""
    import cv2

    canvas = np.zeros((*layers[0][0].shape, 3), np.uint8)
    for where, colour in layers:
        canvas[where] = colour
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _with_text(picture: Picture, lines: Sequence[str]) -> Picture:
    """Add lines of text below a picture."""
    import cv2

    height, width = picture.shape[:2]
    canvas = np.full((height + _LINE * len(lines) + _GAP, width, 3), _BACKGROUND, np.uint8)
    canvas[:height] = picture
    for index, line in enumerate(lines):
        text = line.encode("ascii", "replace").decode()
        baseline = (4, height + _LINE * (index + 1) - 3)
        cv2.putText(canvas, text, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _TEXT, 1, cv2.LINE_AA)
    return canvas


def _file_name(row: AgreementRow, rank: int, image: str) -> str:
    return f"{_prefix(row)}{rank}.{_plain(Path(image).stem)[:60]}.png"


def _prefix(row: AgreementRow) -> str:
    return f"{_plain(row.artifact)}.{_plain(row.spec)}."


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)


def _write_png(path: Path, picture: Picture) -> None:
    import cv2

    _, data = cv2.imencode(".png", picture)
    path.write_bytes(data.tobytes())
