"""TensorRT: trtexec's formats as recorded, a program that behaves as it does, the engines kept."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.bench import bench
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.results import BenchSettings
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.runtimes import tensorrt as module
from nanonet_edge.runtimes._trtexec import (
    find_trtexec,
    parse_log,
    read_output,
    read_precision,
    read_times,
    version_text,
)
from nanonet_edge.runtimes.tensorrt import TensorRt
from tests.runtimes import fake_trtexec
from tests.runtimes.fake_trtexec import ORIN, calls, install
from tests.runtimes.native import CUDA, compile_library
from tests.tiny_bundle import make_tiny_bundle, tiny_frames, tiny_reference

#: What trtexec of TensorRT 10.9 printed on an RTX 3070, as its user published it; shortened.
RECORDED = """\
[04/08/2025-23:14:00] [I] Selected Device: NVIDIA GeForce RTX 3070
[04/08/2025-23:14:00] [I] Compute Capability: 8.6
[04/08/2025-23:15:48] [I] Engine deserialized in 0.21022 sec.
[04/08/2025-23:15:51] [I] === Performance summary ===
[04/08/2025-23:15:51] [I] Throughput: 8.66824 qps
[04/08/2025-23:15:51] [I] Latency: min = 110.946 ms, max = 115.703 ms, mean = 112.938 ms, median = 112.567 ms, percentile(90%) = 114.427 ms, percentile(95%) = 115.415 ms, percentile(99%) = 115.703 ms
[04/08/2025-23:15:51] [I] Enqueue Time: min = 0.495506 ms, max = 0.953369 ms, mean = 0.733638 ms, median = 0.734863 ms
[04/08/2025-23:15:51] [I] GPU Compute Time: min = 109.522 ms, max = 114.185 ms, mean = 111.557 ms, median = 111.208 ms
[04/08/2025-23:15:51] [W] * GPU compute time is unstable, with coefficient of variance = 1.08662%.
&&&& PASSED TensorRT.trtexec [TensorRT v100900] [b34] # trtexec --onnx=fcn-resnet101.onnx
"""  # noqa: E501 - as it was printed
#: It has ended so although nothing was loaded.
FALSE_PASS = """\
[01/01/2026-00:00:00] [E] Error[6]: IRuntime::deserializeCudaEngine: incompatible plan
[01/01/2026-00:00:00] [E] Engine deserialization failed
&&&& PASSED TensorRT.trtexec [TensorRT v101303] [b9]
"""


def test_recorded_log_is_read() -> None:
    log = parse_log(RECORDED)
    assert (log.version, log.device, log.load_seconds) == (100900, "NVIDIA GeForce RTX 3070", 0.21022)
    assert log.summary["Latency"]["median"] == 112.567
    assert log.summary["Latency"]["percentile(99%)"] == 115.703
    assert log.summary["GPU Compute Time"]["min"] == 109.522
    assert log.passed
    assert log.errors == ()


def test_success_without_an_engine_is_told_apart() -> None:
    log = parse_log(FALSE_PASS)
    assert log.passed
    assert log.load_seconds is None
    assert log.errors[0] == "Error[6]: IRuntime::deserializeCudaEngine: incompatible plan"


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert parse_log(text).load_seconds is None or "Engine" in text


@pytest.mark.parametrize(
    ("version", "text"), [(8201, "8.2.1"), (8502, "8.5.2"), (100300, "10.3.0"), (101303, "10.13.3")]
)
def test_version_is_written_as_usual(version: int, text: str) -> None:
    assert version_text(version) == text


def layer(datatype: str, kind: str = "CaskConvolution", tactic: str = "") -> dict[str, object]:
    return {"LayerType": kind, "Inputs": [{"Format/Datatype": datatype}], "TacticName": tactic}


#: Formats as TensorRT 8.5 to 10.9 name them.
LAYERS = {
    "half": ([layer("Channel major FP16 format where channel % 4 == 0")], True, "fp16"),
    "short half": ([layer("Half")], True, "fp16"),
    "int8": ([layer("Thirty-two wide channel vectorized row major Int8 format.")], True, "int8"),
    "mixed": ([layer("Int8"), layer("Half")], True, "fp16+int8"),
    "tf32 by its tactic": ([layer("Row major linear FP32", tactic="sm80_xmma_tf32f32")], True, "tf32"),
    "fp32 by its tactic": ([layer("Row major linear FP32", tactic="ampere_scudnn_128x32")], True, "fp32"),
    "fp32 that may be tf32": ([layer("Float")], True, "tf32"),
    "fp32 for sure": ([layer("Float")], False, "fp32"),
    "no convolution": ([layer("Half", "Reformat"), "a name only"], True, "not told"),
}


@pytest.mark.parametrize("case", LAYERS)
def test_precision_is_that_of_the_convolutions(case: str, tmp_path: Path) -> None:
    layers, tf32, expected = LAYERS[case]
    path = tmp_path / "layers.json"
    path.write_text(json.dumps({"Layers": layers}))
    assert read_precision(path, tf32=tf32) == expected


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", '[{"latencyMs": null}]', '[{"latencyMs": -1}]', '[{"computeMs": 1}]']
)
def test_damaged_exports_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(text)
    for read in (
        read_times,
        lambda path: read_output(path, "y"),
        lambda path: read_precision(path, tf32=True),
    ):
        with pytest.raises(RuntimeFailure, match=r"export\.json"):
            read(path)


def test_output_has_its_own_shape(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    path.write_text(
        '[\n  { "name" : "y"\n  , "dimensions" : "1x1x1x2"\n  , "values" : [ 0.25, 1e-05 ]\n  }\n]'
    )
    assert read_output(path, "y").tolist() == [[[[0.25, 1e-05]]]]
    with pytest.raises(RuntimeFailure, match="tensor z"):
        read_output(path, "z")


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Bundle.open(make_tiny_bundle(tmp_path / "tiny")).artifact("tiny.fp32.onnx")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the PATH with the stand-in for trtexec, a GPU, and a cache of its own."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NANONET_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "find_gpu", lambda: ORIN)
    install(folder)
    return folder


def test_probabilities_times_and_facts_come_through_the_program(artifact: Artifact, programs: Path) -> None:
    frame = tiny_frames(1, 64)
    with open_runtime(artifact, "tensorrt:fp16") as engine:
        assert engine.load_ns == 12_500_000
        np.testing.assert_allclose(engine.probability(frame[0]), tiny_reference(frame)[0], atol=2e-6)
        samples = engine.time_invoke(np.zeros((1, 64, 64, 3), np.float32), 20, 1.5)
        assert samples.tolist() == [1_200_000 + 10_000 * index for index in range(20)]
        info = engine.info
    assert (info.version, info.device) == ("8.5.2", "Orin (compute capability 8.7)")
    assert (info.computed_precision, info.options["asked_precision"]) == ("fp16", "fp16")
    assert "host's share is not in it" in info.options["timed_by"]
    build, load, invoke, timed = calls(programs)
    assert "--fp16" in build
    assert any(option.startswith("--onnx=") for option in build)
    assert any(option.startswith("--loadEngine=") for option in load)
    assert any(option.startswith("--loadInputs=input:") for option in invoke)
    assert {"--iterations=20", "--duration=2", "--exposeDMA"} <= set(timed)


def test_times_that_contradict_what_is_printed_are_refused(artifact: Artifact, programs: Path) -> None:
    install(programs, printed_median=2.5)
    with (
        open_runtime(artifact, "tensorrt") as engine,
        pytest.raises(RuntimeFailure, match=r"printed a median of 2\.5 ms and exported one of 1\.295"),
    ):
        engine.time_invoke(np.zeros((1, 64, 64, 3), np.float32), 20, 0.0)


def built(programs: Path) -> int:
    return sum(any(option.startswith("--onnx=") for option in call) for call in calls(programs))


def test_engine_is_built_once_and_anew_where_anything_differs(
    artifact: Artifact, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(of: Artifact = artifact, spec: str = "tensorrt") -> int:
        open_runtime(of, spec).close()
        return built(programs)

    assert [load(), load()] == [1, 1]
    assert load(spec="tensorrt:fp32") == 2
    assert load(Bundle.open(tmp_path / "tiny").artifact("tiny.fp16.onnx")) == 3
    install(programs, version=100300)
    assert load() == 4
    monkeypatch.setattr(module, "find_gpu", lambda: fake_trtexec.Gpu("Xavier", (7, 2)))
    assert [load(), load()] == [5, 5]


@pytest.mark.parametrize("damage", ["truncate", "record", "both gone"])
def test_damaged_engine_is_built_anew(
    damage: str, artifact: Artifact, programs: Path, tmp_path: Path
) -> None:
    open_runtime(artifact, "tensorrt").close()
    (engine,) = (tmp_path / "cache").rglob("*.engine")
    if damage == "truncate":
        engine.write_bytes(engine.read_bytes()[:-3])
    elif damage == "record":
        engine.with_suffix(".json").write_text("[]")
    else:
        engine.unlink()
        engine.with_suffix(".json").unlink()
    open_runtime(artifact, "tensorrt").close()
    assert built(programs) == 2


FAULTS = {
    "error": ("print('[01/01/2026-00:00:00] [E] Out of memory'); sys.exit(1)", "Out of memory"),
    "killed": ("import os; os.kill(os.getpid(), 9)", "ended with code -9"),
    "false pass": (f"print({FALSE_PASS!r}); sys.exit(0)", "incompatible plan"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_failure_is_one_line_and_leaves_no_engine(
    case: str, artifact: Artifact, programs: Path, tmp_path: Path
) -> None:
    fault, message = FAULTS[case]
    install(programs, fault=fault)
    with pytest.raises(RuntimeFailure, match=message) as caught:
        open_runtime(artifact, "tensorrt")
    assert str(artifact.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_program_that_hangs_is_killed(
    artifact: Artifact, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, fault="import time; time.sleep(600)")
    monkeypatch.setattr(module, "_BUILD_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.raises(RuntimeFailure, match="did not end within"):
        open_runtime(artifact, "tensorrt")
    assert time.monotonic() - start < 300, "it was waited for"


def test_without_gpu_or_program_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_gpu", lambda: "no NVIDIA GPU can be used: it is a lemon")
    assert str(TensorRt.obstacle()) == "tensorrt: no NVIDIA GPU can be used: it is a lemon"
    monkeypatch.setattr(module, "find_gpu", lambda: ORIN)
    monkeypatch.setenv("PATH", str(tmp_path))
    if find_trtexec() is None:
        assert "expected trtexec" in str(TensorRt.obstacle())
    program = tmp_path / "trtexec"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    assert "expected trtexec, which names its version" in str(TensorRt.obstacle())
    assert TensorRt.version() is None


@pytest.mark.parametrize(
    ("spec", "message"), [("tensorrt:fp16,int8", "several"), ("tensorrt:bf16", "no option")]
)
def test_wrong_options_are_refused(spec: str, message: str, artifact: Artifact) -> None:
    with pytest.raises(UsageError, match=message):
        open_runtime(artifact, spec)


def test_int8_needs_the_ranges_of_the_bundle(artifact: Artifact, programs: Path) -> None:
    with pytest.raises(UnsupportedError, match="takes its ranges from the bundle's int8 ONNX file"):
        open_runtime(artifact, "tensorrt:int8")
    assert built(programs) == 0


def test_scale_is_written_as_float32_bits() -> None:
    from nanonet_edge.runtimes._onnx_ranges import Range
    from nanonet_edge.runtimes._tensorrt_calibration import cache_text

    text = cache_text({"input_1:0": Range(0.0, 1.0, "uint8", 0)}, 100300)
    # NVIDIA's own caches have this very line for an input from 0 to 1 (and a bit).
    assert text == f"TRT-100300-EntropyCalibration2\ninput_1:0: {struct.pack('>f', 1 / 127).hex()}\n"
    assert text.splitlines()[1].endswith(": 3c010204")


@pytest.mark.usefixtures("programs")
def test_bench_measures_an_engine_in_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the plan to the row, in a worker that finds a stand-in for the driver's library."""
    library = compile_library(tmp_path / "libcuda.so.1", CUDA)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library.parent))
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    settings = BenchSettings(min_seconds=0.0, min_count=12)
    (row,) = bench(bundle, settings, runtimes=["tensorrt:fp16"], artifacts=["tiny.fp32.onnx"]).rows
    assert row.failure is None
    found = row.measurement
    assert found is not None
    assert (found.runtime.delegate, found.runtime.computed_precision) == ("TensorRT", "fp16")
    assert found.invoke.samples_ns == tuple(1_200_000 + 10_000 * index for index in range(12))
    # A frame is one of the program's own times, and what is done before and after it.
    assert found.frame.summary.n == 12
    assert found.frame.summary.min_ms > 1.2
    assert "one of 100 invocations" in (found.frame.note or "")
    assert found.load.value == 12.5
    assert (found.memory.value, found.invoke.window_ns, found.frame.window_ns) == (None, None, None)
    assert row.watched is not None
    assert all(one.millijoules.value is None for one in row.watched.energy)
