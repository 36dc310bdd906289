"""Predictions of files and bundles on every device: a range with its error, or a reason."""

from __future__ import annotations

import copy
import json
import shlex
from math import hypot, log
from pathlib import Path

import pytest
from onnx import helper

from nanonet_edge.benchmarks.emulation.instructions import CLASSES
from nanonet_edge.benchmarks.emulation.result import CountResult, CountRow, Emulated
from nanonet_edge.benchmarks.prediction import (
    PredictResult,
    calibrated_profile,
    check_bundle,
    load_counts,
    predict_artifact,
    predict_bundle,
)
from nanonet_edge.benchmarks.prediction.fitted import read_fitted
from nanonet_edge.benchmarks.prediction.host import convolution_rate, profile_from
from nanonet_edge.benchmarks.prediction.instructions import cycles_per_instruction, shipped_count
from nanonet_edge.benchmarks.prediction.models import crossing_bytes
from nanonet_edge.benchmarks.prediction.rates import Unpredictable, cpu_rates
from nanonet_edge.benchmarks.prediction.roofline import cpu_ceilings, operator_seconds
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import Catalogue
from nanonet_edge.errors import InputError, UsageError
from nanonet_edge.machine import read_machine
from nanonet_edge.results import load_result, results_folder, save_result
from nanonet_edge.tflite_file import read_tflite
from nanonet_edge.variants import Format, Precision, Topology
from tests.benchmarks.bench_fakes import bench_result, bench_row, measurement
from tests.benchmarks.prediction.test_costs import write_onnx
from tests.benchmarks.prediction.test_roofline import one
from tests.export.networks import Shelf
from tests.nanonet_edge.tflite_models import Drawing
from tests.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions that an Edge TPU maps, then an operator that it does not."""
    drawing = Drawing()
    shape = (1, 32, 32, 16)
    first = drawing.conv(drawing.input(*shape), shape, 16)
    second = drawing.conv(first, shape, 16)
    drawing.op("FLOOR", [second], shape)
    return drawing.save(tmp_path_factory.mktemp("int8") / "net.tflite")


def test_every_device_gets_a_latency_or_a_reason(
    shelf: Shelf, int8: Path, tiny: Bundle, devices: Catalogue
) -> None:
    paths = [shelf.artifact(Format.TFLITE, Precision.FP32).path, int8, *(one.path for one in tiny.artifacts)]
    for profile in devices.profiles.values():
        for path in paths:
            found = predict_artifact(path, profile, threads=4)
            assert found.obtained == "predicted"
            if found.latency is None:
                assert found.reason
                continue
            assert 0 < found.latency.low_ms < found.latency.ms < found.latency.high_ms
            assert found.latency.error.figures > 1
            assert found.sources


def test_units_and_engines(shelf: Shelf, int8: Path, tiny: Bundle, devices: Catalogue) -> None:
    onnx, _, openvino = (one.path for one in tiny.artifacts)
    tflite = shelf.artifact(Format.TFLITE, Precision.FP32).path

    def runs(path: Path, device: str) -> tuple[str | None, str]:
        found = predict_artifact(path, devices.get(device))
        return found.unit, found.engine

    assert runs(tflite, "raspberry-pi-5") == ("cpu", "litert")
    assert runs(onnx, "raspberry-pi-5") == ("cpu", "onnxruntime")
    assert runs(openvino, "raspberry-pi-5") == ("cpu", "openvino")
    assert runs(onnx, "jetson-orin-nano") == ("gpu", "tensorrt")
    assert runs(tflite, "jetson-orin-nano") == ("cpu", "litert")
    assert runs(int8, "coral-usb") == ("tpu", "edgetpu")


@pytest.mark.parametrize(
    ("device", "file_format", "reason"),
    [
        ("generic-x86-64", "tflite", "--device cpu is this one"),
        ("coral-usb", "tflite", "the Edge TPU computes in int8 alone"),
        ("coral-usb", "onnx", "no processor of its own"),
        ("jetson-xavier-nx", "tflite", "rates of the NVIDIA Carmel"),
        ("jetson-orin-nx", "tflite", "has no clock"),
    ],
)
def test_where_nothing_can_be_said_there_is_a_reason(
    device: str, file_format: str, reason: str, shelf: Shelf, tiny: Bundle, devices: Catalogue
) -> None:
    path = (
        tiny.artifacts[0].path
        if file_format == "onnx"
        else shelf.artifact(Format.TFLITE, Precision.FP32).path
    )
    found = predict_artifact(path, devices.get(device))
    assert found.latency is None
    assert reason in (found.reason or "")
    assert found.macs > 0


def test_an_operator_of_unknown_cost_is_not_counted_as_free(devices: Catalogue, tmp_path: Path) -> None:
    nodes = [helper.make_node("Einsum", ["x", "x"], ["out"], equation="ij,kj->ik")]
    path = write_onnx(tmp_path / "net.onnx", nodes, {}, {"x": [4, 4]}, {"out": [4, 4]})
    found = predict_artifact(path, devices.get("raspberry-pi-4"))
    assert found.latency is None
    assert found.reason == "what Einsum costs cannot be told from the file"


def test_the_total_is_that_of_its_operators(shelf: Shelf, devices: Catalogue) -> None:
    found = predict_artifact(
        shelf.artifact(Format.TFLITE, Precision.FP32).path, devices.get("raspberry-pi-4")
    )
    assert found.latency is not None
    assert sum(operator.ms or 0 for operator in found.operators) == pytest.approx(found.latency.ms)
    assert sum(operator.macs for operator in found.operators) == found.macs
    error = read_fitted().cpu.family
    assert found.latency.error == error
    assert found.latency.high_ms / found.latency.ms == pytest.approx(error.factor)


def test_a_device_or_an_engine_without_figures_has_a_wider_range(
    shelf: Shelf, tiny: Bundle, devices: Catalogue
) -> None:
    tflite, onnx = shelf.artifact(Format.TFLITE, Precision.FP32).path, tiny.artifacts[0].path
    known = predict_artifact(tflite, devices.get("raspberry-pi-4")).latency
    unknown = predict_artifact(tflite, devices.get("raspberry-pi-zero-2w"))
    assert known is not None
    assert unknown.latency is not None
    assert unknown.latency.error.left_out == "device"
    assert unknown.latency.high_ms / unknown.latency.ms > known.high_ms / known.ms
    assert any(
        "no published figure of the processor of Raspberry Pi Zero 2 W" in line for line in unknown.notes
    )
    assumed = predict_artifact(tflite, devices.get("jetson-orin-nano")).latency
    assert assumed is not None
    assert assumed.high_ms / assumed.ms > unknown.latency.high_ms / unknown.latency.ms
    other = predict_artifact(onnx, devices.get("raspberry-pi-4")).latency
    assert other is not None
    spread = hypot(log(known.error.factor), log(1.5))
    assert log(other.high_ms / other.ms) == pytest.approx(spread)


def test_a_faster_sibling_is_never_slower(shelf: Shelf, devices: Catalogue) -> None:
    path = shelf.artifact(Format.TFLITE, Precision.FP32).path
    order = ("raspberry-pi-zero-2w", "raspberry-pi-3b-plus", "raspberry-pi-4", "raspberry-pi-5")
    times = [found.ms for name in order if (found := predict_artifact(path, devices.get(name)).latency)]
    assert len(times) == len(order)
    assert times == sorted(times, reverse=True)


def test_an_edge_tpu_leaves_the_rest_to_a_host_that_is_named(int8: Path, devices: Catalogue) -> None:
    found = predict_artifact(int8, devices.get("coral-usb"))
    units = {operator.op: operator.unit for operator in found.operators}
    assert units == {"CONV_2D": "tpu", "FLOOR": "cpu"}
    assert any("if it is a Raspberry Pi 4" in line for line in found.notes)
    assert found.latency is not None
    assert "another host" in found.latency.widened
    board = predict_artifact(int8, devices.get("coral-dev-board"))
    assert board.latency is not None
    assert "another host" not in board.latency.widened


def test_an_edge_tpu_sends_every_tensor_that_others_read(tmp_path: Path) -> None:
    """A skip around what the host runs first comes back, too; a float input is quantized by the host."""
    drawing = Drawing()
    shape = (1, 8, 8, 16)
    quantized = drawing.op("QUANTIZE", [drawing.input(*shape, dtype="float32")], shape)
    skip = drawing.conv(quantized, shape, 16)
    first = drawing.conv(skip, shape, 32)
    wide = drawing.op("FLOOR", [first], (1, 8, 8, 32))
    narrow = drawing.conv(wide, (1, 8, 8, 32), 16)
    drawing.op("ADD", [narrow, skip], shape)
    file = read_tflite(drawing.save(tmp_path / "net.tflite"))
    assert [one.name for one in file.operators][1:3] == ["CONV_2D", "CONV_2D"]
    assert crossing_bytes(file, {1, 2}) == 64 * (16 + 16 + 32)
    assert crossing_bytes(file, set(range(6))) == 64 * (4 * 16 + 16)


def test_what_the_host_runs_beside_an_edge_tpu_has_its_sources(int8: Path, devices: Catalogue) -> None:
    sources = predict_artifact(int8, devices.get("coral-usb")).sources
    assert any("google/XNNPACK" in line for line in sources)
    assert any(line.startswith("rates of the Cortex-A72") for line in sources)


def test_rates_that_a_profile_lacks_are_named_with_their_source(
    int8: Path, tiny: Bundle, devices: Catalogue
) -> None:
    path = tiny.artifacts[0].path
    orin = predict_artifact(path, devices.get("jetson-agx-orin"))
    assert any(line.startswith("fp16 rate, from that of int8: NVIDIA") for line in orin.sources)
    # Its published peak counts units that TensorRT's GPU engines do not use.
    assert any("137.5 TOPS in int8" in line and "accelerators included" in line for line in orin.notes)
    nano = predict_artifact(path, devices.get("jetson-nano"))
    assert not any("fp16 rate" in line for line in nano.sources)
    pi = predict_artifact(path, devices.get("raspberry-pi-3b-plus"))
    assert any(line.startswith("memory of Raspberry Pi 3") and "sdram_freq" in line for line in pi.sources)
    coral = predict_artifact(int8, devices.get("coral-usb"))
    assert any(line.startswith("link of the Coral USB Accelerator: what USB 3.0") for line in coral.sources)


def test_an_engine_that_nothing_is_known_of_is_refused(tiny: Bundle, devices: Catalogue) -> None:
    with pytest.raises(UsageError, match="expected one of litert, onnxruntime, openvino, found 'tvm'"):
        predict_artifact(tiny.artifacts[0].path, devices.get("raspberry-pi-4"), engine="tvm")


def test_memory_verdicts(int8: Path, shelf: Shelf, devices: Catalogue) -> None:
    tpu = predict_artifact(int8, devices.get("coral-usb")).memory
    assert tpu.weight_bytes == 2 * (9 * 16 * 16 + 4 * 16)
    assert tpu.peak_activation_bytes == 2 * 32 * 32 * 16
    assert (tpu.on_chip.available_bytes, tpu.on_chip.fits) == (8 << 20, True)
    assert tpu.ram.fits is None
    path = shelf.artifact(Format.TFLITE, Precision.FP32).path
    board = predict_artifact(path, devices.get("raspberry-pi-4")).memory
    assert (board.ram.available_bytes, board.ram.fits) == (2 << 30, True)
    assert board.on_chip.available_bytes == 1 << 20
    assert board.on_chip.fits is (board.on_chip.needed_bytes <= 1 << 20)


def test_a_bundle_is_predicted_artifact_by_artifact(tiny: Bundle, devices: Catalogue, tmp_path: Path) -> None:
    result = predict_bundle(tiny, devices.get("jetson-orin-nano"))
    assert [row.artifact for row in result.rows] == [artifact.name for artifact in tiny.artifacts]
    assert result.measure == f"nanonet-edge bench {tiny.root} --device jetson-orin-nano --host user@board"
    save_result(result, tmp_path / "predict.json")
    assert load_result(tmp_path / "predict.json", PredictResult) == result


def test_counted_instructions_are_a_second_estimate(shelf: Shelf, devices: Catalogue) -> None:
    path, board = shelf.artifact(Format.TFLITE, Precision.FP32).path, devices.get("raspberry-pi-4")
    plain = predict_artifact(path, board).latency
    found = predict_artifact(path, board, instructions=10_000_000)
    assert plain is not None
    assert found.latency is not None
    roofline, counted = found.estimates
    cycles = cycles_per_instruction("Cortex-A72", "fp32")
    assert counted.ms == pytest.approx(10_000_000 * cycles / 1.8e9 * 1e3)
    assert found.latency.ms == pytest.approx((roofline.ms * counted.ms) ** 0.5)
    assert found.latency.high_ms / max(roofline.ms, counted.ms) == pytest.approx(plain.high_ms / plain.ms)


def test_cycles_per_instruction_follow_the_published_ratios() -> None:
    """Pi 5 over Pi 4 and int8 over fp32 as EfficientDet-Lite was published, over NanoNet-A's counts."""
    anchor = cycles_per_instruction("Cortex-A72", "fp32")
    # 46 ms on four threads are 0.56 cycles if only one counts, 2.2 if all four do.
    assert 46e-3 * 1.5e9 / 123.4e6 < anchor < 46e-3 * 1.5e9 * 4 / 123.4e6
    pi4, pi5 = (328.65 * 648.05 * 1048.77 * 2209.33 * 5514.79), (104.01 * 198.98 * 328.92 * 663.83 * 1623.24)
    ratio = (pi5 / pi4) ** 0.2 * (2.4 / 1.5) / (367 / 380)
    assert cycles_per_instruction("Cortex-A76", "fp32") / anchor == pytest.approx(ratio)
    with pytest.raises(Unpredictable, match="Cortex-A53"):
        cycles_per_instruction("Cortex-A53", "fp32")


