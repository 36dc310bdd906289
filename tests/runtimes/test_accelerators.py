"""GPUs under onnxruntime and the Edge TPU under LiteRT, with stand-ins for what is not here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nanonet_edge.benchmarks.full_precision import FULL_PRECISION, is_reduced
from nanonet_edge.benchmarks.plan import make_plan
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.cli.runtimes import runtimes as command
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.extras import is_installed
from nanonet_edge.manifest import record_file
from nanonet_edge.runtimes import _edgetpu, _nvidia, list_runtimes, obstacle_to, open_runtime, spec_for
from nanonet_edge.runtimes import onnx_runtime as module
from nanonet_edge.runtimes._nvidia import Gpu, find_gpu
from nanonet_edge.runtimes.litert import LiteRt
from tests.runtimes.native import CUDA, EDGETPU, compile_library
from tests.runtimes.tiny_tflite import make_tiny_tflite
from tests.tiny_bundle import make_tiny_bundle

needs_litert = pytest.mark.skipif(
    not (is_installed("ai_edge_litert") and is_installed("flatbuffers")),
    reason="needs litert and flatbuffers",
)
ORIN, NANO = Gpu("Orin", (8, 7)), Gpu("NVIDIA Tegra X1", (5, 3))
CPU, CUDA_NAME, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was found out of this machine is forgotten before and after."""
    caches = (find_gpu, _nvidia.tensorrt_library_version, _edgetpu.find_library)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return Bundle.open(make_tiny_bundle(tmp_path / "tiny")).artifact("tiny.fp32.onnx")


# --- the driver ---------------------------------------------------------------------------


def test_gpu_is_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = compile_library(tmp_path / "libcuda.so", CUDA)
    monkeypatch.setattr(_nvidia, "_LIBRARY", str(library))
    assert find_gpu() == ORIN
    assert str(ORIN) == "Orin (compute capability 8.7)"
    assert (ORIN.has_tf32, NANO.has_tf32) == (True, False)


def test_driver_without_a_gpu_and_no_driver_have_their_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compile_library(tmp_path / "libcuda.so", CUDA, "-DFAIL")
    monkeypatch.setattr(_nvidia, "_LIBRARY", str(library))
    assert find_gpu() == "no NVIDIA GPU can be used: the driver answered cuInit with error 100"
    find_gpu.cache_clear()
    monkeypatch.setattr(_nvidia, "_LIBRARY", str(tmp_path / "none.so"))
    assert "cannot be loaded" in str(find_gpu())


# --- onnxruntime --------------------------------------------------------------------------


