"""Look at calibration images before ranges are taken from them.

Most int8 models that "broke" were calibrated on the wrong numbers: channels swapped, scaled
twice or not at all. Each fault has a code (`CODES`). A fault of single images refuses the
calibration only where at least half of them have it; what makes every range wrong refuses it
always; the rest are warnings.

Swapped channels are recognised by tissue: in endoscopy it is red in nearly every frame (in
the 900 frames of Kvasir-SEG the mean of red is at least 1.4 times that of blue).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.datasets import read_frame
from nanonet_edge.errors import CalibrationError
from nanonet_edge.variants import Name

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]

CODES = {
    "CAL001": "too few images",
    "CAL002": "constant images",
    "CAL003": "duplicate images",
    "CAL004": "wrong size",
    "CAL005": "wrong channels",
    "CAL006": "blue and red swapped",
    "CAL007": "not scaled to [0, 1]",
    "CAL008": "scaled twice",
    "CAL009": "images of the verification set",
    "CAL010": "values that are not finite",
}

MIN_COUNT = 32
MIN_SIDE = 64
MAX_ASPECT = 3.0
#: Standard deviation in grey levels below which an image holds nothing.
_CONSTANT_STD = 1.0
_GREY_DIFFERENCE = 1.0
_SWAPPED_RATIO = 1.05
#: Brightest grey level that an image divided by 255 once too often can reach, with room.
_TWICE_SCALED_MAX = 5.0
#: Thumbnails closer than this (root mean square, grey levels) show the same picture: a JPEG of
#: quality 70 at another size is within 0.9, different frames of Kvasir-SEG are 6 or more apart.
_SAME_PICTURE_RMS = 3.0
_THUMBNAIL = 16
#: A few repeats in a large set move no range.
_TOLERATED_REPEATS = 0.02
_NAMED = 3


class Severity(Name):
    """Whether a finding refuses the calibration."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One fault: its code, how bad it is, one line about it, and the images it concerns."""

    code: str
    severity: Severity
    message: str
    images: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code} {self.severity}: {self.message}"


@dataclass(frozen=True, eq=False)
class _Look:
    """What is kept of an image: enough for every check, 3 KiB.

    `mean` is (3,) BGR, `thumbnail` (16 * 16 * 3,) float32; both in grey levels.
    """

    name: str
    width: int
    height: int
    digest: str
    mean: Array
    deviation: float
    brightest: float
    channel_difference: float
    thumbnail: npt.NDArray[np.float32]

    @property
    def is_constant(self) -> bool:
        return self.deviation < _CONSTANT_STD


def lint_calibration(
    source: Sequence[Path] | Sequence[Array] | Array,
    *,
    size: int | None = None,
    verification: Sequence[Path] = (),
    progress: Progress | None = None,
) -> list[Finding]:
    """Find the faults of a calibration set.

    Args:
        source: paths of images; or decoded frames, each (H, W, 3) uint8 BGR; or tensors as the
            network takes them, one array (n, size, size, 3) of floats in [0, 1], BGR.
        size: height and width that tensors must have; None accepts any.
        verification: images that will judge the result, and so must not help to make it.
        progress: called with ("lint", done, total) after each image.

    Returns:
        Findings in the order of their codes; empty if there are none.

    Raises:
        DatasetError: an image cannot be read.
    """
    if isinstance(source, np.ndarray) and source.dtype != np.uint8:
        findings = _lint_shape(source, size)
        if findings:
            return findings
        findings, unit = _lint_scale(source)
        looks = [_look(f"tensor {index}", tensor * unit) for index, tensor in enumerate(source)]
    else:
        findings, looks = [], []
        for index, item in enumerate(source):
            frame = read_frame(item) if isinstance(item, Path) else np.asarray(item)
            name = str(item) if isinstance(item, Path) else f"frame {index}"
            if frame.ndim != 3 or frame.shape[2] != 3:
                message = f"{name}: expected (height, width, 3), found {frame.shape}"
                return [Finding("CAL005", Severity.ERROR, message, (name,))]
            looks.append(_look(name, frame))
            if progress is not None:
                progress("lint", index + 1, len(source))
    findings += _lint_looks(looks)
    findings += _lint_leaks(looks, verification)
    return sorted(findings, key=lambda finding: finding.code)


def refuse_errors(findings: Iterable[Finding], where: str) -> None:
    """Raise if any finding is an error.

    Raises:
        CalibrationError: names `where` and every error, with its code.
    """
    errors = [f"{found.code} {found.message}" for found in findings if found.severity is Severity.ERROR]
    if errors:
        raise CalibrationError(f"{where}: " + "; ".join(errors))


def _lint_shape(tensors: Array, size: int | None) -> list[Finding]:
    shape = tensors.shape
    error = Severity.ERROR
    if tensors.dtype.kind != "f":
        return [Finding("CAL007", error, f"expected floats in [0, 1] or uint8 frames, found {tensors.dtype}")]
    if tensors.ndim != 4 or 0 in shape:
        return [Finding("CAL004", error, f"expected tensors of shape (n, height, width, 3), found {shape}")]
    if shape[3] != 3:
        hint = " (channels first: transpose to channels last)" if shape[1] == 3 else ""
        return [Finding("CAL005", error, f"expected 3 channels last, found shape {shape}{hint}")]
    if size is not None and shape[1:3] != (size, size):
        return [Finding("CAL004", error, f"expected {size}x{size} tensors, found {shape[2]}x{shape[1]}")]
    finite = np.isfinite(tensors).all(axis=(1, 2, 3))
    if not finite.all():
        names = tuple(f"tensor {index}" for index in np.flatnonzero(~finite))
        return [Finding("CAL010", error, f"NaN or infinite values in {_some(names)}", names)]
    return []