def test_shipped_counts_are_for_networks_as_they_were_counted(
    tiny: Bundle, shelf: Shelf, devices: Catalogue
) -> None:
    artifact, board = shelf.artifact(Format.TFLITE, Precision.FP32), devices.get("raspberry-pi-4")

    def count(**changes: object) -> int | None:
        bundle = copy.copy(tiny)
        manifest = {"variant": "c", "topology": Topology.RELEASED, "classes": 1, "size": 256}
        bundle.manifest = tiny.manifest.model_copy(update={**manifest, **changes})
        return shipped_count(bundle, artifact, board)

    assert count() == 115_600_000
    assert count(topology=Topology.DESCRIBED) is None
    assert count(classes=3) is None
    assert count(size=224) is None
    assert count(variant="d") is None


def counted(tiny: Bundle) -> CountResult:
    """What `emulate count` writes."""
    emulated = Emulated(
        device="raspberry-pi-4",
        machine="aarch64",
        core="cortex-a72",
        qemu="7.2",
        contents={},
        host=read_machine(),
    )
    classes = dict.fromkeys(CLASSES, 0) | {"fp32_fma": 7, "branch": 3}
    rows = (
        CountRow(artifact="a.tflite", engine="litert", total=10, classes=classes),
        CountRow(artifact="a.tflite", engine="tflite-runtime", total=10, classes=classes),
        CountRow(artifact="b.tflite", engine="litert", failure="it crashed"),
    )
    return CountResult(
        created="2024-01-01T00:00:00+00:00",
        bundle="tiny",
        manifest_sha256=tiny.manifest_sha256,
        emulated=emulated,
        rows=rows,
    )


