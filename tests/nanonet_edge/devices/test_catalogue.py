"""The user's own profiles beside those that ship, and which device a family stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanonet_edge.devices import load_catalogue, resolve
from nanonet_edge.errors import InputError, UsageError
from tests.nanonet_edge.devices.trees import ACCELERATORS, BOARDS, own, plant

SHIPPED = load_catalogue(environment={})


def test_own_profile_is_added_by_variable_and_by_folder(tmp_path: Path) -> None:
    own(tmp_path / "a", "acme-cam", title="Acme camera", family="acme")
    own(tmp_path / "b", "acme-hub", title="Acme hub", family="acme")
    found = load_catalogue(tmp_path / "b", {"NANONET_EDGE_DEVICES": str(tmp_path / "a")})
    assert found.profiles.keys() - SHIPPED.profiles.keys() == {"acme-cam", "acme-hub"}
    assert found.families == ("acme", *SHIPPED.families)
    assert found.notes == ()


def test_own_profile_replaces_one_of_that_name_and_says_so(tmp_path: Path) -> None:
    first = own(tmp_path / "a", "raspberry-pi-5", title="Mine")
    second = own(tmp_path / "b", "raspberry-pi-5", title="Ours")
    found = load_catalogue(tmp_path / "b", {"NANONET_EDGE_DEVICES": str(tmp_path / "a")})
    assert found.get("raspberry-pi-5").title == "Ours"
    assert found.notes == (
        f"raspberry-pi-5: {first} replaces the profile that ships",
        f"raspberry-pi-5: {second} replaces {first}",
    )


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("")])
def test_folder_that_is_none_is_one_line(make: Any, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(InputError, match=r"x: expected a folder of device profiles, found (nothing|a file)"):
        load_catalogue(tmp_path / "x", {})


@pytest.mark.parametrize("content", ["", "[]", '{"jetson": 5}', "[" * 50_000])
def test_damaged_defaults_are_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "defaults.json").write_text(content)
    with pytest.raises(InputError, match=r"defaults\.json: expected"):
        load_catalogue(tmp_path, {})


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("raspberry-pi5", "raspberry-pi-5"),
        ("jetson-orin", "jetson-orin-nx"),
        ("JETSON", "jetson"),
        ("corl", "coral"),
    ],
)
def test_unknown_name_is_one_line_with_near_matches(typed: str, near: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is unknown: did you mean") as caught:
        resolve(typed, SHIPPED, root=tmp_path, environment={})
    assert near in str(caught.value).partition("did you mean")[2]
    assert "\n" not in str(caught.value)


def test_name_that_is_like_no_other_lists_them_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("\x1b[31mzzzzzz\n", SHIPPED, root=tmp_path, environment={})
    line = str(caught.value)
    assert line.isprintable()
    assert all(name in line for name in SHIPPED.profiles)
    with pytest.raises(UsageError, match="is unknown"):
        SHIPPED.get("zzzzzz")


def test_full_name_is_that_device_whatever_is_detected(tmp_path: Path) -> None:
    root = plant(tmp_path, BOARDS["jetson-nano"])
    found = resolve("jetson-agx-orin", SHIPPED, root=root, environment={})
    assert (found.profile.name, found.rule) == ("jetson-agx-orin", "named")


@pytest.mark.parametrize(
    ("family", "name"),
    [("jetson", "jetson-orin-nano"), ("raspberry-pi", "raspberry-pi-5"), ("coral", "coral-usb")],
)
def test_family_without_more_is_the_documented_default(family: str, name: str, tmp_path: Path) -> None:
    found = resolve(family, SHIPPED, root=tmp_path, environment={})
    assert (found.profile.name, found.rule) == (name, "default")
    assert name in found.explanation
    assert "default" in found.explanation


def test_detected_goes_before_configured_before_default(tmp_path: Path) -> None:
    environment = {"NANONET_EDGE_DEVICE_JETSON": "jetson-orin-nx"}
    here = plant(tmp_path / "nano", BOARDS["jetson-nano"])
    found = resolve("jetson", SHIPPED, root=here, environment=environment)
    assert (found.profile.name, found.rule) == ("jetson-nano", "detected")
    elsewhere = plant(tmp_path / "pi", BOARDS["raspberry-pi-4"])
    found = resolve("jetson", SHIPPED, root=elsewhere, environment=environment)
    assert (found.profile.name, found.rule) == ("jetson-orin-nx", "configured")
    assert "NANONET_EDGE_DEVICE_JETSON" in found.explanation


@pytest.mark.parametrize(
    ("name", "files"), [*ACCELERATORS.items(), ("coral-dev-board", BOARDS["coral-dev-board"])]
)
def test_coral_is_the_one_that_is_plugged_in(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    found = resolve("coral", SHIPPED, root=plant(tmp_path, files), environment={})
    assert (found.profile.name, found.rule) == (name, "detected")


def test_member_is_configured_in_a_file_and_the_variable_goes_first(tmp_path: Path) -> None:
    (tmp_path / "defaults.json").write_text('{"jetson": "jetson-agx-orin", "raspberry-pi": "raspberry-pi-4"}')
    catalogue = load_catalogue(tmp_path, {})
    root = tmp_path / "empty"
    found = resolve("jetson", catalogue, root=root, environment={})
    assert (found.profile.name, found.rule) == ("jetson-agx-orin", "configured")
    assert str(tmp_path / "defaults.json") in found.explanation
    environment = {"NANONET_EDGE_DEVICE_RASPBERRY_PI": "raspberry-pi-zero-2w"}
    assert (
        resolve("raspberry-pi", catalogue, root=root, environment=environment).profile.name
        == "raspberry-pi-zero-2w"
    )


@pytest.mark.parametrize("member", ["raspberry-pi-5", "jetson-tx2"])
def test_configured_member_of_no_such_family_is_one_line(member: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"NANONET_EDGE_DEVICE_JETSON: .*family jetson.*found '{member}'"):
        resolve("jetson", SHIPPED, root=tmp_path, environment={"NANONET_EDGE_DEVICE_JETSON": member})


def test_family_of_the_users_own(tmp_path: Path) -> None:
    own(tmp_path / "a", "acme-cam", family="acme")
    catalogue = load_catalogue(tmp_path / "a", {})
    assert resolve("acme", catalogue, root=tmp_path, environment={}).profile.name == "acme-cam"
    own(tmp_path / "a", "acme-hub", family="acme")
    catalogue = load_catalogue(tmp_path / "a", {})
    with pytest.raises(
        UsageError, match="family: name one of acme-cam, acme-hub, or set NANONET_EDGE_DEVICE_ACME"
    ):
        resolve("acme", catalogue, root=tmp_path, environment={})
