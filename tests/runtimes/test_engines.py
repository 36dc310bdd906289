"""What is particular to one engine, and the base class without any."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanonet_edge.bundle import Artifact
from nanonet_edge.contract import Array, InputContract, OutputContract
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.extras import is_installed, require
from nanonet_edge.manifest import record_file
from nanonet_edge.quiet import Captured
from nanonet_edge.runtimes import Runtime, RuntimeInfo, open_runtime
from nanonet_edge.runtimes._nvidia import Gpu
from nanonet_edge.runtimes._tflite_graph import Operator, read_execution
from nanonet_edge.runtimes._tflite_interpreter import with_last_words
from nanonet_edge.runtimes.litert import LiteRt
from nanonet_edge.runtimes.onnx_runtime import OnnxRuntime
from nanonet_edge.runtimes.tf_lite import TfLite
from nanonet_edge.variants import Precision
from tests.runtimes.tiny_tflite import make_tiny_tflite
from tests.tiny_bundle import tiny_frames

needs_litert = pytest.mark.skipif(
    not (is_installed("ai_edge_litert") and is_installed("flatbuffers")),
    reason="needs litert and flatbuffers",
)
needs_bundle = pytest.mark.skipif(
    not all(is_installed(module) for module in ("onnx", "onnxruntime", "openvino")),
    reason="needs onnx, onnxruntime and openvino",
)


class Fake(Runtime):
    """An engine that gives what it is told to."""

    def __init__(self, result: Array | Exception, threads: int = 1) -> None:
        takes = InputContract(name="in", shape=(1, 2, 2, 3))
        gives = OutputContract(name="out", shape=(1, 2, 2, 1))
        super().__init__("fake.model", takes, gives, threads)
        self.result = result
        self.released = 0

    def _invoke(self, x: Array) -> Array:
        assert x is X
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def _describe(self) -> RuntimeInfo:
        raise ValueError("no idea")

    def _release(self) -> None:
        self.released += 1


X = np.zeros((1, 2, 2, 3), np.float32)
GOOD = np.zeros((1, 2, 2, 1), np.float32)


def test_what_an_engine_raises_becomes_one_line() -> None:
    with (
        Fake(Exception("first\n  second\n" + "x" * 9999)) as runtime,
        pytest.raises(RuntimeFailure) as caught,
    ):
        runtime.invoke(X)
    assert str(caught.value).startswith("fake.model: the engine failed to run it: first second xxx")
    assert len(str(caught.value)) < 500
    with Fake(GOOD) as runtime, pytest.raises(RuntimeFailure, match="failed to describe it: no idea"):
        assert runtime.info


def test_a_silent_exception_still_has_a_name() -> None:
    with Fake(MemoryError()) as runtime, pytest.raises(RuntimeFailure, match="MemoryError"):
        runtime.invoke(X)


@pytest.mark.parametrize("result", [GOOD[0], GOOD.astype(np.float64)], ids=["shape", "dtype"])
def test_a_result_that_breaks_the_contract_is_refused(result: Array) -> None:
    with Fake(result) as runtime, pytest.raises(RuntimeFailure, match="the engine gave"):
        runtime.invoke(X)


def test_closing_twice_releases_once() -> None:
    with Fake(GOOD) as runtime:
        runtime.invoke(X)
        runtime.close()
    assert runtime.released == 1


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_positive(threads: int) -> None:
    with pytest.raises(UsageError, match=f"found {threads}"):
        Fake(GOOD, threads)


# --- TFLite's list of operators ---------------------------------------------------------


def conv(inputs: tuple[int, ...], output: int, *dtypes: str) -> Operator:
    return Operator("CONV_2D", inputs, (output,), dtypes or ("float32", "float32"))


def test_a_group_in_the_middle_is_told_apart() -> None:
    chain = [
        conv((0, 10), 1),
        conv((1, 11), 2),
        conv((2, 12), 3),
        Operator("LOGISTIC", (3,), (4,), ("float32",)),
    ]
    middle = Operator("DELEGATE", (1, 11, 12), (3,), ("float32",) * 3)
    execution = read_execution([*chain, middle])
    assert (execution.operators, execution.delegated) == (4, 2)
    assert execution.delegate == "XNNPACK (2 of 4 operators)"
    everything = Operator("DELEGATE", (0, 10, 11, 12), (4,), ("float32",) * 4)
    assert read_execution([*chain, everything]).delegate == "XNNPACK"
    assert read_execution(chain).delegate == "none"


@pytest.mark.parametrize(
    ("dtypes", "precision"),
    [
        (("float32", "float32"), "fp32"),
        (("float32", "int8"), "dynamic int8"),
        (("int8", "int8", "int32"), "int8"),
        (("int16", "int8"), "int16x8"),
        (("uint8", "int4"), "uint8xint4"),
    ],
)
def test_the_arithmetic_follows_from_the_dtypes(dtypes: tuple[str, ...], precision: str) -> None:
    assert read_execution([conv((0, 1), 2, *dtypes)]).precision == precision
    mixed = read_execution([conv((0, 1), 2, *dtypes), conv((2, 3), 4, "float16", "float16")])
    assert mixed.precision == "+".join(sorted({precision, "fp16"}))
    assert read_execution([Operator("ADD", (0, 1), (2,), dtypes)]).precision == "none"


@pytest.mark.parametrize(("activations", "weights"), [("float32", "float32"), ("int8", "int8")])
def test_a_transposed_convolution_is_told_by_its_last_two_inputs(activations: str, weights: str) -> None:
    transposed = Operator("TRANSPOSE_CONV", (7, 8, 0), (1,), ("int32", weights, activations))
    plain = conv((1, 9), 2, activations, weights)
    assert read_execution([transposed, plain]).precision == read_execution([plain]).precision


# --- engines ----------------------------------------------------------------------------


@needs_litert
def test_a_graph_that_xnnpack_refuses_says_so_and_runs_without(tmp_path: Path) -> None:
    artifact = make_tiny_tflite(tmp_path, Precision.STATIC_WI8_AI8, logit=(8e-9, 0))
    with pytest.raises(RuntimeFailure) as caught:
        open_runtime(artifact, "litert")
    message = str(caught.value)
    assert message.startswith(f"{artifact.path}: XNNPACK refused the graph")
    assert "failed to prepare" in message
    assert "litert:no-xnnpack may run it" in message
    with open_runtime(artifact, "litert:no-xnnpack") as runtime:
        assert runtime.mask(tiny_frames(1, 64)[0]).shape == (64, 64)


@needs_litert
def test_litert_does_not_announce_its_delegate(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.runtimes.tiny_tflite import make_tiny_tflite\n"
        "from nanonet_edge.runtimes import open_runtime; from nanonet_edge.variants import Precision\n"
        "artifact = make_tiny_tflite(Path(sys.argv[1]), Precision.FP32)\n"
        "print(open_runtime(artifact, 'litert').info.delegate)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("XNNPACK\n", "")


def test_an_engines_last_words_become_part_of_its_error() -> None:
    said = Captured()
    said.text = "INFO: Created a delegate.\nERROR: tensor 7 has no buffer\nERROR: known\n"
    assert with_last_words("ERROR: known\n", said) == "ERROR: known; ERROR: tensor 7 has no buffer"


@needs_litert
def test_litert_reports_xnnpack(artifacts: dict[str, Artifact]) -> None:
    for precision in ("fp32", "static_wi8_ai8"):
        with open_runtime(artifacts[f"tiny.{precision}.tflite"], "litert") as runtime:
            assert runtime.info.delegate == "XNNPACK"
            assert runtime.info.options == {"delegated_operators": "2 of 2"}


@needs_litert
def test_closing_lets_go_of_the_interpreter(artifacts: dict[str, Artifact]) -> None:
    runtime = open_runtime(artifacts["tiny.fp32.tflite"], "litert")
    assert isinstance(runtime, LiteRt)
    interpreter = weakref.ref(runtime._opened)
    runtime.close()
    gc.collect()
    assert interpreter() is None


def test_a_tensorflow_without_tf_lite_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setattr(TfLite, "version", lambda: "9.9")
    obstacle = TfLite.obstacle()
    assert isinstance(obstacle, UnsupportedError)
    assert str(obstacle) == "tensorflow 9.9 has no tf.lite: use the runtime litert"


@needs_bundle
def test_a_provider_that_falls_back_is_refused(
    artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = require("onnxruntime")
    claimed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(engine, "get_available_providers", lambda: claimed)
    monkeypatch.setattr("nanonet_edge.runtimes.onnx_runtime.find_gpu", lambda: Gpu("Orin", (8, 7)))
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(UnsupportedError, match="fell back from CUDAExecutionProvider"),
    ):
        open_runtime(artifacts["tiny.fp32.onnx"], "onnxruntime:CUDAExecutionProvider")


class _Reader:
    """Calibration data for onnxruntime's quantizer."""

    def __init__(self) -> None:
        self._frames = iter(tiny_frames(4, 64))

    def get_next(self) -> dict[str, Any] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"input": frame[np.newaxis].astype(np.float32) / 255.0}