def test_counts_are_those_of_litert_on_that_device(tiny: Bundle, devices: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "count.json"
    save_result(counted(tiny), path)
    board = devices.get("raspberry-pi-4")
    assert load_counts(path, board, tiny.manifest_sha256) == {"a.tflite": 10}
    with pytest.raises(InputError, match="expected counts for raspberry-pi-5, found raspberry-pi-4"):
        load_counts(path, devices.get("raspberry-pi-5"))
    with pytest.raises(InputError, match="found those of another"):
        load_counts(path, board, "0" * 64)
    path.write_text(json.dumps({"kind": "bench"}))
    with pytest.raises(InputError, match="expected schema_version"):
        load_counts(path, board)


def test_this_machine_reaches_in_the_model_what_was_measured() -> None:
    """The rates divide out: predicting the calibration itself gives the calibration."""
    profile = profile_from(read_machine(), 20e9, 60e9, 8e9, 2500.0)
    rates, efficiency = cpu_rates(profile), read_fitted().cpu.efficiency
    ceilings = cpu_ceilings(rates, efficiency, 1)
    fp32 = operator_seconds(one("pointwise", macs=10**9), ceilings)[0] - ceilings.overhead
    int8 = operator_seconds(one("pointwise", "int8", macs=10**9), ceilings)[0] - ceilings.overhead
    assert (2e9 / fp32, 2e9 / int8) == pytest.approx((20e9, 60e9))
    assert ceilings.memory == pytest.approx(8e9)


def test_this_machine_can_be_calibrated(tiny: Bundle) -> None:
    assert convolution_rate("int8") > 1e6
    profile = calibrated_profile()
    found = predict_artifact(tiny.artifacts[0].path, profile)
    assert found.latency is not None
    assert predict_bundle(tiny, profile).measure == f"nanonet-edge bench {tiny.root}"


def test_a_result_is_compared_with_the_device_it_is_of(
    tiny: Bundle, devices: Catalogue, tmp_path: Path
) -> None:
    row = bench_row(tiny.artifacts[0], "onnxruntime", measurement("onnxruntime", [3.0]))
    result, path = bench_result(tiny, [row]), tmp_path / "bench.json"
    save_result(result, path)
    board = devices.get("raspberry-pi-4")
    with pytest.raises(InputError, match="expected results of Raspberry Pi 4 Model B, found those of"):
        check_bundle(tiny, board, path)
    save_result(result.model_copy(update={"detected": ("raspberry-pi-4",)}), path)
    assert check_bundle(tiny, board, path).compared == 1


def test_the_line_to_type_can_be_typed(devices: Catalogue, tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "my bundle"))
    line = predict_bundle(bundle, devices.get("raspberry-pi-4")).measure
    assert shlex.split(line)[2] == str(bundle.root)


