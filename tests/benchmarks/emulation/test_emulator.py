"""Running a model in an emulated machine: by a program that plays QEMU, well or badly."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from nanonet_edge.benchmarks.emulation.cache import Place, digest_tree
from nanonet_edge.benchmarks.emulation.cpus import cpuinfo, known_cores, make_prefix
from nanonet_edge.benchmarks.emulation.emulator import Emulator, Job
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.contract import preprocess
from nanonet_edge.devices import load_catalogue
from nanonet_edge.errors import RuntimeFailure, UsageError
from nanonet_edge.runtimes import open_runtime
from tests.benchmarks.emulation.fakes import FINISHED, HELLO, HONEST, plant, program, use
from tests.tiny_bundle import make_tiny_bundle, tiny_frames

SIZE = 32
QEMU = "qemu-aarch64-static"

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bundle"), SIZE)).artifact("tiny.fp32.onnx")


@pytest.fixture
def job(artifact: Artifact) -> Job:
    frames = tiny_frames(3, SIZE, seed=5)
    return Job(
        artifact, "onnxruntime", np.stack([preprocess(frame, artifact.record.input) for frame in frames])
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    use(monkeypatch, tmp_path / "bin")
    return plant(tmp_path / "cache")


def emulator(place: Place, body: str, patience: float = 60.0) -> Emulator:
    program(place.cache.parent / "bin", QEMU, body)
    return Emulator(place, "cortex-a72", patience=patience)


def test_outputs_are_the_engines(place: Place, job: Job) -> None:
    seen: list[int] = []
    outputs, info = emulator(place, HONEST).outputs(job, seen.append)
    with open_runtime(job.artifact, "onnxruntime") as runtime:
        expected = np.stack([runtime.invoke(tensor) for tensor in job.inputs])
        assert info.engine == runtime.info.version
    np.testing.assert_array_equal(outputs, expected)
    assert seen == [1, 2, 3]
    assert not info.delegated


def test_guest_sees_its_processor_and_nothing_of_ours(
    place: Place, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "ours")
    report = tmp_path / "report.json"
    look = f"""
prefix = sys.argv[sys.argv.index("-L") + 1]
seen = dict(
    arguments=sys.argv[1:],
    environment=dict(os.environ),
    cpuinfo=open(prefix + "/proc/cpuinfo").read(),
    python=open(prefix + "/usr/bin/python3").read(),
)
json.dump(seen, open({str(report)!r}, "w"))
{HONEST}
"""
    machine = emulator(place, look)
    before = digest_tree(place.tree("root"))
    machine.outputs(job)
    seen = json.loads(report.read_text())
    assert seen["arguments"][:3] == ["-cpu", "cortex-a72", "-L"]
    assert "CPU part\t: 0xd08\n" in seen["cpuinfo"]
    assert seen["python"] == "no real one"
    assert "SECRET" not in seen["environment"]
    assert seen["environment"]["PYTHONPATH"] == str(place.tree("site"))
    assert digest_tree(place.tree("root")) == before


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"killed by SIGSEGV"),
        (f"{HELLO}\nos.kill(os.getpid(), signal.SIGSEGV)", r"killed by SIGSEGV"),
        (
            "print('first\\nIllegal \\x1b[31minstruction', file=sys.stderr)\nsys.exit(132)",
            r"ended with code 132, saying: Illegal \?\[31minstruction",
        ),
        ("print('hello')", r"expected a line of JSON, found b'hello"),
        ("print('[' * 100000)", r"expected a line of JSON"),
        ("print('x' * 1000000)", r"expected a line of JSON"),
        ("print('[1]')", r"expected a line of JSON"),
        (FINISHED, r"expected what the guest is"),
        (f"{HELLO}\n{HELLO}", r"expected progress"),
        (f"{HELLO}\nprint(json.dumps(dict(done='many')))", r"expected progress"),
        (HELLO, r"ended with code 0"),
        (f"{HELLO}\n{FINISHED}\nsys.exit(3)", r"ended with code 3"),
        (f"{HELLO}\n{FINISHED}", r"expected outputs \(\.npy\)"),
    ],
)
def test_bad_guests_are_told_in_one_line(place: Place, job: Job, body: str, words: str) -> None:
    with pytest.raises(RuntimeFailure, match=words) as error:
        emulator(place, body).outputs(job)
    assert str(error.value).startswith("tiny.fp32.onnx on emulated onnxruntime: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "array",
    ["np.zeros((3, 1, 1, 9, 9), np.float32)", "np.zeros((3, 1, 1, 32, 32))", "np.array([{}], object)"],
)
def test_other_outputs_are_refused(place: Place, job: Job, array: str) -> None:
    body = f"""
