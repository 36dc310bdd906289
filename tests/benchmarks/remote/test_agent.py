"""The agent's own modules: old Pythons read them, and what they send is what the readers want."""

from __future__ import annotations

import ast
import importlib.metadata
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from nanonet_edge.benchmarks.remote import agent, agent_looks
from nanonet_edge.benchmarks.remote.board_machine import describe_board
from nanonet_edge.benchmarks.remote.events import Facts, MachineEvent
from nanonet_edge.benchmarks.remote.job import agent_payloads, board_program, make_job
from nanonet_edge.benchmarks.remote.sent_files import MACHINE_FILES, STATE_FILES, SentFiles
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import detect, read_state
from nanonet_edge.machine import read_machine
from nanonet_edge.results import BenchSettings
from tests.nanonet_edge.devices.test_state import LAPTOP, ORIN, PI
from tests.nanonet_edge.devices.trees import ACCELERATORS, BOARDS, plant

SOURCES = {one.name: one.source for one in agent_payloads()} | {"board.py": board_program()}


@pytest.mark.parametrize("name", SOURCES)
def test_python_3_9_reads_it(name: str) -> None:
    source = SOURCES[name]
    assert isinstance(source, bytes)
    tree = ast.parse(source, feature_version=(3, 9))
    assert not source or "annotations" in {
        alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            # What Python 3.10 brought to functions that were there before.
            assert node.func.id != "zip" or not node.keywords
            assert node.func.id != "isinstance" or not isinstance(node.args[1], ast.BinOp)


def test_agent_imports_numpy_and_opencv_at_most(tmp_path: Path) -> None:
    for name, source in SOURCES.items():
        assert isinstance(source, bytes)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import nanonet_edge.benchmarks.remote.agent
print(sorted({{"numpy", "cv2", "pydantic"}} & set(sys.modules)))
import nanonet_edge.benchmarks.remote.agent_measure as measure
print(sorted({{"numpy", "cv2", "pydantic"}} & set(sys.modules)), measure.__file__)
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "[]"
    assert second.startswith(f"['numpy'] {tmp_path}")


@pytest.mark.parametrize("name", [*BOARDS, *ACCELERATORS])
def test_files_that_are_sent_tell_the_same_device(name: str, tmp_path: Path) -> None:
    root = plant(tmp_path, {**BOARDS, **ACCELERATORS}[name])
    sent = SentFiles(dict(agent_looks.read_files(str(root), list(MACHINE_FILES))))
    assert detect(sent) == detect(root)


@pytest.mark.parametrize("files", [PI, ORIN, LAPTOP], ids=["pi", "orin", "laptop"])
def test_files_that_are_sent_tell_the_same_state(files: dict[str, bytes], tmp_path: Path) -> None:
    root = plant(tmp_path, files)
    sent = SentFiles(dict(agent_looks.read_files(str(root), list(STATE_FILES))))
    now = {"monotonic_ns": 0}
    assert read_state(sent).model_copy(update=now) == read_state(root).model_copy(update=now)


def test_this_machine_sends_what_it_reads_of_itself() -> None:
    job = {"root": "/", "machine_files": list(MACHINE_FILES)}
    sent = agent_looks.describe_machine(job)
    event = MachineEvent(
        event="machine", files=sent["files"], facts=Facts.model_validate(sent["facts"]), missing=()
    )
    found, expected = describe_board(event), read_machine()
    # What moves, and what psutil counts in another way.
    varying = {"load_average", "memory_bytes", "physical_cores", "unknown"}
    assert found.model_dump(exclude=varying) == expected.model_dump(exclude=varying)


def test_content_beyond_the_limit_is_a_trouble() -> None:
    files = SentFiles({"proc/device-tree/model": "x" * 5000, "dev/apex_0": None, "a//b/../c": "1"})
    assert files.read("proc/device-tree/model") is None
    assert len(files.troubles) == 1
    assert files.exists("dev/apex_0")
    assert files.read("dev/apex_0") is None
    assert files.entries("nowhere") == ()


def test_wheels_are_unpacked_once(tmp_path: Path) -> None:
    folder = tmp_path / "wheels" / f"cp{sys.version_info[0]}{sys.version_info[1]}"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "engine-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("engine/__init__.py", "")
        wheel.writestr("engine-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: engine\nVersion: 1.0\n")
    site = agent.unpack_wheels(tmp_path)
    assert site is not None
    assert [one.version for one in importlib.metadata.distributions(path=[str(site)])] == ["1.0"]
    (site / "engine" / "__init__.py").unlink()
    assert agent.unpack_wheels(tmp_path) == site
    assert not (site / "engine" / "__init__.py").exists()


def test_board_without_wheels_uses_its_own(tmp_path: Path) -> None:
    assert agent.unpack_wheels(tmp_path) is None


def test_agent_that_lost_its_home_removes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "RETURN_SECONDS", 0.0)
    folder = tmp_path / "nanonet-edge-x"
    folder.mkdir()
    agent.replace_earlier_agent(folder)
    agent.wait_for_return(folder)
    assert not folder.exists()


