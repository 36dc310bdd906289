from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge.data import download as download_module
from nanonet_edge.data import unpack
from nanonet_edge.data.fetch import fetch_dataset, read_source
from nanonet_edge.data.layouts import open_dataset
from nanonet_edge.data.sources import Download, Source, find_source
from nanonet_edge.errors import DatasetError, InputError, UnsupportedError, UsageError
from tests.nanonet_edge.data.unreliable_server import Behaviour, serve

STEMS = ("a", "b", "c")
KVASIR_SEG = find_source("kvasir-seg")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "_FIRST_PAUSE", 0.0)


def picture(index: int, suffix: str = ".jpg") -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    return bytes(cv2.imencode(suffix, pixels)[1])


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


ARCHIVE = zipped(
    {f"Kvasir-SEG/{folder}/{stem}.jpg": picture(0) for folder in ("images", "masks") for stem in STEMS}
    | {"Kvasir-SEG/kavsir_bboxes.json": b"{}"}
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_kvasir_seg_from_a_mirror(tmp_path: Path) -> None:
    folder, stages = tmp_path / "data" / "kvasir-seg", set()
    with serve(Behaviour(ARCHIVE, drop_after=[500])) as url:
        record = fetch_dataset(
            KVASIR_SEG, folder, url=f"{url}/x.zip", progress=lambda stage, done, total: stages.add(stage)
        )
    assert (record.images, record.masks) == (3, 3)
    assert record.files[0].sha256 == digest(ARCHIVE)
    assert record.files[0].checked == "first use"
    assert open_dataset(folder).layout.name == "kvasir-seg"
    assert names(folder) == {"images", "masks", "kavsir_bboxes.json", "source.json"}
    assert names(tmp_path / "data") == {"kvasir-seg"}
    assert read_source(folder) == record
    assert "research and educational" in json.loads((folder / "source.json").read_text())["terms"]
    assert stages == {"fetch kvasir-seg.zip", "unpack"}


def test_extras_lie_beside_the_images_and_are_checked(tmp_path: Path) -> None:
    split = b"a\nb\n"
    plan = Behaviour(ARCHIVE, others={"/train.txt": split})
    with serve(plan) as url:
        source = replace(
            KVASIR_SEG,
            archive=Download(f"{url}/kvasir-seg.zip", "kvasir-seg.zip"),
            extras=(Download(f"{url}/train.txt", "train.txt", digest(split)),),
        )
        record = fetch_dataset(source, tmp_path / "data")
        assert [file.checked for file in record.files] == ["first use", "published"]
        assert [sample.name for sample in open_dataset(tmp_path / "data", "train").samples] == [
            "a.jpg",
            "b.jpg",
        ]
        plan.others["/train.txt"] = b"a\nc\n"
        with pytest.raises(InputError, match=r"/train\.txt: expected SHA-256 .* \(published\), found"):
            fetch_dataset(source, tmp_path / "other")
    assert names(tmp_path) == {"data"}


def test_kvasir_instrument_is_unpacked_twice(tmp_path: Path) -> None:
    content = zipped(
        {
            "kvasir-instrument/images.tar.gz": tarred({f"images/{stem}.jpg": picture(0) for stem in STEMS}),
            "kvasir-instrument/masks.tar.gz": tarred(
                {f"masks/{stem}.png": picture(0, ".png") for stem in STEMS}
            ),
            "kvasir-instrument/train.txt": b"a\nb\n",
            "kvasir-instrument/test.txt": b"c\n",
        }
    )
    with serve(Behaviour(content)) as url:
        fetch_dataset(find_source("kvasir-instrument"), tmp_path / "tools", url=f"{url}/file")
    opened = open_dataset(tmp_path / "tools", "test")
    assert opened.layout.name == "kvasir-instrument"
    assert opened.has_masks
    assert [sample.name for sample in opened.samples] == ["c.jpg"]


def test_a_given_checksum_is_held_to(tmp_path: Path) -> None:
    with serve(Behaviour(ARCHIVE)) as url:
        with pytest.raises(
            InputError, match=rf"expected SHA-256 {'0' * 64} \(given\), found {digest(ARCHIVE)}"
        ):
            fetch_dataset(KVASIR_SEG, tmp_path / "data", url=f"{url}/file", sha256="0" * 64)
        assert names(tmp_path) == set()
        record = fetch_dataset(
            KVASIR_SEG, tmp_path / "data", url=f"{url}/file", sha256=digest(ARCHIVE).upper()
        )
    assert record.files[0].checked == "given"
    with pytest.raises(UsageError, match="expected a SHA-256, 64 hexadecimal digits"):
        fetch_dataset(KVASIR_SEG, tmp_path / "data", sha256="abc")


def test_a_later_fetch_must_bring_the_same_bytes(tmp_path: Path) -> None:
    folder, plan = tmp_path / "data", Behaviour(ARCHIVE)
    with serve(plan) as url:
        fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file")
        again = fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file", overwrite=True)
        assert again.files[0].checked == "earlier fetch"
        plan.content = zipped({"images/a.jpg": picture(1), "masks/a.jpg": picture(2)})
        with pytest.raises(
            InputError, match=r"\(earlier fetch in source.json \(--sha256 accepts another\)\)"
        ):
            fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file", overwrite=True)
        assert read_source(folder) == again
        assert len(open_dataset(folder).samples) == 3
        fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file", overwrite=True, sha256=digest(plan.content))
    assert len(open_dataset(folder).samples) == 1


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("precious")
    plan = Behaviour(ARCHIVE)
    with serve(plan) as url:
        with pytest.raises(UsageError, match="data: expected an empty folder or none; add --overwrite"):
            fetch_dataset(KVASIR_SEG, tmp_path / "data", url=f"{url}/file")
        assert plan.requests == []
        fetch_dataset(KVASIR_SEG, tmp_path / "data", url=f"{url}/file", overwrite=True)
    assert not (tmp_path / "data" / "mine.txt").exists()
    with pytest.raises(UsageError, match="expected an empty folder"):
        fetch_dataset(KVASIR_SEG, tmp_path / "data" / "source.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>moved</html>", "expected a whole ZIP archive"),
        (ARCHIVE[:-50], "expected a whole ZIP archive"),
        (zipped({"../evil.jpg": b"1"}), "it leads out of the folder"),
        (
            zipped({"readme.txt": b"no images", "b.txt": b""}),
            "what was unpacked is no dataset: its folder: exp",
        ),
        (zipped({"images/a.jpg": picture(0), "masks/b.jpg": picture(0)}), "expected a mask for each of 1"),
    ],
)
def test_what_is_no_dataset_leaves_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    folder = tmp_path / "data"
    with serve(Behaviour(content)) as url, pytest.raises((InputError, DatasetError), match=message):
        fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file")
    assert names(tmp_path) == set()


