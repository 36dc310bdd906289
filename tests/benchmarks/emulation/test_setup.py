"""Setting an emulated machine up: what is missing, cut off, damaged, hostile."""

from __future__ import annotations

import dataclasses
import io
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nanonet_edge.benchmarks.emulation import setup
from nanonet_edge.benchmarks.emulation.cache import Place, default_cache, digest_tree
from nanonet_edge.benchmarks.emulation.machines import AARCH64, ARMV7, Wheel, find_machine
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.manifest import sha256_file
from tests.benchmarks.emulation.fakes import plant, program, use

#: What mmdebstrap is asked to write, made beforehand.
BOOTSTRAP = "import shutil\nshutil.copy({tar!r}, sys.argv[-2])\nprint(*sys.argv, file=open({log!r}, 'a'))"
BROKEN = "print('E: cannot reach the mirror', file=sys.stderr)\nsys.exit(1)"


def write_tar(path: Path, *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for folder in (".", "./usr", "./usr/bin", "./usr/lib", "./dev"):
            archive.addfile(entry(folder, tarfile.DIRTYPE))
        for name, text in (("./usr/bin/python3.11", "python"), ("./usr/lib/data", "data")):
            info = entry(name, tarfile.REGTYPE)
            info.size, info.mode = len(text), 0o755 if "bin" in name else 0o640
            archive.addfile(info, io.BytesIO(text.encode()))
        archive.addfile(entry("./usr/bin/python3", tarfile.SYMTYPE, "python3.11"))
        archive.addfile(entry("./usr/bin/python", tarfile.LNKTYPE, "./usr/bin/python3.11"))
        archive.addfile(entry("./dev/null", tarfile.CHRTYPE))
        listing = b"python3_3.11.2-1+b1_arm64.deb\nzlib1g_1%3a1.2.13.dfsg-1_arm64.deb\npartial\n"
        info = entry("./package-versions", tarfile.REGTYPE)
        info.size = len(listing)
        archive.addfile(info, io.BytesIO(listing))
        for info in extra:
            archive.addfile(info)
    return path


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/__init__.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Name: tiny")
    return path


@pytest.fixture
def place(tmp_path: Path, wheel: Path) -> Place:
    pinned = Wheel("tiny", "1.0", wheel.name, sha256_file(wheel))
    return Place(dataclasses.replace(AARCH64, wheels=(pinned,)), tmp_path / "cache")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """QEMU and mmdebstrap that work; the latter's calls, one a line."""
    programs, log = tmp_path / "bin", tmp_path / "calls"
    tar = write_tar(tmp_path / "root.tar")
    program(programs, "qemu-aarch64-static", "")
    program(programs, "mmdebstrap", BOOTSTRAP.format(tar=str(tar), log=str(log)))
    use(monkeypatch, programs)
    return log


Fetched = list[tuple[str, ...]]


@pytest.fixture
def fetched(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Fetched:
    """A package index with one wheel; what was asked of it."""
    asked: Fetched = []

    def fetch(
        requirements: Sequence[str], *, machine: str, python: str, folder: Path, report: Callable[[str], None]
    ) -> tuple[Path, ...]:
        del report
        asked.append((*requirements, machine, python))
        folder.mkdir(parents=True, exist_ok=True)
        copy = folder / wheel.name
        copy.write_bytes(wheel.read_bytes())
        return (copy,)

    monkeypatch.setattr(setup, "fetch_wheels", fetch)
    return asked


def test_set_up_makes_both_trees(place: Place, log: Path, fetched: Fetched) -> None:
    lines: list[str] = []
    assert len(setup.plan(place)) == 2
    setup.set_up(place, mirror="http://mirror.example/debian", report=lines.append)
    place.check()
    root, site = place.tree("root"), place.tree("site")
    assert (root / "usr/bin/python3").read_text() == (root / "usr/bin/python").read_text() == "python"
    assert (root / "usr/bin/python3").readlink() == Path("python3.11")
    assert not (root / "dev").exists()
    assert (site / "tiny/__init__.py").is_file()
    assert not place.wheels.exists()
    found = place.read("root")
    assert found is not None
    assert found.contents == {"python3": "3.11.2-1+b1", "zlib1g": "1:1.2.13.dfsg-1"}
    (call,) = log.read_text().splitlines()
    for word in ("--architectures=arm64", "--variant=extract", "bookworm", "http://mirror.example/debian"):
        assert word in call.split()
    assert fetched == [("tiny==1.0", "aarch64", "3.11")]
    assert lines[0] == f"making {root}"


def test_what_is_there_is_not_made_again(place: Place, log: Path, fetched: Fetched) -> None:
    setup.set_up(place)
    setup.set_up(place)
    assert setup.plan(place) == ()
    assert len(log.read_text().splitlines()) == len(fetched) == 1


def test_cut_off_before_the_wheels_goes_on_with_them(
    place: Place, log: Path, fetched: Fetched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(*_: Any, **__: Any) -> tuple[Path, ...]:
        raise InputError("the package index cannot be reached")

    with monkeypatch.context() as context:
        context.setattr(setup, "fetch_wheels", drop)
        with pytest.raises(InputError, match="index"):
            setup.set_up(place)
    assert (place.state("root"), place.state("site")) == ("ready", "absent")
    with pytest.raises(UsageError, match="not set up: nanonet-edge emulate setup --machine aarch64"):
        place.check()
    setup.set_up(place)
    place.check()
    assert len(log.read_text().splitlines()) == len(fetched) == 1


def test_half_built_root_is_made_anew(place: Place, log: Path, fetched: Fetched) -> None:
    del log, fetched
    (place.tree("root") / "usr").mkdir(parents=True)
    assert place.state("root") == "unfinished"
    with pytest.raises(UsageError, match="half set up"):
        place.check()
    setup.set_up(place)
    place.check()


@pytest.mark.parametrize("damage", ["change", "add", "remove", "retarget", "mode"])
def test_damage_is_seen_and_mended(place: Place, log: Path, fetched: Fetched, damage: str) -> None:
    del log, fetched
    setup.set_up(place)
    usr = place.tree("root") / "usr"
    if damage == "change":
        (usr / "lib/data").write_text("Data")
    elif damage == "add":
        (usr / "lib/more").touch()
    elif damage == "remove":
        (usr / "lib/data").unlink()
    elif damage == "retarget":
        (usr / "bin/python3").unlink()
        (usr / "bin/python3").symlink_to("python")
    else:
        (usr / "lib/data").chmod(0o755)
    assert place.state("root") == "damaged"
    with pytest.raises(UsageError, match="damaged"):
        place.check()
    setup.set_up(place)
    place.check()


def test_another_release_asks_for_another_machine(place: Place, log: Path, fetched: Fetched) -> None:
    del log, fetched
    setup.set_up(place)
    newer = Place(dataclasses.replace(place.machine, packages=("python3", "more")), place.cache)
    assert (newer.state("root"), newer.state("site")) == ("outdated", "ready")


def test_wheel_with_another_digest_is_refused_and_deleted(place: Place, log: Path, fetched: Fetched) -> None:
    del log, fetched
    other = Place(
        dataclasses.replace(
            place.machine, wheels=(dataclasses.replace(place.machine.wheels[0], sha256="0" * 64),)
        ),
        place.cache,
    )
    with pytest.raises(InputError, match=r"tiny-1\.0.*expected sha256 000000000000…, found"):
        setup.set_up(other)
    assert not list(other.wheels.glob("*.whl"))
    assert other.state("site") == "absent"


def test_bootstrap_that_fails_is_one_line(place: Place, tmp_path: Path, log: Path, fetched: Fetched) -> None:
    del log
    program(tmp_path / "bin", "mmdebstrap", BROKEN)
    with pytest.raises(InputError, match="mmdebstrap failed, saying E: cannot reach the mirror"):
        setup.set_up(place)
    assert place.state("root") == "absent"
    assert not list(place.folder.iterdir())
    assert fetched == []


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ((), "qemu-aarch64-static, mmdebstrap"),
        (("mmdebstrap",), "qemu-aarch64-static"),
        (("qemu-aarch64",), "mmdebstrap"),
    ],
)
def test_missing_programs_are_named_with_the_line_to_type(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: Sequence[str], missing: str
) -> None:
    for name in present:
        program(tmp_path / "bin", name, "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UsageError) as error:
        setup.set_up(place)
    assert f"needs {missing}, not found" in str(error.value)
    assert "apt-get install --no-install-recommends " in str(error.value)
    assert not place.folder.exists()


@pytest.mark.parametrize(
    "hostile",
    [
        [entry("../evil", tarfile.REGTYPE)],
        [entry("/evil", tarfile.REGTYPE)],
        [entry("./out", tarfile.SYMTYPE, "/tmp"), entry("./out/evil", tarfile.REGTYPE)],
    ],
    ids=["parent", "absolute", "through a link"],
)
def test_entries_that_lead_out_are_refused(tmp_path: Path, hostile: list[tarfile.TarInfo]) -> None:
    tar = write_tar(tmp_path / "root.tar", *hostile)
    (tmp_path / "root").mkdir()
    with pytest.raises(InputError, match=r"evil.*leads out"):
        setup.unpack_root(tar, tmp_path / "root")


@pytest.mark.parametrize("target", ["./usr/none", "./usr/self"])
def test_hard_links_to_nothing_are_refused(tmp_path: Path, target: str) -> None:
    tar = write_tar(tmp_path / "root.tar", entry("./usr/self", tarfile.LNKTYPE, target))
    (tmp_path / "root").mkdir()
    with pytest.raises(InputError, match="expected hard links to files"):
        setup.unpack_root(tar, tmp_path / "root")


def test_no_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="expected a tar archive"):
        setup.unpack_root(tmp_path / "root.tar", tmp_path)


def test_remove_takes_what_is_ours(tmp_path: Path) -> None:
    place = plant(tmp_path / "cache")
    (place.folder / "notes.txt").write_text("the user's")
    assert place.remove()
    assert [path.name for path in place.folder.iterdir()] == ["notes.txt"]
    assert not Place(ARMV7, tmp_path / "cache").remove()


def test_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "two")
    (tmp_path / "two/file").rename(tmp_path / "two/other")
    assert digest_tree(tmp_path / "one") != digest_tree(tmp_path / "two")


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANONET_EDGE_EMULATION", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "nanonet-edge" / "emulation"
    monkeypatch.setenv("NANONET_EDGE_EMULATION", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"


def test_unknown_machine() -> None:
    with pytest.raises(UsageError, match="'riscv64' cannot be emulated: expected one of aarch64, armv7"):
        find_machine("riscv64")
