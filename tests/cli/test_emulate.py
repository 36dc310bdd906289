"""`emulate` and `verify --emulate`, with programs that play QEMU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from nanonet_edge import reference as reference_module
from nanonet_edge.benchmarks.emulation.machines import AARCH64
from nanonet_edge.benchmarks.emulation.result import CountResult, EmulatedResult
from nanonet_edge.cli.emulate import emulate
from nanonet_edge.cli.verify import verify
from nanonet_edge.errors import InputError, UnsupportedError, UsageError
from nanonet_edge.results import load_result
from tests.benchmarks.agreement_fakes import FakeReference, write_dataset
from tests.benchmarks.emulation.fakes import COUNTING, HONEST, SHIFTED, plant, program, use
from tests.tiny_bundle import make_tiny_bundle

pytest.importorskip("onnxruntime")

app = typer.Typer()
app.command("verify")(verify)
app.add_typer(emulate, name="emulate")

EASY = ("--min-dice", "0.5", "--min-p5", "0.5")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny", 32)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that is set up in the default cache, and honest programs to run it with."""
    folder = tmp_path / "bin"
    program(folder, "qemu-aarch64-static", HONEST)
    program(folder, "qemu-aarch64", COUNTING)
    program(folder, "cc", "open(sys.argv[sys.argv.index('-o') + 1], 'w')")
    use(monkeypatch, folder)
    monkeypatch.setenv("NANONET_EDGE_EMULATION", str(tmp_path / "cache"))
    plant(tmp_path / "cache")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_verify(bundle: Path, *arguments: object) -> Result:
    return run("verify", bundle, "--device", "raspberry-pi-4", "--emulate", *EASY, *arguments)


