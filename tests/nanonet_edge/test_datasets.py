from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge import datasets
from nanonet_edge.datasets import Sample
from nanonet_edge.errors import DatasetError

Pixels = npt.NDArray[np.uint8]


def noise(height: int = 40, width: int = 60, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, pixels: npt.NDArray[np.generic] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), noise() if pixels is None else pixels)
    return path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in datasets.list_images(folder)]


def png_bomb(path: Path, width: int, height: int) -> Path:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    return path


# --- listing ---------------------------------------------------------------------------


def test_lists_nested_images_of_every_kind_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.jpg", "2.JPG", "1.jpeg", "b/3.png", "b/c/1.bmp", "a.tif", "a.TIFF"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (".hidden.jpg", "notes.txt", ".cache/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["1.jpeg", "2.JPG", "10.jpg", "a.tif", "a.TIFF", "b/3.png", "b/c/1.bmp"]


def test_follows_links_once(tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    write(real / "1.png")
    folder = tmp_path / "data"
    write(folder / "0.png")
    (folder / "link").symlink_to(real)
    (real / "back").symlink_to(folder)
    (folder / "self").symlink_to(folder)
    assert names(folder) == ["0.png", "link/1.png"]


@pytest.mark.parametrize(
    ("prepare", "found"),
    [
        (lambda path: None, "found nothing"),
        (lambda path: path.touch(), "found a file"),
        (lambda path: path.mkdir(), "found none"),
    ],
)
def test_unusable_folder_is_named(tmp_path: Path, prepare: object, found: str) -> None:
    folder = tmp_path / "data"
    assert callable(prepare)
    prepare(folder)
    with pytest.raises(DatasetError, match=f"data: expected .*{found}"):
        datasets.list_images(folder)


# --- reading ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_reads_colour_as_bgr(tmp_path: Path, suffix: str) -> None:
    blue = np.zeros((20, 30, 3), np.uint8)
    blue[..., 0] = 200
    frame = datasets.read_frame(write(tmp_path / f"x{suffix}", blue))
    assert frame.shape == (20, 30, 3)
    assert frame.dtype == np.uint8
    assert np.abs(frame.astype(int) - blue).max() <= 4


def test_grey_alpha_and_16_bits_become_8_bit_colour(tmp_path: Path) -> None:
    grey = noise()[..., 0]
    assert np.array_equal(datasets.read_frame(write(tmp_path / "g.png", grey)), np.dstack([grey] * 3))
    alpha = np.dstack([noise(), np.zeros((40, 60), np.uint8)])
    assert np.array_equal(datasets.read_frame(write(tmp_path / "a.png", alpha)), noise())
    deep = noise().astype(np.uint16) * 257
    frame = datasets.read_frame(write(tmp_path / "d.png", deep))
    assert frame.dtype == np.uint8
    assert np.array_equal(frame, noise())


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    encoded = cv2.imencode(".jpg", cv2.resize(noise(4, 6), (60, 40)))[1].tobytes()
    # One big-endian IFD entry: tag 0x0112 (orientation), short, 6 = turn by 90 degrees.
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    block = b"Exif\0\0" + tiff
    turned = encoded[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + encoded[2:]
    (tmp_path / "plain.jpg").write_bytes(encoded)
    (tmp_path / "turned.jpg").write_bytes(turned)
    plain = datasets.read_frame(tmp_path / "plain.jpg")
    assert np.array_equal(datasets.read_frame(tmp_path / "turned.jpg"), np.rot90(plain, -1))


def test_4k_frame_is_read(tmp_path: Path) -> None:
    large = cv2.resize(noise(4, 4), (3840, 2160))
    assert datasets.read_frame(write(tmp_path / "4k.jpg", large)).shape == (2160, 3840, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.95])
def test_cut_file_is_refused_by_name(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"cut{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DatasetError, match=rf"cut{suffix}: "):
        datasets.read_frame(path)


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("no image at all")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "gone")
    for name, found in {
        "empty.jpg": "an empty file",
        "text.png": "something else",
        "folder.jpg": "a folder",
        "broken.jpg": "a broken link",
        "none.jpg": "no file",
    }.items():
        with pytest.raises(DatasetError, match=f"{name}: expected .*found {found}"):
            datasets.read_frame(tmp_path / name)


def test_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    bomb = png_bomb(tmp_path / "bomb.png", 60_000, 60_000)
    with pytest.raises(DatasetError, match=r"bomb\.png: expected at most 67108864 pixels, .*60000x60000"):
        datasets.read_frame(bomb)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
def test_pixel_limit_reads_every_header(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"x{suffix}", noise(41, 60))
    assert datasets.read_frame(path, max_pixels=41 * 60).shape == (41, 60, 3)
    with pytest.raises(DatasetError, match=f"x{suffix}: .*60x41"):
        datasets.read_frame(path, max_pixels=41 * 60 - 1)


def test_progressive_jpeg_with_thumbnail_marker_is_whole(tmp_path: Path) -> None:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    data = cv2.imencode(".jpg", noise(), options)[1].tobytes()
    path = tmp_path / "p.jpg"
    path.write_bytes(data + b"\0\0trailing bytes that some cameras add")
    assert datasets.read_frame(path).shape == (40, 60, 3)
    # An end marker inside an early block must not make a cut file look whole.
    thumbnail = b"\xff\xe1" + struct.pack(">H", 6) + b"\xff\xda\xff\xd9"
    path.write_bytes(data[:2] + thumbnail + data[2 : len(data) // 2])
    with pytest.raises(DatasetError, match=r"cut off|damaged"):
        datasets.read_frame(path)


# --- masks -----------------------------------------------------------------------------


def test_mask_is_positive_above_127(tmp_path: Path) -> None:
    grey = np.array([[0, 127], [128, 255]], np.uint8)
    assert datasets.read_mask(write(tmp_path / "m.png", grey)).tolist() == [[0, 0], [1, 1]]


def test_jpeg_mask_is_clean(tmp_path: Path) -> None:
    disc = cv2.circle(np.zeros((100, 100), np.uint8), (50, 50), 30, 255, -1)
    mask = datasets.read_mask(write(tmp_path / "m.jpg", disc))
    assert set(np.unique(mask)) == {0, 1}
    assert np.count_nonzero(mask != (disc > 0)) <= 4


def test_resized_mask_keeps_its_area() -> None:
    disc = cv2.circle(np.zeros((352, 352), np.uint8), (170, 180), 90, 1, -1)
    small = datasets.resize_mask(disc, (256, 256))
    assert small.shape == (256, 256)
    assert small.mean() == pytest.approx(disc.mean(), rel=0.01)
    assert datasets.resize_mask(disc, (352, 352)) is disc


def test_pairs_by_path_then_by_stem(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg"):
        write(tmp_path / "images" / name)
    for name in ("a/1.png", "b/1.png", "2.png", "9.png"):
        write(tmp_path / "masks" / name)
    pairing = datasets.pair_masks(tmp_path / "images", tmp_path / "masks")
    found = {s.name: s.mask.relative_to(tmp_path / "masks").as_posix() for s in pairing.samples if s.mask}
    assert found == {"a/1.jpg": "a/1.png", "b/1.jpg": "b/1.png", "b/2.jpg": "2.png"}
    assert [path.name for path in pairing.orphan_masks] == ["9.png"]


def test_images_without_mask_are_named(tmp_path: Path) -> None:
    for index in range(6):
        write(tmp_path / "images" / f"{index}.jpg")
    write(tmp_path / "masks/0.jpg")
    with pytest.raises(DatasetError, match=r"6 images, found none for 5: 1\.jpg, 2\.jpg, 3\.jpg and 2 more"):
        datasets.pair_masks(tmp_path / "images", tmp_path / "masks")


def test_ambiguous_pairs_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "images/1.jpg")
    write(tmp_path / "masks/1.jpg")
    write(tmp_path / "masks/1.png")
    with pytest.raises(DatasetError, match=r"one image per stem, found 1\.jpg and 1\.png"):
        datasets.pair_masks(tmp_path / "images", tmp_path / "masks")
    for name in ("a/1.jpg", "b/1.jpg"):
        write(tmp_path / "nested" / name)
    write(tmp_path / "flat/1.png")
    with pytest.raises(DatasetError, match="one image per mask"):
        datasets.pair_masks(tmp_path / "nested", tmp_path / "flat")


def test_mask_of_another_size_is_named(tmp_path: Path) -> None:
    image, mask = write(tmp_path / "1.jpg"), write(tmp_path / "m/1.png", noise(40, 50))
    with pytest.raises(DatasetError, match=r"1\.png: .* its image 1\.jpg, 60x40, found 50x40"):
        datasets.read_sample(Sample("1.jpg", image, mask))


def test_split_of_kvasir_layout(tmp_path: Path) -> None:
    assert datasets.find_split(tmp_path) == (tmp_path, None)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    assert datasets.find_split(tmp_path) == (tmp_path / "images", tmp_path / "masks")


# --- drawing and identity --------------------------------------------------------------


def samples(count: int) -> list[Sample]:
    return [Sample(f"{index}.jpg", Path(f"{index}.jpg")) for index in range(count)]


def test_draw_is_fixed_for_all_time() -> None:
    # Computed once with sha256sum and sort.
    drawn = [sample.name for sample in datasets.draw(samples(100), 5, seed=7)]
    assert drawn == ["1.jpg", "9.jpg", "60.jpg", "86.jpg", "90.jpg"]
    assert datasets.draw(samples(100), 5, seed=7) != datasets.draw(samples(100), 5, seed=8)


def test_draw_takes_each_once_and_keeps_the_order() -> None:
    everything = samples(50)
    drawn = datasets.draw(everything, 20, seed=1)
    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn, key=everything.index)
    assert datasets.draw(everything, 80) == everything
    assert datasets.draw(everything, 0) == []
    with pytest.raises(ValueError, match="-1"):
        datasets.draw(everything, -1)


def test_another_image_displaces_at_most_one() -> None:
    before = set(datasets.draw(samples(100), 30, seed=3))
    after = set(datasets.draw(samples(101), 30, seed=3))
    assert len(before - after) <= 1


def test_draw_is_uniform() -> None:
    counts = np.zeros(20)
    for seed in range(2000):
        for sample in datasets.draw(samples(20), 5, seed):
            counts[int(sample.image.stem)] += 1
    # Binomial(2000, 1/4): 500 +- 19.4; five sigma.
    assert np.abs(counts - 500).max() < 97


def test_digest_depends_on_content_and_order_alone(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.png"), write(tmp_path / "2.png", noise(seed=1))
    copy = tmp_path / "renamed.png"
    copy.write_bytes(first.read_bytes())
    digest = datasets.images_digest([first, second])
    assert digest == datasets.images_digest([copy, second])
    assert digest != datasets.images_digest([second, first])
    assert datasets.frames_digest([noise(), noise()]) != datasets.frames_digest([noise()])
    turned = noise(40, 60).reshape(60, 40, 3)
    assert datasets.frames_digest([noise(40, 60)]) != datasets.frames_digest([turned])


def test_real_dataset_pairs(test_data: Path) -> None:
    split = test_data / "data" / "kvasir-seg" / "validation"
    pairing = datasets.pair_masks(split / "images", split / "masks")
    assert len(pairing.samples) == 100
    assert pairing.orphan_masks == ()
    assert [sample.name for sample in pairing.samples[:3]] == ["0.jpg", "1.jpg", "2.jpg"]
    frame, mask = datasets.read_sample(pairing.samples[0])
    assert mask is not None
    assert frame.shape[:2] == mask.shape
    assert 0.0 < mask.mean() < 1.0
