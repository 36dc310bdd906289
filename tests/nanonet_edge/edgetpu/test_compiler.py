"""Running the compiler: a stand-in that succeeds, fails, hangs and talks nonsense."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nanonet_edge.edgetpu import compile_model, find_compiler
from nanonet_edge.edgetpu.rules import MAPPED, NOT_SUPPORTED
from nanonet_edge.errors import CompilerError
from tests.nanonet_edge.edgetpu import fake_compiler as fake
from tests.nanonet_edge.tflite_models import Drawing

LOG = fake.log(("RELU", 1, MAPPED))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file whose name a shell would trip over."""
    drawing = Drawing()
    drawing.op("RELU", [drawing.input(1, 8, 8, 4)], (1, 8, 8, 4))
    return drawing.save(tmp_path / "my $(net); 1.tflite")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def test_it_is_looked_for_on_path(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
    assert find_compiler() is None
    program = fake.install(programs)
    assert find_compiler() == program
    program.chmod(0o600)
    assert find_compiler() is None


def test_it_gets_a_list_of_arguments_and_leaves_its_result(programs: Path, model: Path, out: Path) -> None:
    before = model.read_bytes()
    program = fake.install(programs, LOG, result=fake.compiled_model())
    compiled = compile_model(program, model, out)
    assert compiled.path == out / "my $(net); 1_edgetpu.tflite"
    assert compiled.path.read_bytes() == fake.compiled_model()
    assert compiled.log.version == "16.0.384591198"
    arguments = (programs / "arguments.txt").read_text().split("\n")
    assert arguments == ["-s", "-o", str(out), str(model)]
    assert model.read_bytes() == before


def test_a_model_of_which_nothing_maps_needs_no_custom_operator(
    programs: Path, model: Path, out: Path
) -> None:
    log = fake.log(("LEAKY_RELU", 1, NOT_SUPPORTED))
    program = fake.install(programs, log, result=model.read_bytes())
    assert compile_model(program, model, out).log.counts[0].status == NOT_SUPPORTED


@pytest.mark.parametrize(
    ("printed", "code", "words"),
    [
        (fake.TOO_LARGE, 1, "return code 1: .*due to large activation tensors in model"),
        (fake.BEGINNING + "\nInternal compiler error. Aborting!\n", 134, "return code 134: .*Aborting!"),
        ("", 3, "return code 3: nothing"),
    ],
)
def test_a_failure_is_told_in_its_own_words(
    programs: Path, model: Path, out: Path, printed: str, code: int, words: str
) -> None:
    program = fake.install(programs, printed, code=code, result=fake.compiled_model())
    with pytest.raises(CompilerError, match=words):
        compile_model(program, model, out)


@pytest.mark.parametrize(
    ("printed", "result", "words"),
    [
        ("\0\1 no log at all", fake.compiled_model(), "names its version"),
        (fake.BEGINNING, fake.compiled_model(), "a table of operators"),
        (LOG, None, "_edgetpu.tflite is of no use: expected a .tflite file, found nothing"),
        (LOG, b"garbage", "_edgetpu.tflite is of no use: .*TFL3"),
        (LOG, b"", "_edgetpu.tflite is of no use"),
        (LOG, Drawing().build(0), "is of no use|holds no edgetpu-custom-op"),
    ],
)
def test_success_is_not_taken_on_trust(
    programs: Path, model: Path, out: Path, printed: str, result: bytes | None, words: str
) -> None:
    program = fake.install(programs, printed, result=result)
    with pytest.raises(CompilerError, match=words):
        compile_model(program, model, out)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("closes", [False, True])
def test_one_that_hangs_is_stopped_with_its_child(
    programs: Path, model: Path, out: Path, closes: bool
) -> None:
    pids = programs / "pids.txt"
    hang = f"child = os.fork()\npathlib.Path({str(pids)!r}).open('a').write(f'{{os.getpid()}}\\n')\n"
    hang += "os.close(1); os.close(2)\n" if closes else ""
    program = fake.install(programs, LOG, after=f"{hang}time.sleep(60)")
    with pytest.raises(CompilerError, match="longer than 2 s and was stopped"):
        compile_model(program, model, out, timeout_s=2)
    stopped = [int(pid) for pid in pids.read_text().split()]
    assert len(stopped) == 2
    for _ in range(100):
        if not any(map(is_running, stopped)):
            break
        time.sleep(0.05)
    assert not any(map(is_running, stopped))


def test_one_that_prints_without_end_is_stopped(programs: Path, model: Path, out: Path) -> None:
    program = fake.install(programs, before="while True: os.write(1, b'y' * 65536)")
    with pytest.raises(CompilerError, match="expected a log, found more than 4 MiB"):
        compile_model(program, model, out)


def test_one_that_cannot_be_started(programs: Path, model: Path, out: Path) -> None:
    program = programs / "edgetpu_compiler"
    program.write_bytes(os.urandom(64))
    program.chmod(0o700)
    with pytest.raises(CompilerError, match="cannot be started"):
        compile_model(program, model, out)
