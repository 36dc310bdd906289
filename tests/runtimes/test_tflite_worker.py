"""The protocol between us and the process of the old TFLite runtime."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge import contract
from nanonet_edge.bundle import Artifact
from nanonet_edge.errors import MissingExtraError, RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.runtimes import _tflite_client, tflite_worker
from nanonet_edge.runtimes._tflite_client import PYTHON_VARIABLE, WorkerClient, find_python
from nanonet_edge.runtimes.tflite_runtime import TfliteRuntime
from nanonet_edge.runtimes.tflite_worker import (
    HEADER_LIMIT,
    MAGIC,
    PAYLOAD_LIMIT,
    ProtocolError,
    Server,
    read_frame,
    write_frame,
)
from tests.tiny_bundle import tiny_frames

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)
HEADERS = st.dictionaries(st.text(), JSON, max_size=4)


def frame(header: tflite_worker.Header, payload: bytes = b"") -> bytes:
    stream = io.BytesIO()
    write_frame(stream, header, payload)
    return stream.getvalue()


class Counting(io.BytesIO):
    """A stream that remembers the longest read that was asked of it."""

    longest = 0

    def read(self, size: int | None = -1) -> bytes:
        self.longest = max(self.longest, size or 0)
        return super().read(size)


# --- frames -----------------------------------------------------------------------------


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=200)), max_size=3))
def test_frames_come_back_as_they_were_written(frames: list[tuple[tflite_worker.Header, bytes]]) -> None:
    stream = io.BytesIO(b"".join(frame(header, payload) for header, payload in frames))
    for expected in frames:
        assert read_frame(stream) == expected
    assert read_frame(stream) is None


@given(HEADERS, st.binary(max_size=100), st.data())
def test_a_frame_cut_short_is_refused(
    header: tflite_worker.Header, payload: bytes, data: st.DataObject
) -> None:
    whole = frame(header, payload)
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ProtocolError):
        read_frame(io.BytesIO(whole[:cut]))


@given(st.binary(min_size=1, max_size=300).filter(lambda data: not data.startswith(MAGIC)))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_frame(io.BytesIO(data))


@given(st.binary(max_size=60).filter(lambda text: not text.startswith(b"{")))
def test_a_header_that_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_frame(io.BytesIO(struct.pack("<4sIQ", MAGIC, len(text), 0) + text))


@given(
    st.one_of(
        st.tuples(st.integers(HEADER_LIMIT + 1, 2**32 - 1), st.integers(0, 2**64 - 1)),
        st.tuples(st.integers(0, HEADER_LIMIT), st.integers(PAYLOAD_LIMIT + 1, 2**64 - 1)),
    )
)
def test_an_oversized_frame_is_refused_before_it_is_read(lengths: tuple[int, int]) -> None:
    stream = Counting(struct.pack("<4sIQ", MAGIC, *lengths) + b"{}")
    with pytest.raises(ProtocolError, match="are allowed"):
        read_frame(stream)
    assert stream.longest < 100


def test_an_oversized_frame_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with pytest.raises(ProtocolError, match="header of"):
        write_frame(stream, {"text": "x" * HEADER_LIMIT})
    monkeypatch.setattr(tflite_worker, "PAYLOAD_LIMIT", 10)
    with pytest.raises(ProtocolError, match="payload of 11 bytes, at most 10"):
        write_frame(stream, {}, b"x" * 11)
    assert stream.getvalue() == b""


@given(HEADERS, st.binary(max_size=50))
def test_the_server_answers_anything(header: tflite_worker.Header, payload: bytes) -> None:
    fields, data = Server().answer(header, payload)
    assert fields["ok"] is False
    assert "\n" not in fields["error"]
    assert data == b""


@pytest.mark.parametrize("operation", ["invoke", "time"])
def test_nothing_runs_before_a_load(operation: str) -> None:
    request = {"op": operation, "min_runs": 1, "min_seconds": 0, "max_seconds": 1}
    fields, _ = Server().answer(request, b"1234")
    assert fields["ok"] is False


# --- the worker's process ---------------------------------------------------------------


def run_worker(stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-I", tflite_worker.__file__]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def test_the_worker_ends_with_its_input() -> None:
    done = run_worker(frame({"op": "nonsense"}))
    answer = read_frame(io.BytesIO(done.stdout))
    assert done.returncode == 0
    assert answer is not None
    assert "unknown op" in answer[0]["error"]


@pytest.mark.parametrize("stdin", [b"GET / HTTP/1.1\r\n\r\n", b"NN", struct.pack("<4sIQ", MAGIC, 2**31, 0)])
def test_the_worker_ends_when_its_input_is_no_frame(stdin: bytes) -> None:
    done = run_worker(stdin)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"tflite_worker: ")


# --- the client, with workers that misbehave --------------------------------------------


def fake_python(folder: Path, body: str) -> Path:
    """An executable that takes a worker's place."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


FAILED = frame({"error": "too\nbad"})
CUT = frame({"ok": True})[:10]
OVERSIZED = struct.pack("<4sIQ", MAGIC, 9, 2**63)

#: what the process does -> what the client says
FAKES = {
    "garbage": ("os.write(1, b'x' * 100); time.sleep(60)", "broke the protocol (expected magic"),
    "a frame cut short": (f"os.write(1, {CUT!r})", "ended with exit code 0"),
    "an oversized frame": (
        f"os.write(1, {struct.pack('<4sIQ', MAGIC, 9, 2**63)!r}); time.sleep(60)",
        "payload of",
    ),
    "no answer": ("time.sleep(60)", "was killed: 'hello' took more than 1 s"),
    "an exit": ("sys.exit('out of luck')", "ended with exit code 1, saying out of luck, during 'hello'"),
    "a crash": ("os.kill(os.getpid(), 11)", "crashed (SIGSEGV)"),
    "an answer that is not ok": (f"os.write(1, {FAILED!r})", "tflite-runtime: too bad"),
}


