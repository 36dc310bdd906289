"""Every device is recognised from its own files, whatever else lies among them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.devices import detect, load_catalogue
from nanonet_edge.devices.jetpack import parse_tegra_release
from tests.nanonet_edge.devices.trees import (
    ACCELERATORS,
    ARMV7_CPUINFO,
    BOARDS,
    X86_CPUINFO,
    pci,
    plant,
    tree,
    usb,
)

CATALOGUE = load_catalogue(environment={})
READ = ("proc/device-tree/model", "proc/device-tree/compatible", "proc/cpuinfo", "etc/nv_tegra_release")


def test_there_is_a_tree_for_every_profile() -> None:
    assert BOARDS.keys() | ACCELERATORS.keys() == CATALOGUE.profiles.keys()


@pytest.mark.parametrize("name", BOARDS)
def test_board_is_recognised_by_what_it_shows(name: str, tmp_path: Path) -> None:
    found = detect(plant(tmp_path, BOARDS[name]), CATALOGUE)
    assert found.board is not None
    assert found.names == (name,)
    assert found.board.confidence == ("low" if name.startswith("generic") else "high")
    assert found.board.evidence
    for evidence in found.board.evidence:
        assert (tmp_path / evidence.file).exists()
    assert (found.conflicts, found.troubles) == ((), ())


@pytest.mark.parametrize("name", ACCELERATORS)
@pytest.mark.parametrize("host", ["raspberry-pi-5", "generic-x86-64"])
def test_accelerator_is_found_beside_its_host(name: str, host: str, tmp_path: Path) -> None:
    found = detect(plant(tmp_path, BOARDS[host] | ACCELERATORS[name]), CATALOGUE)
    assert found.names == (host, name)
    assert found.accelerators[0].confidence == "high"


def test_usb_accelerator_is_known_before_its_firmware_loads_and_after(tmp_path: Path) -> None:
    for index, identifier in enumerate(("1a6e:089a", "18d1:9302")):
        root = plant(
            tmp_path / str(index), BOARDS["raspberry-pi-4"] | usb("1d6b:0002", "usb1") | usb(identifier)
        )
        (match,) = detect(root, CATALOGUE).accelerators
        assert (match.profile, match.evidence[0].said) == ("coral-usb", identifier)
        assert match.evidence[0].file == "sys/bus/usb/devices/2-1"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("p3767-0000", "jetson-orin-nx"),
        ("p3767-0001", "jetson-orin-nx"),
        ("p3767-0003", "jetson-orin-nano"),
        ("p3767-0004", "jetson-orin-nano"),
        ("p3767-0005", "jetson-orin-nano"),
        ("p3701-0004", "jetson-agx-orin"),
        ("p3701-0005", "jetson-agx-orin"),
        ("p3668-0000", "jetson-xavier-nx"),
        ("p3448-0000", "jetson-nano"),
    ],
)
def test_module_number_alone_is_enough(module: str, name: str, tmp_path: Path) -> None:
    found = detect(
        plant(tmp_path, tree("Somebody's carrier board", f"acme,x+{module}", "nvidia,x")), CATALOGUE
    )
    assert found.board is not None
    assert (found.board.profile, found.board.confidence) == (name, "high")


def test_a_big_module_that_poses_as_a_small_one_is_the_big_one(tmp_path: Path) -> None:
    compatible = "nvidia,p3737-0000+p3701-0000-as-p3767-0004"
    found = detect(plant(tmp_path, tree("Jetson AGX Orin as Nano 4GB", compatible)), CATALOGUE)
    assert found.names == ("jetson-agx-orin",)


@pytest.mark.parametrize(
    "model", ["Raspberry Pi 5 Model Bx", "Raspberry Pi 3 Model B Rev 1.2", "Raspberry Pi 400 Rev 1.0", "pi"]
)
def test_a_similar_name_is_another_board(model: str, tmp_path: Path) -> None:
    assert detect(plant(tmp_path, tree(model)), CATALOGUE).names == ("generic-aarch64",)


def test_part_number_outweighs_a_name_and_the_contradiction_is_told(tmp_path: Path) -> None:
    root = plant(tmp_path, tree("Raspberry Pi 5 Model B Rev 1.0", "nvidia,p3768-0000+p3767-0005"))
    found = detect(root, CATALOGUE)
    assert found.board is not None
    assert (found.board.profile, found.board.confidence) == ("jetson-orin-nano", "medium")
    (line,) = found.conflicts
    assert "proc/device-tree/model" in line
    assert "Raspberry Pi 5" in line


def test_container_that_hides_the_device_tree_still_shows_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = "Features\t: fp asimd\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n"
    found = detect(plant(tmp_path, {"proc/cpuinfo": cpuinfo.encode()}), CATALOGUE)
    assert found.board is not None
    assert (found.board.profile, found.board.confidence) == ("raspberry-pi-5", "medium")


def test_32_bit_system_of_unknown_kind_is_no_64_bit_machine(tmp_path: Path) -> None:
    assert detect(plant(tmp_path, {"proc/cpuinfo": ARMV7_CPUINFO.encode()}), CATALOGUE).board is None


def test_empty_root_tells_nothing(tmp_path: Path) -> None:
    found = detect(tmp_path, CATALOGUE)
    assert (found.board, found.accelerators, found.troubles) == (None, (), ())
    assert detect(tmp_path / "absent", CATALOGUE).board is None


def test_this_machine_is_something() -> None:
    assert detect(catalogue=CATALOGUE).board is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# R36 (release), REVISION: 4.7, GCID: 1, BOARD: generic", ("36.4.7", "6.2.1", "10.3")),
        ("# R36 (release), REVISION: 4.0, GCID: 1", ("36.4.0", "6.1", "10.3")),
        ("# R36 (release), REVISION: 3.0, GCID: 1", ("36.3.0", "6.0", "8.6")),
        ("# R36 (release), REVISION: 5.0, GCID: 1", ("36.5.0", "6.2.2", "10.3")),
        ("# R35 (release), REVISION: 6.4, GCID: 1", ("35.6.4", "5.1.6", "8.5")),
        ("# R32 (release), REVISION: 7.6, GCID: 1", ("32.7.6", "4.6.6", "8.2")),
        ("# R39 (release), REVISION: 2.0, GCID: 1", ("39.2.0", "7.2", None)),
        ("# R99 (release), REVISION: 1.0, GCID: 1", ("99.1.0", None, None)),
    ],
)
def test_release_of_jetson_linux(text: str, expected: tuple[str, str | None, str | None]) -> None:
    found = parse_tegra_release(text)
    assert found is not None
    assert (found.release, found.jetpack, found.tensorrt) == expected


@given(st.text())
def test_release_of_anything_is_none_or_a_number(text: str) -> None:
    found = parse_tegra_release(text)
    assert found is None or found.release[0].isdigit()


HOSTILE = {
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "control characters": b"Raspberry Pi 5 Model B\x1b[31m\n",
    "huge": b"Raspberry Pi 5 Model B\0" * 50_000,
    "not UTF-8": b"Raspberry Pi 5 Model B \xe9\xff",
    "only NULs": b"\0" * 64,
}


@pytest.mark.parametrize("content", HOSTILE, ids=str)
def test_hostile_content_of_one_file_leaves_the_others_to_speak(content: str, tmp_path: Path) -> None:
    for index, path in enumerate(READ):
        files = BOARDS["jetson-orin-nano"] | {path: HOSTILE[content]}
        found = detect(plant(tmp_path / str(index), files), CATALOGUE)
        assert found.names == ("jetson-orin-nano",)
        for evidence in found.board.evidence if found.board else ():
            assert evidence.said.isprintable()
            assert len(evidence.said) <= 120


@pytest.mark.parametrize("content", HOSTILE, ids=str)
def test_hostile_content_everywhere_is_survived(content: str, tmp_path: Path) -> None:
    files = dict.fromkeys((*READ, *usb("18d1:9302"), *pci("1ac1:089a")), HOSTILE[content])
    found = detect(plant(tmp_path, files), CATALOGUE)
    assert found.board is None or found.board.confidence == "low"
    assert all(line.isprintable() for line in found.troubles)
    if content == "huge":
        assert any("proc/device-tree/model: expected at most" in line for line in found.troubles)


def test_unreadable_file_is_told(tmp_path: Path) -> None:
    root = plant(tmp_path, BOARDS["raspberry-pi-5"])
    (root / "proc/device-tree/compatible").unlink()
    (root / "proc/device-tree/compatible").mkdir()
    os.mkfifo(root / "etc_fifo")
    (root / "etc").mkdir()
    (root / "etc/nv_tegra_release").symlink_to("../etc_fifo")
    found = detect(root, CATALOGUE)
    assert found.names == ("raspberry-pi-5",)
    assert any("etc/nv_tegra_release: expected a file" in line for line in found.troubles)
    assert any("proc/device-tree/compatible: " in line for line in found.troubles)


def test_absolute_links_stay_inside_the_root(tmp_path: Path) -> None:
    """/proc/device-tree is such a link, and in a copy of a board it must not lead to this machine's."""
    root = plant(
        tmp_path / "root", {"sys/firmware/devicetree/base/model": b"Raspberry Pi 4 Model B Rev 1.4\0"}
    )
    (root / "proc").mkdir()
    (root / "proc/device-tree").symlink_to("/sys/firmware/devicetree/base")
    assert detect(root, CATALOGUE).names == ("raspberry-pi-4",)


