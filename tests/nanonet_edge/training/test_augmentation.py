"""Random changes of an image and its mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge.datasets import resize_mask
from nanonet_edge.masks import confusion
from nanonet_edge.metrics import accuracy_of
from nanonet_edge.phantom import generate
from nanonet_edge.training.augmentation import Augmenter, Images

ALL = pytest.mark.parametrize("kind", ["paper", "moderate", "strong"])


def polyps(count: int, size: int = 96) -> Images:
    """Masks with something in them."""
    return np.stack([mask for _, mask in generate(2 * count, size) if mask.sum() > 200][:count])


def changed(kind: str, frames: Images, masks: Images, size: int, seed: int = 3) -> tuple[Images, Images]:
    return Augmenter(kind, size)(frames, masks, seed)  # type: ignore[arg-type]


@ALL
def test_the_mask_moves_with_the_image(kind: str) -> None:
    """The image shows its mask, white on dark grey: after the change it must still show it."""
    masks = polyps(24)
    frames = np.repeat((40 + 180 * masks)[..., np.newaxis], 3, axis=-1).astype(np.uint8)
    new_frames, new_masks = changed(kind, frames, masks, 64)
    overlaps = []
    for frame, mask in zip(new_frames, new_masks, strict=True):
        shown = (frame.mean(axis=-1) > 120).astype(np.uint8)
        overlaps.append(accuracy_of(confusion(mask, shown)).dsc)
    # A patch of noise or a dropped square may lie on a polyp; a mask that stayed behind fits by chance.
    assert np.median(overlaps) > 0.95
    assert np.mean(np.array(overlaps) > 0.8) > 0.8
    moved = [
        accuracy_of(confusion(resize_mask(old, (64, 64)), new)).dsc
        for old, new in zip(masks, new_masks, strict=True)
    ]
    assert np.median(moved) < 0.8


@ALL
def test_types_shapes_and_values_stay(kind: str) -> None:
    masks = polyps(6)
    frames = np.repeat((200 * masks)[..., np.newaxis], 3, axis=-1).astype(np.uint8)
    new_frames, new_masks = changed(kind, frames, masks, 64)
    assert (new_frames.shape, new_frames.dtype) == ((6, 64, 64, 3), np.uint8)
    assert (new_masks.shape, new_masks.dtype) == ((6, 64, 64), np.uint8)
    assert set(np.unique(new_masks)) == {0, 1}


@ALL
def test_the_seed_decides_whatever_was_drawn_before(kind: str) -> None:
    masks = polyps(4)
    frames = np.repeat((200 * masks)[..., np.newaxis], 3, axis=-1).astype(np.uint8)
    augmenter = Augmenter(kind, 64)  # type: ignore[arg-type]
    first = augmenter(frames, masks, 5)
    other = augmenter(frames, masks, 6)
    again = augmenter(frames, masks, 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@ALL
def test_images_of_a_batch_are_changed_each_in_its_own_way(kind: str) -> None:
    masks = np.repeat(polyps(1), 8, axis=0)
    frames = np.repeat((200 * masks)[..., np.newaxis], 3, axis=-1).astype(np.uint8)
    _, new_masks = changed(kind, frames, masks, 64)
    assert len({mask.tobytes() for mask in new_masks}) >= 6


@ALL
def test_mirror_images_are_among_them(kind: str) -> None:
    """A change turns the picture or mirrors it: the sign of the area that two gradients span tells which."""
    ramp = np.arange(96, dtype=np.uint8)
    frame = np.stack([*np.meshgrid(2 * ramp, 2 * ramp), np.full((96, 96), 90, np.uint8)], axis=-1)
    frames = np.repeat(frame[np.newaxis], 60, axis=0)
    new_frames, _ = changed(kind, frames, np.zeros(frames.shape[:3], np.uint8), 96)
    middle = new_frames[:, 30:66, 30:66].astype(np.float64)
    (down_x, right_x), (down_y, right_y) = (np.gradient(middle[..., i], axis=(1, 2)) for i in (0, 1))
    mirrored = np.median(right_x * down_y - down_x * right_y, axis=(1, 2)) < 0
    assert 0.25 < mirrored.mean() < 0.75


def test_none_resizes_alone() -> None:
    generator = np.random.default_rng(0)
    frames: npt.NDArray[np.uint8] = generator.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    masks = generator.integers(0, 2, (2, 64, 64), dtype=np.uint8)
    same = changed("none", frames, masks, 64)
    assert all(np.array_equal(a, b) for a, b in zip(same, (frames, masks), strict=True))
    assert changed("none", frames, masks, 32)[0].shape == (2, 32, 32, 3)