import numpy as np
np.save(json.load(open(job))["outputs"], {array}, allow_pickle=True)
{HELLO}
{FINISHED}
"""
    with pytest.raises(RuntimeFailure, match="expected outputs"):
        emulator(place, body).outputs(job)


@pytest.mark.parametrize("body", ["time.sleep(600)", f"{HELLO}\ntime.sleep(600)"])
def test_silent_guest_is_killed(place: Place, job: Job, body: str) -> None:
    # The first line of a Python that starts is awaited, too: not much less than a second will do.
    with pytest.raises(RuntimeFailure, match="no word within 1 s, so it was killed"):
        emulator(
            place, f"open({str(place.cache / 'pid')!r}, 'w').write(str(os.getpid()))\n{body}", 1.4
        ).outputs(job)
    pid = place.cache / "pid"
    assert not pid.exists() or not psutil.pid_exists(int(pid.read_text()))


def test_nothing_is_left_behind(place: Place, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    work = place.cache.parent / "work"
    work.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    with pytest.raises(RuntimeFailure):
        emulator(place, "sys.exit(1)").outputs(job)
    assert list(work.iterdir()) == []


def test_engine_that_refuses_a_model_is_told(place: Place, job: Job, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(RuntimeFailure, match=r"ended with code 1, saying: .*broken\.onnx"):
        emulator(place, HONEST).outputs(Job(replace(job.artifact, path=broken), job.engine, job.inputs))


def test_without_qemu_the_line_to_type_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(place.cache))
    with pytest.raises(UsageError, match="apt-get install --no-install-recommends qemu-user-static"):
        Emulator(place, "cortex-a72")


def test_without_a_set_up_machine_the_line_to_type_is_told(place: Place) -> None:
    place.remove()
    with pytest.raises(UsageError, match="nanonet-edge emulate setup --machine aarch64"):
        emulator(place, HONEST)


def test_every_core_of_a_profile_can_be_described() -> None:
    cores = {profile.emulation.qemu_cpu.value for profile in load_catalogue().profiles.values()}
    assert cores - {None} <= set(known_cores())


@pytest.mark.parametrize(
    ("core", "has_dot"), [("cortex-a53", False), ("cortex-a72", False), ("cortex-a76", True)]
)
def test_cpuinfo_is_that_of_four_cores(core: str, has_dot: bool) -> None:
    text = cpuinfo(core)
    assert [line for line in text.splitlines() if line.startswith("processor")] == [
        f"processor\t: {number}" for number in range(4)
    ]
    features = next(line for line in text.splitlines() if line.startswith("Features"))
    assert ("asimddp" in features.split()) == has_dot


def test_prefix_leaves_the_root_alone(tmp_path: Path) -> None:
    (tmp_path / "root/usr").mkdir(parents=True)
    (tmp_path / "prefix").mkdir()
    make_prefix(tmp_path / "root", tmp_path / "prefix", "max")
    assert (tmp_path / "prefix/usr").resolve() == tmp_path / "root/usr"
    assert (tmp_path / "prefix/sys/devices/system/cpu/possible").read_text() == "0-3\n"
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["usr"]