def test_predicted_against_measured(tiny: Bundle) -> None:
    profile = profile_from(read_machine(), 20e9, 60e9, 8e9, 2500.0)
    first, second, third = tiny.artifacts
    rows = [
        bench_row(first, "onnxruntime", measurement("onnxruntime", [3.0, 1.0, 2.0])),
        bench_row(second, "onnxruntime", "it was refused"),
        bench_row(third, "openvino", measurement("openvino", [1.0], computed="bf16")),
        bench_row(third, "openvino:f32", measurement("openvino:f32", [1.0])),
    ]
    path = results_folder(tiny.root) / "bench.json"
    save_result(bench_result(tiny, rows), path)
    checked = check_bundle(tiny, profile)
    compared, failed, other, last = checked.rows
    predicted = predict_artifact(first.path, profile, engine="onnxruntime").latency
    assert predicted is not None
    assert (compared.measured_ms, compared.predicted) == (2.0, predicted)
    assert compared.ratio == pytest.approx(predicted.ms / 2.0)
    assert compared.in_range is (predicted.low_ms <= 2.0 <= predicted.high_ms)
    assert "it was refused" in (failed.reason or "")
    assert "bf16" in (other.reason or "")
    assert last.ratio is not None
    assert checked.compared == 2
    assert checked.median_error == pytest.approx((abs(compared.ratio - 1) + abs(last.ratio - 1)) / 2)
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "machine": {**data["machine"], "cpu_model": "another"}}))
    with pytest.raises(InputError, match=r"expected results of this machine \(.*\), found those of another"):
        check_bundle(tiny, profile)
    path.write_text(json.dumps({**data, "manifest_sha256": "0" * 64}))
    with pytest.raises(InputError, match="found those of another bundle"):
        check_bundle(tiny, profile)
