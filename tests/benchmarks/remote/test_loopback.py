"""A bundle measured on a board behind a real OpenSSH server on loopback."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from nanonet_edge.benchmarks.remote.bench import bench_many, bench_remote
from nanonet_edge.benchmarks.statistics import summarize
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import EXIT_DEVICE, DeviceError
from nanonet_edge.results import BenchSettings
from tests.benchmarks.remote.conftest import Server
from tests.nanonet_edge.devices.trees import BOARDS, plant

QUICK = BenchSettings(min_seconds=0.0, min_count=5)
ARTIFACTS = ["tiny.fp32.onnx", "tiny.fp16.onnx"]


def test_end_to_end(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    journal = tmp_path / "journal.jsonl"
    result = bench_remote(bundle, server.board(), QUICK, journal=journal, report=said.append)
    assert [(row.artifact, row.spec) for row in result.rows] == [(name, "onnxruntime") for name in ARTIFACTS]
    assert [one.artifact for one in result.skipped] == ["tiny.fp32.openvino"]
    for row in result.rows:
        assert row.measurement is not None, row.failure
        for scope in (row.measurement.invoke, row.measurement.frame):
            assert scope.obtained == "measured"
            assert len(scope.samples_ns) >= QUICK.min_count
            assert scope.summary == summarize(scope.samples_ns)
        assert row.measurement.runtime.delegate == "CPUExecutionProvider"
        assert row.measurement.runtime.computed_precision == "fp32"  # fp16 too, on a CPU
        assert row.watched is not None
        assert row.watched.before.monotonic_ns < row.watched.after.monotonic_ns
    assert result.machine.memory_bytes > 0
    assert result.settings.device in result.detected
    assert server.left_behind() == []
    # What was measured is not lost before somebody has put the result away.
    again = bench_remote(bundle, server.board(host="not.there.invalid"), QUICK, journal=journal)
    assert again.rows == result.rows


def test_lost_connection_is_taken_up_with_what_is_missing(
    server: Server, bundle: Bundle, tmp_path: Path
) -> None:
    said: list[str] = []

    def report(line: str) -> None:
        said.append(line)
        if "(1 of 2)" in line:
            assert server.drop_connections() > 0

    result = bench_remote(bundle, server.board(), QUICK, journal=tmp_path / "journal", report=report)
    assert [row.artifact for row in result.rows] == ARTIFACTS
    assert all(row.measurement for row in result.rows)
    assert [line for line in said if "connecting again" in line]
    # What was measured before is not measured twice.
    assert len([line for line in said if " measured (" in line]) == len(ARTIFACTS)
    assert server.left_behind() == []


def test_killed_agent_loses_nothing_that_was_measured(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    journal = tmp_path / "journal"

    def kill(line: str) -> None:
        if "(1 of 2)" in line:
            server.kill_agent()

    with pytest.raises(
        DeviceError, match=r"^loopback: the agent ended too early \(.*1 of 2 measured"
    ) as caught:
        bench_remote(bundle, server.board(), QUICK, journal=journal, report=kill)
    assert "\n" not in str(caught.value)
    assert server.left_behind() == []
    said: list[str] = []
    result = bench_remote(bundle, server.board(), QUICK, journal=journal, report=said.append)
    assert [row.artifact for row in result.rows] == ARTIFACTS
    assert len([line for line in said if " measured (" in line]) == 1


def test_interrupt_leaves_nothing_on_the_board(server: Server, bundle: Bundle) -> None:
    def interrupt(line: str) -> None:
        if "(1 of 2)" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        bench_remote(bundle, server.board(), QUICK, report=interrupt)
    assert server.left_behind() == []
    assert server.agents() == []


def test_engine_that_takes_its_process_down_is_a_failed_row(
    server: Server, bundle: Bundle, tmp_path: Path
) -> None:
    engine = tmp_path / "site" / "onnxruntime" / "__init__.py"
    engine.parent.mkdir(parents=True)
    engine.write_text("import os\nos.kill(os.getpid(), 9)\n")
    board = server.board(site=str(tmp_path / "site"))
    result = bench_remote(bundle, board, QUICK, artifacts=ARTIFACTS[:1])
    (failure,) = result.failures
    assert failure == ("tiny.fp32.onnx on onnxruntime: the measuring process died: SIGKILL (out of memory?)")


@pytest.mark.parametrize(
    ("key", "words"), [("", "is not in known_hosts"), ("other_key", "is not the one in known_hosts")]
)
def test_host_key_that_is_unknown_or_changed_is_refused(
    key: str, words: str, server: Server, bundle: Bundle
) -> None:
    server.know(key)
    with pytest.raises(DeviceError, match=f"^loopback: refused: the host's key {words}") as caught:
        bench_remote(bundle, server.board(), QUICK)
    assert caught.value.exit_code == EXIT_DEVICE


def test_user_s_own_configuration_is_read(
    server: Server, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.know("other_key")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text((server.folder / "config").read_text())
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DeviceError, match=r"^loopback: refused: .* is not the one in known_hosts"):
        bench_remote(bundle, "loopback", QUICK)


def test_host_that_does_not_answer(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with pytest.raises(DeviceError, match=r"^loopback: cannot be reached: "):
        bench_remote(bundle, server.board(host="ssh://loopback:1", name="loopback"), QUICK, journal=journal)
    assert not journal.exists()


def test_key_that_is_not_let_in(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    config = tmp_path / "config"
    text = (server.folder / "config").read_text()
    config.write_text(text.replace("user_key", "other_key"))
    with pytest.raises(DeviceError, match=r"^loopback: the host lets us in with none of the keys"):
        bench_remote(bundle, server.board(ssh_config=config), QUICK)


def test_old_python(server: Server, bundle: Bundle) -> None:
    said = {"python": [3, 8, 10], "implementation": "CPython", "machine": "aarch64", "bits": 64, "libc": ""}
    python = server.fake_program("python3", f"echo '{json.dumps(said)}'")
    with pytest.raises(DeviceError, match=r"^loopback: expected Python 3\.9 or newer there, found 3\.8\.10$"):
        bench_remote(bundle, server.board(python=str(python)), QUICK)


def test_python_that_says_something_else(server: Server, bundle: Bundle) -> None:
    python = server.fake_program("python3", "printf '\\033[2Jhello'")
    with pytest.raises(
        DeviceError, match=r"^loopback: expected its Python to describe itself, found '\[2Jhello'$"
    ):
        bench_remote(bundle, server.board(python=str(python)), QUICK)


def test_endless_answer(server: Server, bundle: Bundle) -> None:
    python = server.fake_program("python3", "exec yes")
    with pytest.raises(DeviceError, match=r"^loopback: expected an answer of at most \d+ bytes, found more$"):
        bench_remote(bundle, server.board(python=str(python)), QUICK)


def test_python_that_is_not_there(server: Server, bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match=r"^loopback: expected no-such-python on the host, found none$"):
        bench_remote(bundle, server.board(python="no-such-python"), QUICK)


def test_python_without_the_engine(server: Server, bundle: Bundle) -> None:
    bare = "/usr/bin/python3"
    if not Path(bare).exists():
        pytest.skip(f"{bare} is not there")
    with pytest.raises(DeviceError, match=r"^loopback: expected Python 3\.\S+ there to find .*onnxruntime"):
        bench_remote(bundle, server.board(python=bare), QUICK)
    assert server.left_behind() == []


def test_full_disk(server: Server, bundle: Bundle, small_disk: Path) -> None:
    board = server.board(folder=str(small_disk))
    with pytest.raises(
        DeviceError, match=r"^loopback: the files cannot be placed on the board: No space left"
    ):
        bench_remote(bundle, board, QUICK)
    assert list(small_disk.iterdir()) == []


def test_several_boards_one_of_another_profile_and_one_lost(
    server: Server, bundle: Bundle, tmp_path: Path
) -> None:
    pi = plant(tmp_path / "pi", BOARDS["raspberry-pi-5"])
    boards = [
        server.board(name="here"),
        server.board(name="pi", root=str(pi), device="raspberry-pi", threads=2),
        server.board(name="gone", host="ssh://loopback:1"),
        server.board(name="not a jetson", root=str(pi), device="jetson-nano"),
    ]
    found = bench_many(bundle, boards, QUICK, artifacts=ARTIFACTS[:1], journals=tmp_path / "journals")
    here, pi5, gone, other = found.boards
    assert here.failure is None
    assert here.result is not None
    assert here.result.settings.device == here.result.detected[0] != "raspberry-pi-5"
    assert pi5.failure is None
    assert pi5.result is not None
    assert (pi5.result.settings.device, pi5.result.settings.threads) == ("raspberry-pi-5", 2)
    assert gone.result is None
    assert gone.failure is not None
    assert gone.failure.startswith("gone: cannot be reached")
    assert other.result is None
    assert other.failure is not None
    assert other.failure.startswith("not a jetson: expected a jetson-nano, found raspberry-pi-5")
    assert found.failures == (gone.failure, other.failure)