def test_verify_prints_and_writes(bundle: Path, programs: Path) -> None:
    del programs
    done = run_verify(bundle, "--limit", "2")
    assert done.exit_code == 0, done.output
    for word in ("raspberry-pi-4", "cortex-a72", "emulated", "tiny.fp32.onnx", "none", "pass"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 150
    assert "2 golden frames" in done.stderr
    assert "tiny.fp32.openvino was skipped" in done.stderr
    assert "emulated: masks count, times do not" in done.stderr
    path = bundle.with_name("tiny.results") / "verify.raspberry-pi-4.aarch64.json"
    assert load_result(path, EmulatedResult).passed


def test_verify_fails_where_outputs_differ(bundle: Path, programs: Path) -> None:
    program(programs, "qemu-aarch64-static", SHIFTED)
    done = run_verify(bundle, "--artifact", "tiny.fp32.onnx")
    assert done.exit_code == 1
    assert "FAIL" in done.stdout
    assert "expected outputs within 0.0001 of guest and host" in done.stderr


def test_verify_fails_where_the_guest_crashes(bundle: Path, programs: Path) -> None:
    program(programs, "qemu-aarch64-static", "os.kill(os.getpid(), signal.SIGSEGV)")
    done = run_verify(bundle, "--artifact", "tiny.fp32.onnx")
    assert done.exit_code == 1
    assert "killed by SIGSEGV" in done.stderr


def test_verify_on_images(
    bundle: Path, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del programs
    # Of another size than the fake stands in for: its frames are those of the bundle.
    monkeypatch.setattr(reference_module, "KerasReference", FakeReference)
    done = run_verify(bundle, "--data", write_dataset(tmp_path / "kvasir"), "--limit", "3", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert (result["frames"]["source"], result["frames"]["count"]) == ("images", 3)
    assert result["obtained"] == "emulated"


def test_verify_with_count_does_both(bundle: Path, programs: Path) -> None:
    del programs
    done = run_verify(bundle, "--count", "--artifact", "tiny.fp32.onnx")
    assert done.exit_code == 0, done.output
    assert "million instructions per inference" in done.stdout
    stored = load_result(bundle.with_name("tiny.results") / "count.raspberry-pi-4.json", CountResult)
    assert [row.total for row in stored.rows] == [1021]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--emulate"], UsageError, "--emulate needs --device"),
        (["--emulate", "--device", "raspberry-pi-4", "--threads", "2"], UsageError, "one thread"),
        (["--device", "raspberry-pi-4"], UsageError, "--device needs --emulate"),
        (["--count"], UsageError, "--count needs --emulate"),
        (["--machine", "armv7"], UsageError, "--machine needs --emulate"),
        (["--device", "coral-usb", "--emulate"], UnsupportedError, "cannot be emulated"),
        (["--device", "raspberry-pi-9", "--emulate"], UsageError, "raspberry-pi-9"),
        (
            ["--device", "raspberry-pi-4", "--emulate", "--machine", "vax"],
            UsageError,
            "expected one of aarch64",
        ),
        (
            ["--device", "raspberry-pi-4", "--emulate", "--runtime", "openvino"],
            UnsupportedError,
            "'openvino' is not set up on aarch64",
        ),
    ],
)
def test_verify_refuses_what_makes_no_sense(
    bundle: Path, programs: Path, arguments: list[str], error: type[Exception], words: str
) -> None:
    del programs
    done = run("verify", bundle, *arguments)
    assert isinstance(done.exception, error)
    assert words in str(done.exception)


def test_count_gate(bundle: Path, programs: Path, tmp_path: Path) -> None:
    first = run("emulate", "count", bundle, "--artifact", "tiny.fp32.onnx", "--output", tmp_path / "first")
    assert first.exit_code == 0, first.output
    assert "tiny.fp32.onnx" in first.stdout
    baseline = tmp_path / "first" / "count.raspberry-pi-4.json"
    again = ("emulate", "count", bundle, "--artifact", "tiny.fp32.onnx", "--against", baseline)
    same = run(*again)
    assert same.exit_code == 0, same.output
    assert "+0.00%" in same.stdout
    program(programs, "qemu-aarch64", COUNTING.replace("{1000 + number}", "{1030 + number}"))
    more = run(*again)
    assert more.exit_code == 1
    assert "+2.94%" in more.stdout
    assert "FAIL" in more.stdout
    assert run(*again, "--max-increase", "3%").exit_code == 0
    spoken = run(*again, "--json")
    assert json.loads(spoken.stdout)["changes"][0]["earlier"] == 1021


def test_count_against_its_own_file_compares_with_what_it_held(bundle: Path, programs: Path) -> None:
    count = ("emulate", "count", bundle, "--artifact", "tiny.fp32.onnx")
    assert run(*count).exit_code == 0
    program(programs, "qemu-aarch64", COUNTING.replace("{1000 + number}", "{2000 + number}"))
    done = run(*count, "--against", bundle.with_name("tiny.results") / "count.raspberry-pi-4.json")
    assert done.exit_code == 1
    assert "+97.94%" in done.stdout


def test_count_says_what_of_the_baseline_it_left_out(bundle: Path, programs: Path, tmp_path: Path) -> None:
    del programs
    baseline = tmp_path / "count.raspberry-pi-4.json"
    both = run("emulate", "count", bundle, "--output", tmp_path)
    assert both.exit_code == 0, both.output
    rows = len(load_result(baseline, CountResult).rows)
    assert rows > 1
    done = run("emulate", "count", bundle, "--artifact", "tiny.fp32.onnx", "--against", baseline)
    assert done.exit_code == 0, done.output
    assert f"{rows - 1} of {baseline} were not counted now" in " ".join(done.stderr.split())


def test_count_refuses_a_baseline_of_no_instructions(bundle: Path, programs: Path, tmp_path: Path) -> None:
    del programs
    count = ("emulate", "count", bundle, "--artifact", "tiny.fp32.onnx", "--output", tmp_path)
    assert run(*count).exit_code == 0
    baseline = tmp_path / "count.raspberry-pi-4.json"
    stored = json.loads(baseline.read_text())
    stored["rows"][0] |= {"total": 0, "classes": {}}
    baseline.write_text(json.dumps(stored))
    assert isinstance(run(*count, "--against", baseline).exception, InputError)


def test_count_refuses_a_baseline_that_is_none(bundle: Path, programs: Path, tmp_path: Path) -> None:
    del programs
    (tmp_path / "other.json").write_text("{}")
    for file in ("other.json", "absent.json"):
        done = run("emulate", "count", bundle, "--against", tmp_path / file)
        assert isinstance(done.exception, InputError)
    done = run("emulate", "count", bundle, "--max-increase", "two")
    assert "expected a percentage such as 2%, found 'two'" in str(done.exception)


def test_count_that_fails_is_a_failed_verdict(bundle: Path, programs: Path) -> None:
    program(programs, "qemu-aarch64", "sys.exit(9)")
    done = run("emulate", "count", bundle, "--artifact", "tiny.fp32.onnx")
    assert done.exit_code == 1
    assert "ended with code 9" in done.stderr


def test_status_and_remove(programs: Path, tmp_path: Path) -> None:
    found = json.loads(run("emulate", "status", "--json").stdout)["machines"]
    assert [(one["machine"], one["root"], one["site"]) for one in found] == [
        ("aarch64", "ready", "ready"),
        ("armv7", "absent", "absent"),
    ]
    assert found[0]["emulator"] == str(programs / "qemu-aarch64-static")
    assert "aarch64" in run("emulate", "status").stdout
    assert "removed" in run("emulate", "remove").stderr
    assert not (tmp_path / "cache" / "aarch64").exists()
    assert "nothing there" in run("emulate", "remove").stderr


def test_setup_that_is_done_does_nothing(programs: Path, tmp_path: Path) -> None:
    program(programs, "mmdebstrap", "sys.exit(1)")
    done = run("emulate", "setup", "--json")
    assert done.exit_code == 0, done.output
    assert f"everything is there: {tmp_path / 'cache' / AARCH64.name}" in done.stderr
    assert json.loads(done.stdout)["root"] == "ready"


def test_setup_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("emulate", "setup", "--cache", tmp_path / "cache")
    assert isinstance(done.exception, UsageError)
    assert done.exception.exit_code == 2
    assert "apt-get install --no-install-recommends qemu-user-static mmdebstrap" in str(done.exception)