def _lint_scale(tensors: Array) -> tuple[list[Finding], float]:
    """Findings, and the factor that turns the values into grey levels for the other checks."""
    low, high = float(tensors.min()), float(tensors.max())
    if low < -1e-3:
        message = f"expected values in [0, 1] (pixels divided by 255), found {low:.3g} to {high:.3g}"
        return [Finding("CAL007", Severity.ERROR, message)], 127.5 if high <= 1.001 else 1.0
    if high > 1.001:
        message = f"expected values in [0, 1], found up to {high:.4g}: not divided by 255"
        return [Finding("CAL007", Severity.ERROR, message)], 1.0
    if 0.0 < high * 255.0 <= _TWICE_SCALED_MAX:
        message = f"expected values in [0, 1], found none above {high:.2g}: divided by 255 twice"
        return [Finding("CAL008", Severity.ERROR, message)], 255.0 * 255.0
    return [], 255.0


def _look(name: str, image: Array) -> _Look:
    import cv2

    pixels = np.ascontiguousarray(image, np.float32)
    mean, deviation = cv2.meanStdDev(pixels)
    blue, green, red = cv2.split(pixels)
    difference = max(cv2.norm(blue, green, cv2.NORM_L1), cv2.norm(red, green, cv2.NORM_L1)) / green.size
    thumbnail = cv2.resize(pixels, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return _Look(
        name=name,
        width=image.shape[1],
        height=image.shape[0],
        digest=hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest(),
        mean=mean.ravel(),
        deviation=float(deviation.max()),
        brightest=float(pixels.max()),
        channel_difference=difference,
        thumbnail=np.asarray(thumbnail, np.float32).ravel(),
    )


def _lint_looks(looks: Sequence[_Look]) -> list[Finding]:
    findings = []
    if len(looks) < MIN_COUNT:
        message = f"expected at least {MIN_COUNT} images, found {len(looks)}: ranges will be too narrow"
        findings.append(Finding("CAL001", Severity.WARNING, message))
    total = len(looks)
    dark = [look for look in looks if 0.0 < look.brightest <= _TWICE_SCALED_MAX]
    flat = [look for look in looks if look.is_constant and look not in dark]
    seen = [look for look in looks if not look.is_constant]
    odd = [look for look in looks if _is_odd_size(look)]
    grey = [look for look in seen if look.channel_difference < _GREY_DIFFERENCE]
    swapped = [look for look in seen if look.mean[0] > _SWAPPED_RATIO * look.mean[2]]
    for code, concerned, text in (
        ("CAL002", flat, "have one colour all over"),
        ("CAL004", odd, f"are smaller than {MIN_SIDE} pixels or longer than {MAX_ASPECT:g}:1"),
        ("CAL005", grey, "are grey: expected colour frames"),
        ("CAL006", swapped, "are bluer than red: blue and red look swapped"),
        ("CAL008", dark, f"have no value above {_TWICE_SCALED_MAX:g} of 255: saved after a division by 255"),
    ):
        if concerned:
            findings.append(_share(code, [look.name for look in concerned], total, text))
    repeats = _repeats(seen)
    if len(repeats) > _TOLERATED_REPEATS * total:
        findings.append(_share("CAL003", repeats, total, "repeat an earlier one"))
    return findings


def _lint_leaks(looks: Sequence[_Look], verification: Sequence[Path]) -> list[Finding]:
    seen = [look for look in looks if not look.is_constant]
    if not seen or not verification:
        return []
    judges = [_look(str(path), read_frame(path)) for path in verification]
    known = {look.digest for look in judges}
    close = _closest(_thumbnails(seen), _thumbnails(judges)) < _SAME_PICTURE_RMS
    names = tuple(look.name for look, same in zip(seen, close, strict=True) if same or look.digest in known)
    if not names:
        return []
    message = f"{len(names)} of {len(looks)} images are also in the verification set: {_some(names)}"
    return [Finding("CAL009", Severity.WARNING, message, names)]


def _share(code: str, names: Sequence[str], total: int, text: str) -> Finding:
    severity = Severity.ERROR if 2 * len(names) >= total else Severity.WARNING
    return Finding(code, severity, f"{len(names)} of {total} images {text}: {_some(names)}", tuple(names))


def _is_odd_size(look: _Look) -> bool:
    short, long = sorted((look.width, look.height))
    return short < MIN_SIDE or long > MAX_ASPECT * short


def _repeats(looks: Sequence[_Look]) -> list[str]:
    """Names of the images that show what an earlier one shows."""
    thumbnails = _thumbnails(looks)
    digests: set[str] = set()
    repeats = []
    for index, look in enumerate(looks):
        same = look.digest in digests
        if index and not same:
            same = bool(_closest(thumbnails[index : index + 1], thumbnails[:index])[0] < _SAME_PICTURE_RMS)
        digests.add(look.digest)
        if same:
            repeats.append(look.name)
    return repeats


def _thumbnails(looks: Sequence[_Look]) -> npt.NDArray[np.float32]:
    return np.array([look.thumbnail for look in looks], np.float32).reshape(-1, 3 * _THUMBNAIL**2)


def _closest(ours: npt.NDArray[np.float32], theirs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Root mean square distance of each of `ours` to the nearest of `theirs`: (len(ours),)."""
    # |a - b|^2 = |a|^2 + |b|^2 - 2ab; centred, so that float32 loses little.
    centre = theirs.mean(axis=0)
    a, b = ours - centre, theirs - centre
    squares = np.square(a).sum(axis=1)[:, np.newaxis] + np.square(b).sum(axis=1) - 2.0 * (a @ b.T)
    nearest = np.maximum(squares.min(axis=1), 0.0) / a.shape[1]
    return np.asarray(np.sqrt(nearest), np.float64)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(Path(name).name for name in names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
