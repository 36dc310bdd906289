"""Our ranges in TensorRT's calibration cache, against the onnx package's reading of the same files."""

from __future__ import annotations

import contextlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import RuntimeFailure, UnsupportedError
from nanonet_edge.manifest import MANIFEST_NAME, record_file
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.runtimes import tensorrt as module
from nanonet_edge.runtimes._onnx_ranges import read_ranges
from nanonet_edge.runtimes._tensorrt_calibration import cache_text, ranges_for, require_symmetric
from nanonet_edge.variants import Format, Precision
from tests.runtimes.fake_trtexec import ORIN, calls, install
from tests.tiny_bundle import make_tiny_bundle

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """NanoNet-C with random weights as this project's exporter writes it: fp32 and static int8 ONNX."""
    from tests.export.networks import Shelf

    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    root = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "c")
    records = []
    for precision in (Precision.FP32, Precision.STATIC_WI8_AI8):
        artifact = shelf.artifact(Format.ONNX, precision)
        path = Path(shutil.copy(artifact.path, root / f"{precision}.onnx"))
        records.append(artifact.record.model_copy(update={"files": (record_file(path, root),)}))
    manifest = Bundle.open(root).manifest.model_copy(update={"artifacts": tuple(records)})
    (root / MANIFEST_NAME).write_text(manifest.to_json())
    return Bundle.open(root)


def test_ranges_are_those_that_the_onnx_package_reads(bundle: Bundle) -> None:
    _, quantized = bundle.artifacts
    found = read_ranges(quantized.path)
    graph = onnx.load(str(quantized.path)).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(nodes) > 50
    for node in nodes:
        scale, zero_point = (constants[name] for name in node.input[1:])
        limits = np.iinfo(zero_point.dtype)
        low, high = ((limit - int(zero_point)) * float(scale) for limit in (limits.min, limits.max))
        assert (found[node.input[0]].low, found[node.input[0]].high) == pytest.approx((low, high))
        assert (found[node.input[0]].dtype, found[node.input[0]].zero_point) == (zero_point.dtype, zero_point)


def test_cache_names_every_tensor_of_the_float_graph_that_survives_fusion(bundle: Bundle) -> None:
    floating, _ = bundle.artifacts
    ranges = ranges_for(floating)
    graph = onnx.load(str(floating.path)).graph
    tensors = {output for node in graph.node for output in node.output} | {node.name for node in graph.input}
    assert set(ranges) <= tensors
    # What an activation right after it takes is fused into one kernel with it.
    activations = {node.input[0] for node in graph.node if node.op_type in ("Relu", "Clip")}
    assert tensors - set(ranges) == activations
    assert ranges[graph.input[0].name].high == pytest.approx(1.0, abs=0.01)


def test_cache_holds_symmetric_scales(bundle: Bundle) -> None:
    ranges = ranges_for(bundle.artifacts[0])
    first, *lines = cache_text(ranges, 8502).splitlines()
    assert first == "TRT-8502-EntropyCalibration2"
    assert len(lines) == len(ranges)
    for line, (name, found) in zip(lines, ranges.items(), strict=True):
        told, _, bits = line.rpartition(": ")
        assert told == name
        (scale,) = struct.unpack(">f", bytes.fromhex(bits))
        assert 127 * scale == pytest.approx(max(-found.low, found.high), rel=1e-6)


def test_quantized_file_is_refused_with_the_way_out(bundle: Bundle) -> None:
    floating, quantized = bundle.artifacts
    with pytest.raises(UnsupportedError, match="name the fp32 file with tensorrt:int8"):
        require_symmetric(quantized)
    with pytest.raises(UnsupportedError, match="starts from a float file"):
        ranges_for(quantized)
    require_symmetric(floating)


def test_int8_engine_is_built_with_the_cache(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("NANONET_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "find_gpu", lambda: ORIN)
    kept = tmp_path / "kept"
    copy = f"import shutil; 'calib' in options and shutil.copy(options['calib'], {str(kept)!r})"
    install(tmp_path / "bin", fault=copy, datatype="Int8")
    with open_runtime(bundle.artifacts[0], "tensorrt:int8") as engine:
        assert engine.info.computed_precision == "int8"
    build = calls(tmp_path / "bin")[0]
    assert {"--int8", "--fp16"} <= set(build)
    assert kept.read_text() == cache_text(ranges_for(bundle.artifacts[0]), 8502)


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(data)
        file.flush()
        with pytest.raises(RuntimeFailure, match="expected an ONNX model"):
            read_ranges(Path(file.name))


@pytest.mark.parametrize("seed", range(40))
def test_damaged_model_is_refused_by_name_or_read(seed: int, bundle: Bundle, tmp_path: Path) -> None:
    whole = bundle.artifacts[1].path.read_bytes()
    path, generator = tmp_path / "damaged.onnx", np.random.default_rng(seed)
    data = bytearray(whole[: generator.integers(1, len(whole))])
    data[generator.integers(len(data))] ^= 0xFF
    path.write_bytes(data)
    with contextlib.suppress(RuntimeFailure):
        assert all(found.low <= found.high for found in read_ranges(path).values())


def test_truncated_model_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "short.onnx"
    path.write_bytes(bundle.artifacts[1].path.read_bytes()[:-1])
    with pytest.raises(RuntimeFailure, match=r"short\.onnx: expected an ONNX model"):
        read_ranges(path)