@needs_bundle
def test_onnxruntime_tells_int8_from_fp32(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    artifact = artifacts["tiny.fp32.onnx"]
    path = tmp_path / artifact.path.name
    quantization.quantize_static(artifact.path, path, _Reader(), quant_format=quantization.QuantFormat.QDQ)
    record = artifact.record.model_copy(update={"files": (record_file(path, tmp_path),)})
    quantized = Artifact(path, record, artifact.manifest_sha256)
    with open_runtime(quantized, "onnxruntime") as runtime:
        assert runtime.info.computed_precision == "int8"
    # OpenVINO runs so small a convolution in integers on some CPUs and in floats on others.
    with open_runtime(quantized, "openvino:f32") as runtime:
        assert runtime.info.computed_precision in ("int8", "fp32")
        assert runtime.info.options == {"inference_precision_hint": "f32"}


@needs_bundle
def test_openvino_computes_as_asked_or_refuses(artifacts: dict[str, Artifact]) -> None:
    able = require("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for asked, computed, capability in (
        ("f32", "fp32", "FP32"),
        ("bf16", "bf16", "BF16"),
        ("f16", "fp16", "FP16"),
    ):
        if capability in able:
            with open_runtime(artifacts["tiny.fp32.openvino"], f"openvino:{asked}") as runtime:
                assert runtime.info.computed_precision == computed
        else:
            with pytest.raises(UnsupportedError, match=f"cannot compute in {asked}: it chose"):
                open_runtime(artifacts["tiny.fp32.openvino"], f"openvino:{asked}")


@needs_bundle
def test_openvino_is_not_misled_by_compressed_weights(artifacts: dict[str, Artifact], tmp_path: Path) -> None:
    engine = require("openvino")
    path = tmp_path / "tiny.fp32.xml"
    model = engine.convert_model(artifacts["tiny.fp32.onnx"].path)
    engine.save_model(model, path, compress_to_fp16=True)
    files = tuple(record_file(file, tmp_path) for file in (path, path.with_suffix(".bin")))
    record = artifacts["tiny.fp32.openvino"].record.model_copy(update={"files": files})
    with open_runtime(Artifact(path, record, "0" * 64), "openvino:f32") as runtime:
        assert runtime.info.computed_precision == "fp32"


def test_onnx_precision_of_a_graph_without_convolutions() -> None:
    from nanonet_edge.runtimes.onnx_runtime import computed_precision

    assert computed_precision([]) == "none"
    events = [{"op_name": "Conv", "provider": OnnxRuntime.name, "input_type_shape": [{"double": [1]}]}]
    assert computed_precision(events) == "double"
