from __future__ import annotations

import contextlib
import io
import stat
import struct
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.data import unpack
from nanonet_edge.data.unpack import unpack_zip
from nanonet_edge.errors import InputError


def make_zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def make_tar(entries: dict[str, bytes], *special: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in special:
            archive.addfile(info)
    return buffer.getvalue()


def named(name: str) -> zipfile.ZipInfo:
    """An entry of exactly this name: zipfile mends some when it is given them at once."""
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    return info


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_top_folder_and_what_archivers_leave_are_left_out(tmp_path: Path, folder: Path) -> None:
    entries = {
        "Kvasir-SEG/images/a.jpg": b"1",
        "Kvasir-SEG/masks/a.jpg": b"2",
        "__MACOSX/Kvasir-SEG/._images": b"x",
        "Kvasir-SEG/.DS_Store": b"x",
        "Kvasir-SEG/images/._a.jpg": b"x",
    }
    assert unpack_zip(make_zip(tmp_path / "a.zip", entries), folder) == 2
    assert tree(folder) == {"images/a.jpg": b"1", "masks/a.jpg": b"2"}


def test_two_top_folders_stay(tmp_path: Path, folder: Path) -> None:
    unpack_zip(make_zip(tmp_path / "a.zip", {"images/a.jpg": b"1", "masks/a.jpg": b"2"}), folder)
    assert set(tree(folder)) == {"images/a.jpg", "masks/a.jpg"}


def test_tar_archives_inside_are_unpacked_in_their_place(tmp_path: Path, folder: Path) -> None:
    entries = {
        "kvasir-instrument/images.tar.gz": make_tar({"./images/a.jpg": b"1", "images/._a.jpg": b"x"}),
        "kvasir-instrument/masks.tar.gz": make_tar({"masks/a.png": b"2"}),
        "kvasir-instrument/train.txt": b"a\n",
    }
    assert unpack_zip(make_zip(tmp_path / "a.zip", entries), folder) == 3
    assert tree(folder) == {"images/a.jpg": b"1", "masks/a.png": b"2", "train.txt": b"a\n"}


ESCAPES = ["../evil", "a/../../evil", "/evil", "..\\evil", "C:evil", "a\\..\\..\\evil"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_out_are_refused(tmp_path: Path, folder: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", {"good": b"1"})
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(named(name), b"2")
    with pytest.raises(InputError, match="it leads out of the folder"):
        unpack_zip(archive, folder)
    assert tree(folder) == {}
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out"}


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_a_tar_inside_may_not_lead_out_either(tmp_path: Path, folder: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x/images.tar.gz": make_tar({name: b"1"}), "x/b": b""})
    with pytest.raises(InputError, match="it leads out of the folder"):
        unpack_zip(archive, folder)
    assert {path.name for path in tmp_path.iterdir()} == {"a.zip", "out"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, folder: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("images/a.jpg")
    info.type, info.linkname = kind, "/etc/passwd"
    archive = make_zip(tmp_path / "a.zip", {"images.tar.gz": make_tar({"images/b.jpg": b"1"}, info)})
    with pytest.raises(InputError, match=r"refusing 'images/a\.jpg': it is no plain file"):
        unpack_zip(archive, folder)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, folder: Path, mode: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/a.jpg", b"1")
        info = zipfile.ZipInfo("images/b.jpg")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(info, b"/etc/passwd")
    with pytest.raises(InputError, match=r"refusing 'images/b\.jpg': it is no plain file"):
        unpack_zip(path, folder)
    assert tree(folder) == {}


def test_bombs_are_stopped(tmp_path: Path, folder: Path) -> None:
    bomb = make_zip(tmp_path / "a.zip", {"images/a.jpg": bytes(8 << 20)})
    assert bomb.stat().st_size < 10_000
    with pytest.raises(InputError, match="unpacks to more than a dataset of its size can hold"):
        unpack_zip(bomb, folder)
    with pytest.raises(InputError, match="unpacks to more"):
        unpack_zip(make_zip(tmp_path / "b.zip", {"a": bytes(200), "b": bytes(200)}), folder, max_bytes=300)


def test_a_bomb_in_a_tar_is_stopped_while_it_unpacks(tmp_path: Path, folder: Path) -> None:
    inner = make_tar({"images/a.jpg": bytes(5 << 20)})
    archive = make_zip(tmp_path / "a.zip", {"x/images.tar.gz": inner, "x/train.txt": b""})
    with pytest.raises(InputError, match="unpacks to more"):
        unpack_zip(archive, folder, max_bytes=3 << 20)
    assert sum(len(content) for content in tree(folder).values()) <= 3 << 20


def test_too_many_entries_are_refused(tmp_path: Path, folder: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {f"{index}.jpg": b"" for index in range(11)})
    with pytest.raises(InputError, match="entries, found more"):
        unpack_zip(archive, folder, max_entries=10)


def test_names_given_twice_are_refused_whatever_their_case(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="expected each name once"):
        unpack_zip(make_zip(tmp_path / "a.zip", {"images/a.jpg": b"1", "images/A.jpg": b"2"}), folder)


def test_encrypted_entries_are_refused(tmp_path: Path, folder: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"images/a.jpg": b"1"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + offset
        content[at : at + 2] = struct.pack("<H", struct.unpack_from("<H", content, at)[0] | 1)
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="it is encrypted"):
        unpack_zip(path, folder)


@pytest.mark.parametrize("how", ["no zip", "cut", "flipped", "empty", "bad tar"])
def test_damaged_archives_are_named(tmp_path: Path, folder: Path, how: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/a.jpg", bytes(range(256)) * 8)
        archive.writestr("images.tar.gz", b"\x1f\x8bno" if how == "bad tar" else make_tar({"m/a": b"1"}))
    content = path.read_bytes()
    if how == "no zip":
        path.write_text("<html>not found</html>")
    elif how == "cut":
        path.write_bytes(content[:-40])
    elif how == "flipped":
        path.write_bytes(content[:200] + bytes([content[200] ^ 255]) + content[201:])
    elif how == "empty":
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"expected a whole (ZIP|tar) archive"):
        unpack_zip(path, folder)


def test_a_full_disk_is_seen_before_anything_is_written(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(InputError, match="expected room for 2048 bytes, found 10 free"):
        unpack_zip(make_zip(tmp_path / "a.zip", {"images/a.jpg": bytes(2048)}), folder)
    assert tree(folder) == {}


@given(
    st.lists(
        st.one_of(
            st.text("ab./\\:~ \u00e9", min_size=1, max_size=12),
            st.sampled_from(["../x", "/x", "a/../../x", "a/./b", "a//b", "~/x", "con", "a/b/../../../x"]),
        ),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_nothing_ever_lies_outside(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    root = tmp_path_factory.mktemp("zip")
    inner, outer = root / "deep" / "er", root / "deep" / "er" / "out"
    outer.mkdir(parents=True)
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for index, name in enumerate(names):
            archive.writestr(named(name), str(index))
    with contextlib.suppress(InputError, OSError):
        unpack_zip(root / "a.zip", outer)
    outside = [path for path in root.rglob("*") if path.is_file() and outer not in path.parents]
    assert outside == [root / "a.zip"]
    assert list(inner.iterdir()) == [outer]