@pytest.mark.parametrize("name", FAKES)
def test_a_misbehaving_worker_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tflite_client, "_EXIT_SECONDS", 1.0)
    body, message = FAKES[name]
    client = WorkerClient(fake_python(tmp_path, body))
    try:
        with pytest.raises(RuntimeFailure) as caught:
            client.ask("model.tflite", {"op": "hello"}, timeout=1.0 if name == "no answer" else 30.0)
    finally:
        client.close()
    assert message in str(caught.value)
    assert str(caught.value).startswith("model.tflite: ")
    assert "\n" not in str(caught.value)


def test_a_worker_that_never_reads_is_killed(tmp_path: Path) -> None:
    client = WorkerClient(fake_python(tmp_path, "time.sleep(60)"))
    try:
        with pytest.raises(RuntimeFailure, match="took more than"):
            client.ask("model.tflite", {"op": "invoke"}, bytes(1 << 20), timeout=0.5)
    finally:
        client.close()


def test_an_interpreter_that_cannot_be_started_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "python"
    path.write_text("not a program")
    with pytest.raises(RuntimeFailure, match="expected a Python interpreter"):
        WorkerClient(path)


# --- finding the interpreter ------------------------------------------------------------


def test_the_variable_names_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_python(tmp_path, "")
    monkeypatch.setenv(PYTHON_VARIABLE, str(path))
    assert find_python() == path
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=PYTHON_VARIABLE):
        find_python()


def test_the_environment_beside_ours_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(_tflite_client, "is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"pip install 'nanonet-edge\[tflite-runtime\]'"):
        find_python()
    path = tmp_path / ".venv-tflite-runtime" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_python() == path


def test_our_own_interpreter_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(_tflite_client, "is_installed", lambda module: module == "tflite_runtime")
    assert find_python() == Path(sys.executable)


def test_an_interpreter_without_tflite_runtime_is_an_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(fake_python(tmp_path, "sys.exit('No such module')")))
    obstacle = TfliteRuntime.obstacle()
    assert isinstance(obstacle, UnsupportedError)
    assert "No such module" in str(obstacle)
    assert TfliteRuntime.version() is None


# --- the real engine --------------------------------------------------------------------


@pytest.fixture
def runtime(artifacts: dict[str, Artifact]) -> Iterator[TfliteRuntime]:
    obstacle = TfliteRuntime.obstacle()
    if obstacle is not None:
        pytest.skip(str(obstacle))
    if "tiny.fp32.tflite" not in artifacts:
        pytest.skip("no TFLite writer is installed")
    with TfliteRuntime(artifacts["tiny.fp32.tflite"]) as opened:
        yield opened


@pytest.fixture
def x(runtime: TfliteRuntime) -> contract.Array:
    return contract.preprocess(tiny_frames(1, 64)[0], runtime.input)


def test_a_worker_killed_while_it_works_is_one_line(runtime: TfliteRuntime, x: contract.Array) -> None:
    timer = threading.Timer(0.3, os.kill, (runtime.pid, signal.SIGKILL))
    timer.start()
    with pytest.raises(
        RuntimeFailure, match=r"tiny\.fp32\.tflite: tflite-runtime crashed \(SIGKILL\) during 'time'"
    ):
        runtime.time_invoke(x, min_runs=1, min_seconds=60.0)
    timer.join()
    with pytest.raises(RuntimeFailure, match=r"crashed \(SIGKILL\)"):
        runtime.invoke(x)


def test_a_run_that_takes_too_long_is_ended(runtime: TfliteRuntime, x: contract.Array) -> None:
    client = WorkerClient(find_python())
    load = {"op": "load", "path": str(runtime.artifact.path), "threads": 1, "xnnpack": True}
    endless = {"op": "time", "min_runs": 10**12, "min_seconds": 0.0, "max_seconds": 1e6}
    try:
        client.ask("tiny", load, timeout=60.0)
        with pytest.raises(RuntimeFailure, match=r"was killed: 'time' took more than 0\.5 s"):
            client.ask("tiny", endless, x.tobytes(), timeout=0.5)
    finally:
        client.close()


def test_the_worker_ends_with_the_runtime(runtime: TfliteRuntime) -> None:
    pid = runtime.pid
    runtime.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_wrong_request_does_not_end_the_worker(runtime: TfliteRuntime, x: contract.Array) -> None:
    expected = runtime.invoke(x)
    client = runtime._opened
    for payload in (b"", b"123", bytes(x.nbytes - 4)):
        with pytest.raises(RuntimeFailure):
            client.ask("tiny", {"op": "invoke"}, payload, timeout=30.0)
    np.testing.assert_array_equal(runtime.invoke(x), expected)


def test_the_worker_tells_its_memory(runtime: TfliteRuntime) -> None:
    told = runtime.process_memory()
    if not Path("/proc/self/status").exists():
        assert told is None
        return
    assert told is not None
    baseline, peak = told
    assert 1_000_000 < baseline <= peak


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is reset on Linux only"
)
def test_import_of_the_engine_counts_as_its_memory(tmp_path: Path) -> None:
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text("weight = b'x' * (64 << 20)\n")
    code = (
        f"import json, sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "before = b'x' * (128 << 20); del before\n"
        "from nanonet_edge.runtimes.tflite_worker import Server\n"
        "server = Server()\n"
        "server.answer({'op': 'load'}, b'')\n"
        "print(json.dumps(server.answer({'op': 'memory'}, b'')[0]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["peak_bytes"] - told["baseline_bytes"]) / (1 << 20) == pytest.approx(64, abs=8)