class FakeOrt:
    """onnxruntime with NVIDIA's providers, computing on the real one's CPU.

    `ran_on` is where its profile says that the convolution ran; `falls_back` makes it drop the
    provider without an error, as it does where a library is missing.
    """

    def __init__(self, ran_on: str, *, falls_back: bool = False) -> None:
        import onnxruntime

        self._real = onnxruntime
        self.SessionOptions = onnxruntime.SessionOptions
        self.asked: list[Any] = []
        self.ran_on, self.falls_back = ran_on, falls_back

    def get_available_providers(self) -> list[str]:
        return [TENSORRT, CUDA_NAME, CPU]

    def InferenceSession(self, path: str, options: Any, providers: list[Any]) -> Any:  # noqa: N802
        self.asked.append(providers)
        real = self._real.InferenceSession(path, options, providers=[CPU])
        (first,) = providers
        name = first if isinstance(first, str) else first[0]
        names = [CPU] if self.falls_back else [name, CPU]
        return SimpleNamespace(
            get_providers=lambda: names,
            get_inputs=real.get_inputs,
            get_outputs=real.get_outputs,
            run=real.run,
            end_profiling=lambda: self._rewrite(real.end_profiling()),
        )

    def _rewrite(self, profile: str) -> str:
        path = Path(profile)
        events = json.loads(path.read_text())
        for event in events:
            if event.get("cat") == "Node" and "op_name" in event["args"]:
                event["args"]["provider"] = self.ran_on
                if self.ran_on == TENSORRT:
                    event["args"]["op_name"] = "TRTKernel_graph_tiny_0"
        path.write_text(json.dumps(events))
        return profile


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Puts a FakeOrt and a GPU in place."""
    monkeypatch.setenv("NANONET_EDGE_CACHE", str(tmp_path / "cache"))

    def put(ran_on: str, gpu: Gpu | str = ORIN, *, falls_back: bool = False) -> FakeOrt:
        fake = FakeOrt(ran_on, falls_back=falls_back)
        monkeypatch.setattr(module, "require", lambda name: fake)
        monkeypatch.setattr(module, "find_gpu", lambda: gpu)
        return fake

    return put


@pytest.mark.parametrize(
    ("spec", "gpu", "computed", "options"),
    [
        ("onnxruntime:cuda", ORIN, "tf32", None),
        ("onnxruntime:cuda,fp32", ORIN, "fp32", {"use_tf32": "0"}),
        ("onnxruntime:cuda", NANO, "fp32", None),
        ("onnxruntime:CUDAExecutionProvider", ORIN, "tf32", None),
    ],
)
def test_cuda_says_in_what_it_computes(
    spec: str, gpu: Gpu, computed: str, options: dict[str, str] | None, artifact: Artifact, ort: Any
) -> None:
    fake = ort(CUDA_NAME, gpu)
    with open_runtime(artifact, spec) as engine:
        info = engine.info
    assert (info.computed_precision, info.delegate, info.device) == (computed, CUDA_NAME, str(gpu))
    assert fake.asked[0] == ([(CUDA_NAME, options)] if options else [CUDA_NAME])


def test_tf32_is_less_than_float32_and_the_full_precision_is_benched_too() -> None:
    assert is_reduced("tf32")
    assert FULL_PRECISION["onnxruntime:cuda"] == "onnxruntime:cuda,fp32"


@pytest.mark.parametrize(
    ("spec", "half"), [("onnxruntime:tensorrt", False), ("onnxruntime:tensorrt,fp16", True)]
)
def test_tensorrt_keeps_its_engines_by_what_they_depend_on(
    spec: str, half: bool, artifact: Artifact, ort: Any, tmp_path: Path
) -> None:
    fake = ort(TENSORRT)
    with open_runtime(artifact, spec) as engine:
        assert engine.info.computed_precision == "not told"
        assert engine.info.options["nodes_on_TensorrtExecutionProvider"] != "0"
    (((provider, options),),) = fake.asked[:1]
    assert provider == TENSORRT
    assert options["trt_engine_cache_enable"] == "1"
    assert Path(options["trt_engine_cache_path"]).is_relative_to(tmp_path / "cache")
    assert ("trt_fp16_enable" in options) is half
    other = ort(TENSORRT, NANO)
    open_runtime(artifact, spec).close()
    assert other.asked[0][0][1]["trt_engine_cache_path"] != options["trt_engine_cache_path"]


def test_fallback_at_the_start_is_refused(artifact: Artifact, ort: Any) -> None:
    ort(CPU, falls_back=True)
    with pytest.raises(
        UnsupportedError, match="fell back from CUDAExecutionProvider to CPUExecutionProvider"
    ):
        open_runtime(artifact, "onnxruntime:cuda")


@pytest.mark.parametrize("spec", ["onnxruntime:cuda", "onnxruntime:tensorrt"])
def test_fallback_of_the_convolutions_is_refused(spec: str, artifact: Artifact, ort: Any) -> None:
    ort(CPU)
    with open_runtime(artifact, spec) as engine, pytest.raises(RuntimeFailure, match="would be the CPU's"):
        assert engine.info


def test_provider_without_a_gpu_is_refused_in_one_line(artifact: Artifact, ort: Any) -> None:
    ort(CUDA_NAME, "no NVIDIA GPU can be used: it is a lemon")
    with pytest.raises(UnsupportedError, match="it is a lemon"):
        open_runtime(artifact, "onnxruntime:cuda")
    assert "it is a lemon" in str(obstacle_to("onnxruntime:cuda"))
    assert "it is a lemon" in str(obstacle_to("onnxruntime:tensorrt,int8"))
    assert obstacle_to("onnxruntime") is None


def test_only_what_works_here_is_listed_as_an_option(ort: Any) -> None:
    ort(CUDA_NAME)
    (listing,) = (one for one in list_runtimes() if one.name == "onnxruntime")
    assert "cuda" in listing.options
    assert listing.unavailable == {}
    ort(CUDA_NAME, "no GPU")
    (listing,) = (one for one in list_runtimes() if one.name == "onnxruntime")
    assert "cuda" not in listing.options
    assert set(listing.unavailable.values()) == {"no GPU"}


# --- the Edge TPU -------------------------------------------------------------------------


@needs_litert
def test_without_its_library_the_reason_is_listed_and_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_edgetpu, "_NAMES", ("libsurely-not-there.so.1",))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    (listing,) = (one for one in list_runtimes() if one.name == "litert")
    assert "libsurely-not-there.so.1 cannot be loaded" in listing.unavailable["edgetpu"]
    assert "edgetpu" not in listing.options
    with pytest.raises(UnsupportedError, match="no Edge TPU can be used"):
        open_runtime(make_tiny_tflite(tmp_path), "litert:edgetpu")
    command()
    assert "not here: edgetpu: no Edge TPU" in capsys.readouterr().out


@needs_litert
def test_file_that_was_not_compiled_for_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compile_library(tmp_path / "libedgetpu.so", EDGETPU)
    monkeypatch.setattr(_edgetpu, "_NAMES", (str(library),))
    with pytest.raises(UnsupportedError, match="all of it would run on the CPU"):
        open_runtime(make_tiny_tflite(tmp_path), "litert:edgetpu")


def compiled(folder: Path) -> Artifact:
    """A file that says of itself that it was compiled: the marker lies behind the flatbuffer."""
    artifact = make_tiny_tflite(folder)
    artifact.path.write_bytes(artifact.path.read_bytes() + b"edgetpu-custom-op")
    record = artifact.record.model_copy(update={"files": (record_file(artifact.path, folder),)})
    return Artifact(artifact.path, record, artifact.manifest_sha256)


@needs_litert
def test_delegate_that_finds_no_device_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = compile_library(tmp_path / "libedgetpu.so", EDGETPU)
    monkeypatch.setattr(_edgetpu, "_NAMES", (str(library),))
    artifact = compiled(tmp_path)
    assert spec_for(artifact) == "litert:edgetpu"
    with pytest.raises(
        RuntimeFailure, match=r"delegate refused: .*No Edge TPU device is plugged in"
    ) as caught:
        open_runtime(artifact, "litert:edgetpu")
    assert "\n" not in str(caught.value)


@needs_litert
def test_compiled_file_is_not_run_without_its_delegate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_edgetpu, "find_library", lambda: None)
    artifact = compiled(tmp_path)
    with pytest.raises(UnsupportedError, match="no Edge TPU can be used"):
        spec_for(artifact)
    with pytest.raises(UnsupportedError, match="compiled for the Edge TPU: expected litert:edgetpu"):
        open_runtime(artifact, "litert")


@needs_litert
def test_what_runs_where_is_read_from_the_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real interpreter runs the file; its list of operators is that of a compiled one."""
    monkeypatch.setattr(_edgetpu, "find_library", lambda: "libedgetpu.so.1")
    monkeypatch.setattr(LiteRt, "_make", lambda self, path, xnnpack: plain(path))
    custom = {"op_name": "edgetpu-custom-op", "inputs": [0], "outputs": [1], "operand_types": [np.uint8]}
    softmax = {"op_name": "SOFTMAX", "inputs": [1], "outputs": [2], "operand_types": [np.int8]}
    delegate = {**custom, "op_name": "DELEGATE"}

    def plain(path: Path) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path))
        interpreter._get_ops_details = lambda: [custom, softmax, delegate]
        return interpreter

    with open_runtime(compiled(tmp_path), "litert:edgetpu") as engine:
        info = engine.info
    assert (info.device, info.computed_precision) == ("Edge TPU", "int8")
    assert info.delegate == "Edge TPU (and the CPU for 1 operators)"


@pytest.mark.parametrize("spec", ["litert:edgetpu", "onnxruntime:cuda", "tensorrt"])
def test_plan_refuses_what_cannot_run_before_anything_is_measured(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_edgetpu, "find_library", lambda: None)
    for place in ("onnx_runtime", "tensorrt"):
        monkeypatch.setattr(f"nanonet_edge.runtimes.{place}.find_gpu", lambda: "no GPU is here")
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    with pytest.raises(UsageError, match=r"no GPU is here|no Edge TPU|is built without"):
        make_plan(bundle, [spec], None)
