"""The artifact for the Edge TPU: every operator maps, and LiteRT computes the same from it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.bundle import Artifact
from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.datasets import list_images, read_frame
from nanonet_edge.edgetpu import CoralReport, coral_report
from nanonet_edge.edgetpu.rules import LIMITATION, MAPPED
from nanonet_edge.errors import CompilerError, UsageError
from nanonet_edge.export import Boundary, ExportOptions
from nanonet_edge.export.calibration import Calibration, load_calibration
from nanonet_edge.export.coral import CORAL_PAIR, write_coral
from nanonet_edge.export.quantization import plan_activations
from nanonet_edge.export.tflite_graph import TfliteWriter
from nanonet_edge.export.writers import ArtifactWriter
from nanonet_edge.manifest import ArtifactRecord, sha256_file
from nanonet_edge.network import build_network, random_fill
from nanonet_edge.passes import Rewritten, rewrite
from nanonet_edge.passes.coral import CORAL_PASSES
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import VARIANTS, Format, Head, Precision, Target, Topology, get_variant
from nanonet_edge.weights import bundled_weights
from tests.export.networks import Frame, frame
from tests.nanonet_edge.edgetpu import fake_compiler as fake

NAME = "nanonet-c.static_wi8_ai8.coral"


def writer(folder: Path, variant: str = "c", boundary: Boundary | None = None) -> ArtifactWriter:
    """Of a trained network, calibrated as its recording says."""
    rewriting, calibration = _trained(variant)
    return ArtifactWriter(
        folder, f"nanonet-{variant}", rewriting.graph, rewriting.applied, calibration, boundary or Boundary()
    )


@cache
def _trained(variant: str) -> tuple[Rewritten, Calibration]:
    shipped = bundled_weights(get_variant(variant), Topology.RELEASED)
    checkpoint = load_checkpoint(shipped.checkpoint)
    rewriting = rewrite(checkpoint.graph)
    calibration = load_calibration(shipped.calibration, rewriting.graph, checkpoint.sha256)
    assert calibration is not None
    return rewriting, calibration


def opened(folder: Path, record: ArtifactRecord) -> Artifact:
    return Artifact(folder / record.files[0].path, record, "0" * 64)


def written(
    folder: Path, *, boundary: Boundary | None = None, compiles: bool = True
) -> tuple[ArtifactRecord, list[str]]:
    said: list[str] = []
    record = write_coral(writer(folder, boundary=boundary), compiles=compiles, report=said.append)
    return record, said


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Puts a stand-in for the compiler on PATH."""
    folder = tmp_path_factory.mktemp("programs")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(printed: str, code: int = 0, result: bytes | None = None) -> Path:
        return fake.install(folder, printed, code=code, result=result)

    return put


@pytest.mark.parametrize("topology", Topology)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_operator_maps(variant: str, topology: Topology, tmp_path: Path) -> None:
    graph = rewrite(build_network(VARIANTS[variant], topology, fill=random_fill(0))).graph
    ranges = {node.name: (-3.0, 3.0) for node in graph}
    reports = []
    for passes in ((), CORAL_PASSES):
        finished = rewrite(graph, passes).graph
        plan = plan_activations(finished, ranges)
        path = tmp_path / "net.tflite"
        path.write_bytes(TfliteWriter(finished, CORAL_PAIR[1], plan=plan, input_dtype="int8").build())
        reports.append(coral_report(path))
    plain, coral = reports
    assert plain.summary.ended_by is not None
    assert plain.summary.ended_by.name == "MEAN"
    assert [operator.reason for operator in coral.operators] == [MAPPED] * len(coral.operators)
    assert coral.summary.share_macs_tpu == 1
    assert coral.summary.memory.parameters_fit
    # What the documentation has no size for is no larger than in the plain file.
    assert {operator.name for operator in coral.operators} - {
        operator.name for operator in plain.operators
    } == {"STRIDED_SLICE", "CONCATENATION"}


def test_nothing_but_the_parts_is_stored_otherwise() -> None:
    _, calibration = _trained("c")
    plain = plan_activations(calibration.graph, calibration.ranges)
    finished = rewrite(calibration.graph, CORAL_PASSES).graph
    coral = plan_activations(finished, calibration.ranges)
    assert {name: coral[name] for name in plain} == plain
    for node in finished:
        if node.name not in plain and node.op != "upsample_bilinear":
            assert coral[node.name] in plain.values()


def differences(folder: Path, variant: str, frames: list[Frame]) -> list[int]:
    """Largest difference of stored probabilities, plain against coral, per frame."""
    maker = writer(folder, variant)
    records = [maker.write(*CORAL_PAIR), maker.write(*CORAL_PAIR, Target.CORAL)]
    assert (records[0].input, records[0].output) == (records[1].input, records[1].output)
    assert (records[1].input.dtype, records[1].output.dtype) == ("int8", "int8")
    answers = []
    for record in records:
        with open_runtime(opened(folder, record), "litert") as runtime:
            answers.append([runtime.probability(image) / record.output.scale for image in frames])
    return [round(float(np.abs(one - other).max())) for one, other in zip(*answers, strict=True)]