def test_a_failed_replacement_leaves_the_old_dataset(tmp_path: Path) -> None:
    folder, plan = tmp_path / "data", Behaviour(ARCHIVE)
    with serve(plan) as url:
        fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file")
        plan.content = zipped({"readme.txt": b"", "b.txt": b""})
        with pytest.raises(DatasetError):
            fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file", overwrite=True, sha256=digest(plan.content))
    assert len(open_dataset(folder).samples) == 3
    assert names(tmp_path) == {"data"}


def test_what_arrived_of_a_broken_download_is_kept_beside(tmp_path: Path) -> None:
    folder, plan = tmp_path / "data", Behaviour(ARCHIVE, drop_after=[700, *[0] * 9])
    with serve(plan) as url:
        with pytest.raises(InputError, match="run again to go on"):
            fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file")
        assert names(tmp_path) == {".data.kvasir-seg.zip.part", ".data.kvasir-seg.zip.part.json"}
        plan.drop_after.clear()
        fetch_dataset(KVASIR_SEG, folder, url=f"{url}/file")
    assert plan.requests[-1][0] == "bytes=700-"
    assert names(tmp_path) == {"data"}


def test_a_disk_that_fills_up_while_unpacking_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpack, "_copy", full)
    with serve(Behaviour(ARCHIVE)) as url, pytest.raises(OSError, match="No space left"):
        fetch_dataset(KVASIR_SEG, tmp_path / "data", url=f"{url}/file")
    assert names(tmp_path) == set()


SOURCES = [
    find_source(name) for name in ("kvasir-seg", "kvasir-instrument", "endotect-2020", "kvasir-capsule-seg")
]


@pytest.mark.parametrize("source", SOURCES, ids=[source.name for source in SOURCES])
def test_sources_are_official_and_say_their_terms(source: Source) -> None:
    assert source.page.startswith("https://datasets.simula.no/")
    assert source.archive.url.startswith("https://datasets.simula.no/downloads/")
    assert source.archive.url.endswith(f"/{source.archive.name}")
    assert source.archive.sha256 is None  # that site publishes none
    assert len(source.terms) > 100
    assert re.search(r"\b20[12]\d\b", source.citation)
    for extra in source.extras:
        assert re.search(r"/[0-9a-f]{40}/", extra.url)  # a commit: its bytes cannot change
        assert re.fullmatch(r"[0-9a-f]{64}", str(extra.sha256))


def test_unknown_names_and_those_that_only_a_person_can_fetch() -> None:
    with pytest.raises(UsageError, match="'x': expected one of kvasir-seg, kvasir-instrument"):
        find_source("x")
    with pytest.raises(UnsupportedError, match="medico-2020: its development set is kvasir-seg"):
        find_source("medico-2020")
