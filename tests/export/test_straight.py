"""The unrewritten graph through the stock converters: the yardstick must itself be straight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.bundle import Bundle
from nanonet_edge.checkpoint import save_checkpoint
from nanonet_edge.export import ExportOptions, export_bundle, export_straight
from nanonet_edge.export.precision import SUPPORTED_STRAIGHT
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import Format, Precision
from tests.export.networks import SIZE, expected, frame, judges, network
from tests.export.tflite_file import TfliteFile

SPECS = {Format.OPENVINO: "openvino:f32"}
BOTH = (Precision.FP32, Precision.STATIC_WI8_AI8)


@pytest.fixture(scope="module")
def rewritten_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("straight")
    save_checkpoint(network(), folder / "mine.weights.h5")
    options = ExportOptions(
        weights=folder / "mine.weights.h5",
        size=SIZE,
        formats=(Format.TFLITE,),
        precisions=(Precision.FP32,),
    )
    return export_bundle(options, folder / "rewritten")


@pytest.fixture(scope="module")
def straight(rewritten_bundle: Bundle) -> Bundle:
    return export_straight(rewritten_bundle, rewritten_bundle.root.parent / "straight", tuple(Format), BOTH)


@pytest.mark.slow
@pytest.mark.parametrize("file_format", Format)
def test_fp32_equals_the_interpreter(straight: Bundle, file_format: Format) -> None:
    artifact = straight.artifact(f"nanonet-c.straight.fp32.{file_format}")
    with open_runtime(artifact, SPECS.get(file_format)) as runtime:
        for image in judges():
            assert np.abs(runtime.probability(image) - expected(network(), image)).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("file_format", Format)
def test_int8_loads_and_runs(straight: Bundle, file_format: Format) -> None:
    artifact = straight.artifact(f"nanonet-c.straight.static_wi8_ai8.{file_format}")
    assert artifact.record.calibration is not None
    with open_runtime(artifact, SPECS.get(file_format)) as runtime:
        found = np.stack([runtime.probability(image) for image in judges()])
    truth = np.stack([expected(network(), image) for image in judges()])
    assert np.isfinite(found).all()
    # The stock converters' integers are theirs to answer for: alive is enough here.
    assert np.abs(found - truth).mean() < 0.2


@pytest.mark.slow
def test_records(straight: Bundle, rewritten_bundle: Bundle) -> None:
    assert len(straight.artifacts) == len(Format) * len(BOTH)
    for artifact in straight.artifacts:
        record = artifact.record
        assert (record.graph, record.passes) == ("straight", ())
        assert record.name.startswith("nanonet-c.straight.")
    ours, theirs = straight.manifest.weights, rewritten_bundle.manifest.weights
    assert ours.sha256 == theirs.file.sha256
    assert straight.manifest.size == rewritten_bundle.manifest.size


@pytest.mark.slow
def test_the_graph_really_is_the_unrewritten_one(straight: Bundle) -> None:
    file = TfliteFile(straight.artifact("nanonet-c.straight.fp32.tflite").path.read_bytes())
    # The decoder's concatenations, and what Dense leaves behind; the converter merges the paddings.
    assert {"CONCATENATION", "SHAPE", "GATHER"} <= set(file.names())


@pytest.mark.slow
def test_pairs_that_no_converter_makes_are_left_out(rewritten_bundle: Bundle, tmp_path: Path) -> None:
    made = export_straight(
        rewritten_bundle, tmp_path / "out", (Format.ONNX,), (Precision.FP16, Precision.FP32)
    )
    assert Precision.FP16 not in SUPPORTED_STRAIGHT[Format.ONNX]
    assert [artifact.record.precision for artifact in made.artifacts] == [Precision.FP32]


@pytest.mark.slow
def test_no_rewrite_keeps_the_converters_chatter_to_itself(
    rewritten_bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ExportOptions(
        weights=rewritten_bundle.weights_path, size=SIZE, precisions=(Precision.FP32,), straight=True
    )
    made = export_bundle(options, tmp_path / "out")
    out, error = capfd.readouterr()
    assert (out, error) == ("", "")
    assert {artifact.record.graph for artifact in made.artifacts} == {"straight"}
    assert len(made.artifacts) == len(Format)


def test_frames_that_judge_have_both_labels() -> None:
    """Otherwise the comparisons above would prove little."""
    assert 0.05 < float((expected(network(), frame(100)) > 0.5).mean()) < 0.95
