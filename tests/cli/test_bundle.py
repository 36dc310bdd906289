"""An archive for a board without a network: packed, run, and its result brought home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.cli.main import app
from nanonet_edge.devices import detect
from nanonet_edge.errors import EXIT_INPUT, EXIT_OK, EXIT_USAGE
from nanonet_edge.results import BenchResult, load_result
from tests.tiny_bundle import make_tiny_bundle

QUICK = ["--min-seconds", "0", "--min-count", "5", "--artifact", "tiny.fp32.onnx", "--no-wheels"]


def nanonet_edge(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def unpacked(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    archive = folder / "x.tar.gz"
    done = nanonet_edge("bundle", root, "--device", "raspberry-pi-5", "--output", archive, *QUICK)
    assert done.exit_code == EXIT_OK, done.output
    assert "sh nanonet-edge-raspberry-pi-5/run.sh" in done.stderr
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "nanonet-edge-raspberry-pi-5"


@pytest.fixture(scope="module")
def result(unpacked: Path) -> Path:
    """What the script leaves, run by an environment that has the engine."""
    done = subprocess.run(
        ["sh", unpacked / "run.sh"],
        env={"PATH": os.environ["PATH"], "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"result: {unpacked / 'result.jsonl'}\n"
    return unpacked / "result.jsonl"


def test_result_comes_home_as_measured_on_what_the_board_is(root: Path, result: Path) -> None:
    done = nanonet_edge("bundle", root, "--import", result)
    assert done.exit_code == EXIT_OK, done.output
    device = detect().names[0]
    found = load_result(root.parent / "tiny.results" / f"bench.{device}.json", BenchResult)
    assert found.settings.device == device
    assert [row.artifact for row in found.rows] == ["tiny.fp32.onnx"]
    assert found.rows[0].measurement is not None
    assert found.rows[0].measurement.invoke.obtained == "measured"
    assert "measured on the board" in done.stdout


def test_result_of_another_device_is_refused(root: Path, result: Path) -> None:
    done = nanonet_edge("bundle", root, "--import", result, "--device", "raspberry-pi-5")
    assert done.exit_code == EXIT_INPUT
    assert f"{result}: expected a raspberry-pi-5, found " in done.stderr


def test_result_of_another_bundle_is_refused(result: Path, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other", size=32)
    done = nanonet_edge("bundle", other, "--import", result)
    assert done.exit_code == EXIT_INPUT
    assert "found those of another bundle" in done.stderr


def test_half_a_result_is_refused(root: Path, result: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.jsonl"
    half.write_bytes(result.read_bytes().rpartition(b'{"event":"end"}')[0])
    done = nanonet_edge("bundle", root, "--import", half)
    assert done.exit_code == EXIT_INPUT
    assert "half.jsonl: expected a whole result, found the beginning of one" in done.stderr


def test_same_bundle_gives_the_same_archive(root: Path, tmp_path: Path) -> None:
    archives = [tmp_path / name for name in ("a.tar.gz", "b.tar.gz")]
    for archive in archives:
        nanonet_edge("bundle", root, "--device", "raspberry-pi-4", "--output", archive, *QUICK)
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_json_tells_what_is_in_it(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    done = nanonet_edge("bundle", root, "--device", "raspberry-pi-4", "--output", archive, *QUICK, "--json")
    told = json.loads(done.stdout)
    assert told["pairs"] == [{"artifact": "tiny.fp32.onnx", "runtime": "onnxruntime"}]
    assert told["bytes"] == archive.stat().st_size


def test_wheels_go_in_for_the_profile_s_systems(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanonet_edge.benchmarks.remote import offline

    asked = []

    def fetch(requirements: tuple[str, ...], **target: object) -> tuple[Path, ...]:
        asked.append((requirements, target["machine"], target["python"], target["glibc"]))
        wheel = tmp_path / "engine-1-py3-none-any.whl"
        wheel.write_bytes(b"wheel")
        return (wheel,)

    monkeypatch.setattr(offline, "fetch_wheels", fetch)
    archive = tmp_path / "a.tar.gz"
    arguments = ["--artifact", "tiny.fp32.onnx", "--output", str(archive)]
    assert nanonet_edge("bundle", root, "--device", "raspberry-pi-5", *arguments).exit_code == EXIT_OK
    (((numpy, _, engine), *target),) = asked
    assert (numpy.partition("==")[0], engine.partition("==")[0]) == ("numpy", "onnxruntime")
    assert target == ["aarch64", "3.11", (2, 36)]
    with tarfile.open(archive) as packed:
        assert "nanonet-edge-raspberry-pi-5/wheels/cp311/engine-1-py3-none-any.whl" in packed.getnames()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], EXIT_USAGE, "expected --device"),
        (["--device", "raspberry-pie-5"], EXIT_USAGE, "raspberry-pi-5"),
        (["--device", "raspberry-pi-5", "--runtime", "openvino"], EXIT_USAGE, "not driven from afar"),
        (
            ["--import", "nowhere.jsonl"],
            EXIT_INPUT,
            "nowhere.jsonl: expected a board's result, found nothing",
        ),
    ],
)
def test_wrong_use(arguments: list[str], code: int, says: str, root: Path) -> None:
    done = nanonet_edge("bundle", root, *arguments)
    assert done.exit_code == code
    assert says in done.stderr
