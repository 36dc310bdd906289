"""Runtimes by name."""

from __future__ import annotations

import json

import pytest

from nanonet_edge.bundle import Artifact
from nanonet_edge.cli.runtimes import runtimes as command
from nanonet_edge.errors import MissingExtraError, UnsupportedError, UsageError
from nanonet_edge.runtimes import (
    RuntimeSpec,
    default_spec,
    engine,
    list_runtimes,
    open_runtime,
    parse_spec,
    runtimes_for,
)
from nanonet_edge.runtimes.litert import LiteRt
from nanonet_edge.runtimes.onnx_runtime import OnnxRuntime
from nanonet_edge.runtimes.openvino import OpenVino
from nanonet_edge.runtimes.tf_lite import TfLite
from nanonet_edge.runtimes.tflite_runtime import TfliteRuntime
from nanonet_edge.variants import Format

NAMES = ("litert", "tflite-runtime", "tf-lite", "onnxruntime", "openvino", "tensorrt")


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("litert", "litert", ()),
        ("litert:no-xnnpack", "litert", ("no-xnnpack",)),
        ("tflite-runtime:no-xnnpack", "tflite-runtime", ("no-xnnpack",)),
        ("onnxruntime:CUDAExecutionProvider", "onnxruntime", ("CUDAExecutionProvider",)),
        ("onnxruntime:tensorrt,int8", "onnxruntime", ("tensorrt", "int8")),
        ("openvino:f32", "openvino", ("f32",)),
        ("openvino:GPU.1,f16", "openvino", ("GPU.1", "f16")),
    ],
)
def test_a_spec_is_read_and_printed(text: str, name: str, options: tuple[str, ...]) -> None:
    spec = parse_spec(text)
    assert spec == RuntimeSpec(name, options)
    assert str(spec) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"runtime '' is unknown: expected one of {', '.join(NAMES)}"),
        ("tensorflow", f"runtime 'tensorflow' is unknown: expected one of {', '.join(NAMES)}"),
        ("LiteRT", "runtime 'LiteRT' is unknown"),
        (
            "keras:predict",
            f"runtime 'keras' runs the reference, no artifact: expected one of {', '.join(NAMES)}",
        ),
        ("litert:", "litert has no option '': expected one of no-xnnpack"),
        ("litert:f32", "litert has no option 'f32': expected one of no-xnnpack"),
        ("litert:edgetpu,no-xnnpack", "litert: expected one option, found edgetpu, no-xnnpack"),
        ("onnxruntime:CUDA", "onnxruntime has no option 'CUDA'"),
        ("onnxruntime:cuda,fp16", "onnxruntime has no option 'fp16'"),
        ("onnxruntime:fp16", "onnxruntime has no option 'fp16'"),
        ("onnxruntime:cuda,tensorrt", "expected one execution provider"),
        ("onnxruntime:tensorrt,fp16,int8", "expected one precision, found fp16, int8"),
        ("onnxruntime:AExecutionProvider,BExecutionProvider", "expected one execution provider"),
        ("openvino:fp32", "openvino has no option 'fp32': expected one of DEVICE, f32, f16, bf16"),
        ("openvino:f32,f16", "expected one precision, found f32, f16"),
        ("openvino:CPU,GPU", "expected one device, found CPU, GPU"),
    ],
)
def test_a_wrong_spec_lists_what_exists(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_spec(text)
    assert message in str(caught.value)


def hide(monkeypatch: pytest.MonkeyPatch, *runtimes: type) -> None:
    for runtime in runtimes:
        monkeypatch.setattr(
            runtime, "obstacle", lambda runtime=runtime: MissingExtraError(runtime.module, "some-extra")
        )


def show(monkeypatch: pytest.MonkeyPatch, *runtimes: type) -> None:
    for runtime in runtimes:
        monkeypatch.setattr(runtime, "obstacle", lambda: None)


def test_the_first_installed_runtime_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, LiteRt, TfliteRuntime, TfLite, OnnxRuntime, OpenVino)
    assert [default_spec(one) for one in Format] == ["litert", "onnxruntime", "openvino"]
    assert runtimes_for(Format.TFLITE) == ("litert", "tflite-runtime", "tf-lite")
    hide(monkeypatch, LiteRt, OnnxRuntime)
    assert [default_spec(one) for one in Format] == ["tflite-runtime", "openvino", "openvino"]
    assert runtimes_for(Format.TFLITE) == ("tflite-runtime", "tf-lite")
    assert runtimes_for(Format.TFLITE, installed_only=False) == ("litert", "tflite-runtime", "tf-lite")


def test_with_nothing_installed_the_best_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, LiteRt, TfliteRuntime, TfLite)
    with pytest.raises(
        MissingExtraError, match=r"ai_edge_litert is not installed: pip install 'nanonet-edge\["
    ):
        default_spec(Format.TFLITE)


def test_a_runtime_that_is_not_installed_says_how_to_get_it(
    artifacts: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = some(artifacts, Format.ONNX)
    monkeypatch.setattr(engine, "is_installed", lambda module: False)
    with pytest.raises(MissingExtraError, match=r"pip install 'nanonet-edge\[openvino\]'"):
        open_runtime(artifact, "openvino")
    listing = {one.name: one for one in list_runtimes()}["onnxruntime"]
    assert not listing.installed
    assert listing.version is None
    assert listing.reason == "onnxruntime is not installed: pip install 'nanonet-edge[onnx]'"


def some(artifacts: dict[str, Artifact], file_format: Format) -> Artifact:
    for artifact in artifacts.values():
        if artifact.record.format is file_format:
            return artifact
    pytest.skip(f"no {file_format} artifact can be made here")


def test_a_runtime_refuses_a_format_that_is_not_its_own(artifacts: dict[str, Artifact]) -> None:
    with pytest.raises(UnsupportedError, match="litert loads tflite, found onnx"):
        open_runtime(some(artifacts, Format.ONNX), "litert")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("onnxruntime:NoSuchExecutionProvider", "expected one of .*CPUExecutionProvider"),
        ("openvino:XPU", "expected a device out of .*, found XPU"),
    ],
)
def test_what_this_machine_lacks_is_refused_with_what_it_has(
    artifacts: dict[str, Artifact], spec: str, message: str
) -> None:
    with pytest.raises(UnsupportedError, match=message):
        open_runtime(some(artifacts, Format.ONNX), spec)


def test_every_runtime_is_listed() -> None:
    listings = list_runtimes()
    assert tuple(one.name for one in listings) == (*NAMES, "keras")
    for one in listings:
        assert bool(one.formats) == (one.name != "keras")
        assert one.installed == (one.reason == "") == (one.version is not None)


def test_the_command_prints_data(capsys: pytest.CaptureFixture[str]) -> None:
    command(as_json=True)
    told = json.loads(capsys.readouterr().out)["runtimes"]
    assert told == [one.model_dump(mode="json") for one in list_runtimes()]


def test_the_command_prints_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, OpenVino)
    show(monkeypatch, OnnxRuntime)
    command()
    out = capsys.readouterr().out
    for name in (*NAMES, "keras", "the bundle's reference"):
        assert name in out
    assert "pip install 'nanonet-edge[some-extra]'" in out
    assert "not installed" in out
