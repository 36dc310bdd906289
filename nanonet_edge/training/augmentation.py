"""Random changes of a training image and its mask, the same ones to both."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt

from nanonet_edge.extras import require
from nanonet_edge.training.recipe import Augmentation

Images = npt.NDArray[np.uint8]


class Augmenter:
    """Draws images at a size, changed at random but repeatably.

    Args:
        kind: "paper": the paper's list (random crop, rotation, flips, grid distortion, usual
            colour changes); "moderate": any rotation, flips, some scale and colour; "strong":
            more of it, and shear, blur, noise, holes; "none".
        size: height and width of what comes out, in pixels.

    Raises:
        MissingExtraError: albumentations is not installed.
    """

    def __init__(self, kind: Augmentation, size: int) -> None:
        albumentations = require("albumentations")
        self._pipeline: Any = albumentations.Compose(_STEPS[kind](albumentations, size))

    def __call__(self, frames: Images, masks: Images, seed: int) -> tuple[Images, Images]:
        """Change a batch.

        Args:
            frames: (n, H, W, 3) uint8, BGR.
            masks: (n, H, W) uint8, 0 and 1.
            seed: decides all that is random, whatever was drawn before.

        Returns:
            (n, size, size, 3) and (n, size, size) uint8.
        """
        # One stream for all steps: `set_random_seed` gives each step one of its own from the same
        # seed, and so always flips in both directions or in none.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        pairs = [self._pipeline(image=frame, mask=mask) for frame, mask in zip(frames, masks, strict=True)]
        return np.stack([pair["image"] for pair in pairs]), np.stack([pair["mask"] for pair in pairs])


def _none(library: Any, size: int) -> list[Any]:
    return [library.Resize(size, size)]


def _paper(library: Any, size: int) -> list[Any]:
    return [
        library.RandomResizedCrop((size, size), scale=(0.6, 1.0), ratio=(0.9, 1.11), p=1.0),
        library.Rotate(limit=90, p=0.5),
        library.HorizontalFlip(p=0.5),
        library.VerticalFlip(p=0.5),
        library.GridDistortion(p=0.3),
        library.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02, p=0.5),
    ]


def _moderate(library: Any, size: int) -> list[Any]:
    return [
        library.HorizontalFlip(p=0.5),
        library.VerticalFlip(p=0.5),
        library.Affine(scale=(0.85, 1.25), rotate=(-180, 180), translate_percent=(-0.08, 0.08), p=0.9),
        library.Resize(size, size),
        library.RandomBrightnessContrast(0.2, 0.2, p=0.5),
        library.HueSaturationValue(6, 20, 10, p=0.5),
    ]


def _strong(library: Any, size: int) -> list[Any]:
    return [
        library.HorizontalFlip(p=0.5),
        library.VerticalFlip(p=0.5),
        # Endoscopes have no upright; nothing but the scale tells a near polyp from a far one.
        library.Affine(
            scale=(0.7, 1.5), rotate=(-180, 180), shear=(-8, 8), translate_percent=(-0.12, 0.12), p=0.95
        ),
        library.GridDistortion(p=0.15),
        library.Resize(size, size),
        library.RandomBrightnessContrast(0.25, 0.25, p=0.7),
        library.HueSaturationValue(8, 30, 10, p=0.7),
        library.RandomGamma((75, 130), p=0.3),
        library.OneOf(
            [library.GaussianBlur((3, 5)), library.MotionBlur((3, 5)), library.GaussNoise((0.02, 0.06))],
            p=0.2,
        ),
        library.CoarseDropout((1, 4), (0.05, 0.15), (0.05, 0.15), p=0.15),
    ]


_STEPS = {"paper": _paper, "moderate": _moderate, "strong": _strong, "none": _none}