def test_links_cannot_leave_the_root(tmp_path: Path) -> None:
    outside = plant(
        tmp_path / "outside", {"model": b"Raspberry Pi 4 Model B\0", "cpuinfo": X86_CPUINFO.encode()}
    )
    root = tmp_path / "root"
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/model").symlink_to("../../../outside/model")
    (root / "proc/cpuinfo").symlink_to(outside / "cpuinfo")
    found = detect(root, CATALOGUE)
    assert found.board is None


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = plant(tmp_path, {"proc/cpuinfo": X86_CPUINFO.encode()})
    (root / "proc/device-tree").symlink_to("loop")
    (root / "proc/loop").symlink_to("device-tree")
    found = detect(root, CATALOGUE)
    assert found.names == ("generic-x86-64",)
    assert any("circle" in line for line in found.troubles)


@settings(max_examples=50)
@given(
    contents=st.lists(
        st.one_of(
            st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace"))
        ),
        min_size=len(READ) + 4,
        max_size=len(READ) + 4,
    )
)
def test_any_bytes_give_a_printable_answer(contents: list[bytes]) -> None:
    paths = (*READ, *usb("18d1:9302"), *list(pci("1ac1:089a"))[:2])
    with tempfile.TemporaryDirectory() as folder:
        found = detect(plant(Path(folder), dict(zip(paths, contents, strict=True))), CATALOGUE)
    assert found.model_validate_json(found.model_dump_json()) == found
    for match in (found.board, *found.accelerators):
        for evidence in match.evidence if match else ():
            assert evidence.said.isprintable()
