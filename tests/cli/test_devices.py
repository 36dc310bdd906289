"""`nanonet-edge devices` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.cli.main import app
from nanonet_edge.devices import Detection, Profile, load_catalogue
from tests.nanonet_edge.devices.trees import ACCELERATORS, BOARDS, own, plant

SHIPPED = load_catalogue(environment={})


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NANONET_EDGE_DEVICES", "NANONET_EDGE_DEVICE_JETSON"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["devices", *map(str, arguments)])


def refused(result: Result, code: int, *words: str) -> None:
    assert (result.exit_code, result.stdout) == (code, "")
    (line,) = result.stderr.splitlines()
    for word in words:
        assert word in line


def test_list_names_every_device() -> None:
    result = run("list")
    assert result.exit_code == 0, result.stderr
    lines = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if line.startswith("│")}
    assert lines.keys() == SHIPPED.profiles.keys()
    assert "4 x Cortex-A76 2.4 GHz" in lines["raspberry-pi-5"]
    assert "2, 4, 8, 16 GiB" in lines["raspberry-pi-5"]
    assert "jetson" in result.stderr


def test_list_as_json() -> None:
    rows = json.loads(run("list", "--json").stdout)["devices"]
    assert {row["name"]: (row["family"], row["profile"]) for row in rows} == {
        name: (profile.family, "built in") for name, profile in SHIPPED.profiles.items()
    }


@pytest.mark.parametrize("name", SHIPPED.profiles)
def test_show_has_every_figure_with_its_source(name: str) -> None:
    result = run("show", name)
    assert result.exit_code == 0, result.stderr
    profile = SHIPPED.profiles[name]
    assert profile.title in result.stdout
    if profile.cpu is not None and profile.cpu.cores.source is not None:
        assert profile.sources[profile.cpu.cores.source].title in result.stdout
    for latency in profile.published:
        assert f"{latency.ms:g}" in result.stdout
    for rail in profile.power.rails:
        assert rail.name in result.stdout
    assert result.stderr == ""


def test_show_as_json_is_the_profile() -> None:
    result = run("show", "raspberry-pi-4", "--json")
    assert Profile.model_validate_json(result.stdout) == SHIPPED.profiles["raspberry-pi-4"]


def test_show_of_a_family_says_which_member_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANONET_EDGE_DEVICE_JETSON", "jetson-agx-orin")
    result = run("show", "jetson", "--json")
    assert json.loads(result.stdout)["name"] == "jetson-agx-orin"
    assert "configured: NANONET_EDGE_DEVICE_JETSON says so" in result.stderr


@pytest.mark.parametrize("way", ["option", "variable"])
def test_own_profile_replaces_and_is_mentioned(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path / "mine", "raspberry-pi-5", title="Overclocked")
    arguments = ["--devices", tmp_path / "mine"] if way == "option" else []
    if way == "variable":
        monkeypatch.setenv("NANONET_EDGE_DEVICES", str(tmp_path / "mine"))
    result = run("show", "raspberry-pi-5", "--json", *arguments)
    assert json.loads(result.stdout)["title"] == "Overclocked"
    assert "replaces the profile that ships" in result.stderr
    (row,) = [
        row
        for row in json.loads(run("list", "--json", *arguments).stdout)["devices"]
        if row["title"] == "Overclocked"
    ]
    assert row["profile"] == str(tmp_path / "mine/raspberry-pi-5.json")


@pytest.mark.parametrize("name", ["jetson-orin-nano", "raspberry-pi-5"])
def test_detect_says_which_file_said_what(name: str, tmp_path: Path) -> None:
    root = plant(tmp_path, BOARDS[name] | ACCELERATORS["coral-usb"])
    result = run("detect", "--root", root)
    assert result.exit_code == 0, result.stderr
    for words in (name, "high", "proc/device-tree/model", "coral-usb", "18d1:9302"):
        assert words in result.stdout
    assert ("Jetson Linux 36.4.7: JetPack 6.2.1, TensorRT 10.3" in result.stderr) == name.startswith("jetson")


def test_detect_as_json(tmp_path: Path) -> None:
    result = run("detect", "--json", "--root", plant(tmp_path, BOARDS["jetson-orin-nx"]))
    found = Detection.model_validate_json(result.stdout)
    assert found.names == ("jetson-orin-nx",)


def test_detect_tells_what_it_could_not_use(tmp_path: Path) -> None:
    files = BOARDS["raspberry-pi-5"] | {"proc/device-tree/compatible": b"x" * 10_000}
    result = run("detect", "--root", plant(tmp_path, files))
    assert "not used: proc/device-tree/compatible: expected at most 4096 bytes, found more" in result.stderr
    result = run("detect", "--root", plant(tmp_path / "empty", {"x": b""}))
    assert (result.exit_code, result.stderr) == (0, "not even the processor's architecture could be told\n")


def test_detect_here() -> None:
    assert run("detect").exit_code == 0


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    refused(run("show", "raspberry-pi5"), 2, "'raspberry-pi5' is unknown", "did you mean", "raspberry-pi-5")
    refused(run("list", "--devices", tmp_path / "absent"), 3, "expected a folder of device profiles")
    refused(run("detect", "--root", tmp_path / "absent"), 3, "expected the root folder of a device")
    path = own(tmp_path / "mine", "x", title="")
    refused(run("list", "--devices", tmp_path / "mine"), 3, str(path), "'title'", "found ''")