@pytest.mark.parametrize("variant", ["a", "c"])
def test_stored_probabilities_are_those_of_the_plain_file(variant: str, tmp_path: Path) -> None:
    assert differences(tmp_path, variant, [frame(index, 256) for index in range(200, 206)]) == [0] * 6


@pytest.mark.parametrize("variant", ["a", "c"])
def test_on_real_frames_too(variant: str, tmp_path: Path, test_data: Path) -> None:
    images = list_images(test_data / "data/kvasir-seg/validation/images")[::10][:10]
    assert differences(tmp_path, variant, [read_frame(path) for path in images]) == [0] * 10


@pytest.mark.usefixtures("without_compiler")
def test_without_a_compiler_the_report_is_a_prediction(tmp_path: Path) -> None:
    record, said = written(tmp_path)
    assert record.name == f"{NAME}.tflite"
    assert [file.path for file in record.files] == [f"{NAME}.tflite"]
    assert record.passes[-2:] == ("tile-upsample", "mean-of-tiles")
    assert record.target is not None
    assert (record.target.name, record.target.compiled, record.target.compiler) == (Target.CORAL, None, None)
    path = tmp_path / record.target.report.path
    assert sha256_file(path) == record.target.report.sha256
    report = CoralReport.model_validate_json(path.read_text())
    assert report == coral_report(tmp_path / f"{NAME}.tflite").model_copy(update={"file": f"{NAME}.tflite"})
    assert len(said) == 2
    assert "edgetpu_compiler is not on PATH" in said[0]
    assert "x86-64" in said[0]
    total = report.summary.operators
    assert said[1].startswith(f"coral: {total} of {total} operators, 100.0 % of the multiply-accumulates run")
    assert "predicted" in said[1]


def test_with_a_compiler_its_word_counts(tmp_path: Path, install: Callable[..., Path]) -> None:
    predicted, _ = written(tmp_path, compiles=False)
    operators = coral_report(tmp_path / predicted.files[0].path).operators
    names = Counter(operator.name for operator in operators)
    # As if the compiler did not take the last convolution that sums a mean up.
    rows = [(name, count - (name == "DEPTHWISE_CONV_2D"), MAPPED) for name, count in names.items()]
    install(fake.log(*rows, ("DEPTHWISE_CONV_2D", 1, LIMITATION)), result=fake.compiled_model())
    record, said = written(tmp_path)
    assert record.target is not None
    assert record.target.compiled is not None
    assert record.target.compiled.path == f"{NAME}_edgetpu.tflite"
    assert (tmp_path / record.target.compiled.path).read_bytes() == fake.compiled_model()
    assert record.target.compiler == "16.0.384591198"
    report = json.loads((tmp_path / record.target.report.path).read_text())
    assert (report["obtained"], report["file"]) == ("measured", f"{NAME}.tflite")
    assert report["summary"]["on_cpu"] == 1
    (line,) = said
    assert "says its compiler, version 16.0.384591198" in line
    assert "DEPTHWISE_CONV_2D" in line
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{NAME}{end}" for end in (".tflite", ".json", "_edgetpu.tflite")
    }


def test_a_compiler_that_fails_is_no_success(tmp_path: Path, install: Callable[..., Path]) -> None:
    install(fake.TOO_LARGE, code=1)
    with pytest.raises(CompilerError, match=r"large activation tensors.*\(--no-compile exports without it\)"):
        written(tmp_path)
    record, said = written(tmp_path, compiles=False)
    assert record.target is not None
    assert record.target.compiled is None
    assert len(said) == 1


@pytest.mark.usefixtures("without_compiler")
def test_a_mask_ends_on_the_cpu_and_it_is_said(tmp_path: Path) -> None:
    _, said = written(tmp_path, boundary=Boundary(head=Head.MASK))
    assert "the CPU takes over at" in said[-1]
    assert "GREATER" in said[-1]


def test_the_target_chooses_what_was_left_open() -> None:
    said: list[str] = []
    assert ExportOptions(target=Target.CORAL).pairs(said.append) == [CORAL_PAIR]
    more = ExportOptions(target=Target.CORAL, precisions=(Precision.FP32, CORAL_PAIR[1]))
    assert more.pairs(said.append) == [(Format.TFLITE, Precision.FP32), CORAL_PAIR]
    assert said == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ExportOptions(target=Target.CORAL, precisions=(Precision.FP32,)), "add --int8 and --format tflite"),
        (ExportOptions(target=Target.CORAL, formats=(Format.ONNX,)), "add --int8 and --format tflite"),
        (ExportOptions(target=Target.CORAL, straight=True), "is a rewrite: drop --no-rewrite"),
    ],
)
def test_what_a_target_cannot_do_without(options: ExportOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options.pairs(lambda line: None)