def test_folder_of_a_later_agent_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "RETURN_SECONDS", 0.0)
    (tmp_path / "agent.pid").write_text(str(os.getpid() + 1))
    agent.wait_for_return(tmp_path)
    assert tmp_path.exists()


def test_earlier_agent_in_the_same_folder_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "nanonet-edge-x"
    folder.mkdir()
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)", "run", folder.name, ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as earlier:
        assert earlier.stdout is not None
        earlier.stdout.readline()
        (folder / "agent.pid").write_text(str(earlier.pid))
        agent.replace_earlier_agent(folder)
        assert earlier.wait(timeout=30) == -signal.SIGTERM
    assert (folder / "agent.pid").read_text() == str(os.getpid())


def test_measuring_process_ends_with_the_agent(bundle: Bundle) -> None:
    (pair, *_) = make_job(bundle, BenchSettings(min_seconds=3600.0), artifacts=["tiny.fp32.onnx"]).pairs
    record = pair.artifact.record
    request = {
        "runtime": pair.spec, "options": [], "threads": 1, "min_seconds": 3600.0, "min_count": 1,
        "path": str(pair.artifact.path), "golden": str(bundle.root / bundle.manifest.golden.file.path),
        "input": record.input.model_dump(mode="json"), "output": record.output.model_dump(mode="json"),
    }  # fmt: skip
    command = [sys.executable, "-c", "from nanonet_edge.benchmarks.remote.agent_measure import main; main()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        assert "first_ns" in json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(timeout=30) == 1


def test_agent_that_is_never_given_a_job_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "nanonet-edge-x"
    folder.mkdir()
    code = f"""
from nanonet_edge.benchmarks.remote import agent
agent.RETURN_SECONDS = 0.0
agent.serve({str(folder)!r})
"""
    subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, check=True)
    assert not folder.exists()


def test_folder_is_removed_with_the_agent_that_runs_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "nanonet-edge-x"
    folder.mkdir()
    waiting = [sys.executable, "-c", "import time; time.sleep(60)", "run", folder.name, ""]
    remove = [sys.executable, "-I", "-c", board_program(), "remove", folder.name, "."]
    with subprocess.Popen(waiting) as running:
        (folder / "agent.pid").write_text(str(running.pid))
        for _ in range(2):  # what is gone is removed, too
            done = subprocess.run(remove, cwd=tmp_path, capture_output=True, check=True)
            assert json.loads(done.stdout) == {"removed": True}
        assert running.wait(timeout=30) == -signal.SIGTERM
    assert not folder.exists()


def test_home_is_gone_when_it_closes_the_connection() -> None:
    home = agent.Home(io.StringIO("\n\n"))
    for _ in range(1000):
        if home.is_gone:
            break
        time.sleep(0.01)
    assert home.is_gone
    assert not agent.Home(None).is_gone
