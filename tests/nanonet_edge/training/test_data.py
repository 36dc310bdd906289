"""Images in memory, and batches of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge.datasets import Sample, read_frame, read_mask
from nanonet_edge.errors import DatasetError
from nanonet_edge.training import TrainingSet, load, split_samples
from nanonet_edge.training.augmentation import Augmenter
from nanonet_edge.training.data import batches
from tests.nanonet_edge.training.material import pictures, write_images

CORRUPT = b"\x89PNG\r\n\x1a\n and then nothing of the kind"


def numbered(count: int, size: int = 32) -> TrainingSet:
    """Picture `i` has the grey value `i` everywhere, and a mask where `i` is odd."""
    frames = np.repeat(np.arange(count, dtype=np.uint8), size * size * 3).reshape(count, size, size, 3)
    return TrainingSet(tuple(map(str, range(count))), frames, frames[..., 0] % 2, "numbered")


def drawn(data: TrainingSet, batch: int, seed: int, epoch: int, kind: str = "none") -> list[np.ndarray]:
    augmenter = Augmenter(kind, 32)  # type: ignore[arg-type]
    return [np.concatenate([x, y], axis=-1) for x, y in batches(data, augmenter, batch, seed, epoch)]


@pytest.mark.parametrize(("count", "batch"), [(12, 4), (10, 4), (3, 8), (5, 5)])
def test_an_epoch_shows_every_image_once_and_fills_the_last_batch_up(count: int, batch: int) -> None:
    found = drawn(numbered(count), batch, seed=1, epoch=2)
    assert [one.shape for one in found] == [(batch, 32, 32, 4)] * -(-count // batch)
    shown = [round(float(pixel) * 255) for one in found for pixel in one[:, 0, 0, 0]]
    assert sorted(shown[:count]) == list(range(count))
    assert shown[count:] == (shown * batch)[: len(shown) - count]
    for one in found:
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one[..., 3], np.rint(one[..., 0] * 255) % 2)


@pytest.mark.parametrize("kind", ["paper", "strong", "none"])
def test_seed_and_epoch_decide_the_batches_and_nothing_else(kind: str) -> None:
    data = pictures(6, 32)
    first = drawn(data, 4, 7, 3, kind)
    assert all(np.array_equal(a, b) for a, b in zip(first, drawn(data, 4, 7, 3, kind), strict=True))
    for seed, epoch in ((7, 4), (8, 3)):
        assert not np.array_equal(first, drawn(data, 4, seed, epoch, kind))


def test_batches_that_are_not_used_up_leave_no_thread() -> None:
    import threading

    before = Counter(thread.name.rpartition("-")[0] for thread in threading.enumerate())
    epoch = batches(numbered(8), Augmenter("none", 32), 2, 0, 0)
    next(epoch)
    epoch.close()  # type: ignore[attr-defined]
    assert Counter(thread.name.rpartition("-")[0] for thread in threading.enumerate()) == before


def test_images_are_resized_as_inference_does(tmp_path: Path) -> None:
    split = split_samples(write_images(tmp_path, 10, size=96))
    data = load(split.training, 64)
    assert (len(data), data.frames.shape, data.masks.shape) == (9, (9, 64, 64, 3), (9, 64, 64))
    assert data.names == tuple(sample.name for sample in split.training)
    assert set(np.unique(data.masks)) == {0, 1}
    sample = split.training[0]
    assert sample.mask is not None
    np.testing.assert_array_equal(data.frames[0], cv2.resize(read_frame(sample.image), (64, 64)))
    expected = cv2.resize(read_mask(sample.mask) * 255, (64, 64)) > 127
    np.testing.assert_array_equal(data.masks[0], expected)


def test_the_digest_is_of_images_and_masks_and_a_subset_is_of_those_asked_for(tmp_path: Path) -> None:
    samples = split_samples(write_images(tmp_path, 10)).training
    data = load(samples, 32)
    assert data.digest == load(samples, 64).digest
    assert data.digest != load(samples[1:], 32).digest
    some = data.subset([3, 1])
    assert some.names == (data.names[3], data.names[1])
    np.testing.assert_array_equal(some.frames, data.frames[[3, 1]])
    cv2.imwrite(str(samples[0].mask), np.zeros((64, 64), np.uint8))
    assert data.digest != load(samples, 32).digest


def test_bad_images_are_named_and_skipped_only_on_request(tmp_path: Path) -> None:
    samples = split_samples(write_images(tmp_path, 12)).training
    samples[2].image.write_bytes(CORRUPT)
    cv2.imwrite(str(samples[4].mask), np.zeros((64, 32), np.uint8))
    with pytest.raises(DatasetError, match=samples[2].name):
        load(samples, 32)
    data = load(samples, 32, skip_bad=True)
    assert len(data) == len(samples) - 2
    assert list(data.skipped) == [samples[2].name, samples[4].name]
    assert "expected the size of its image" in data.skipped[samples[4].name]
    assert data.digest == load([s for i, s in enumerate(samples) if i not in (2, 4)], 32).digest


def test_an_image_without_a_mask_is_refused(tmp_path: Path) -> None:
    sample = split_samples(write_images(tmp_path, 10)).training[0]
    with pytest.raises(DatasetError, match=rf"{sample.name}: expected a mask for it, found none"):
        load([Sample(sample.name, sample.image)], 32)


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    sample = split_samples(write_images(tmp_path, 10)).training[0]
    sample.image.write_bytes(CORRUPT)
    with pytest.raises(DatasetError, match=rf"found none that can be read: .*{sample.name}"):
        load([sample], 32, skip_bad=True)
