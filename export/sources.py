"""Where calibration frames come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nanonet_edge.datasets import draw, frames_digest, image_samples, images_digest, list_images, read_frame
from nanonet_edge.export.calibration import CalibrationFrames
from nanonet_edge.export.lint import Finding, Severity, lint_calibration, refuse_errors
from nanonet_edge.phantom import draw_frame

Progress = Callable[[str, int, int], None]
GENERATED_COUNT = 64


def calibration_folder(
    folder: Path,
    count: int,
    seed: int,
    *,
    verification: Sequence[Path] = (),
    progress: Progress | None = None,
) -> tuple[CalibrationFrames, list[Finding]]:
    """Draw frames from a folder of images, after a look at them.

    Returns:
        The frames, and the lint's warnings.

    Raises:
        DatasetError: the folder is missing or empty, or an image cannot be read.
        CalibrationError: the lint found an error.
    """
    samples = draw(image_samples(list_images(folder), folder), count, seed)
    images = [sample.image for sample in samples]
    findings = lint_calibration(images, verification=verification, progress=progress)
    refuse_errors(findings, str(folder))
    frames = CalibrationFrames(
        len(images),
        lambda index: read_frame(images[index]),
        "images",
        images_digest(images),
        seed,
        f"{len(images)} images drawn from a folder named '{folder.resolve().name}'",
    )
    return frames, [finding for finding in findings if finding.severity is not Severity.ERROR]


def generated_frames(count: int = GENERATED_COUNT, seed: int = 0) -> CalibrationFrames:
    """Frames drawn by the toolkit: a last resort, since ranges from them fit real images less well."""
    frames = [draw_frame(index, seed=seed)[0] for index in range(count)]
    return CalibrationFrames(
        count, frames.__getitem__, "generated", frames_digest(frames), seed, f"{count} generated frames"
    )
