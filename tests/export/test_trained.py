"""The trained NanoNet-C on real frames: does the mask stay the mask?"""

from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.benchmarks.agreement import verify
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.agreement_result import AgreementRow, Thresholds
from nanonet_edge.bundle import Bundle
from nanonet_edge.export import ExportOptions, export_bundle
from nanonet_edge.reference import KerasReference
from nanonet_edge.variants import Format, Precision

#: Mean Dice against the fp32 Keras reference over the 100 validation images.
AT_LEAST = {
    Precision.FP32: 0.9995,
    Precision.FP16: 0.995,
    Precision.DYNAMIC_WI8: 0.99,
    Precision.STATIC_WI8_AI8: 0.97,
    Precision.STATIC_WI8_AI16: 0.99,
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def agreement(bundle: Bundle, test_data: Path) -> dict[str, AgreementRow]:
    images = VerificationData.from_folder(test_data / "data/kvasir-seg/validation", None, None, 0)
    with KerasReference(bundle.weights_path) as reference:
        result = verify(bundle, images, reference=reference, thresholds=Thresholds(mean_dice=0, p5_dice=0))
    return {row.artifact: row for row in result.artifacts if row.judged}


def check(bundle: Bundle, test_data: Path) -> None:
    rows = agreement(bundle, test_data)
    assert len(rows) == len(bundle.artifacts)
    for artifact in bundle.artifacts:
        row = rows[artifact.name]
        assert row.summary is not None, row.failure
        assert row.summary.count == 100
        assert row.summary.mean_dice >= AT_LEAST[artifact.record.precision], artifact.name


def test_calibrated_on_training_images(tmp_path: Path, test_data: Path) -> None:
    options = ExportOptions(
        calibration=test_data / "data/kvasir-seg/train/images",
        verification=test_data / "data/kvasir-seg/validation/images",
        samples=64,
    )
    check(export_bundle(options, tmp_path / "bundle"), test_data)


def test_recorded_calibration_and_the_other_tflite_precisions(tmp_path: Path, test_data: Path) -> None:
    said: list[str] = []
    options = ExportOptions(
        formats=(Format.TFLITE,),
        precisions=(Precision.DYNAMIC_WI8, Precision.STATIC_WI8_AI8, Precision.STATIC_WI8_AI16),
    )
    bundle = export_bundle(options, tmp_path / "bundle", report=said.append)
    assert all(artifact.record.calibration is not None for artifact in bundle.artifacts)
    assert any("recorded" in line for line in said)
    check(bundle, test_data)


def test_compensated_rounding_earns_its_place(tmp_path: Path, test_data: Path) -> None:
    calibration = test_data / "data/kvasir-seg/train/images"
    dice = {}
    for rounding in ("compensated", "nearest"):
        options = ExportOptions(
            formats=(Format.TFLITE,),
            precisions=(Precision.STATIC_WI8_AI8,),
            calibration=calibration,
            samples=64,
            rounding=rounding,  # type: ignore[arg-type]
        )
        bundle = export_bundle(options, tmp_path / rounding)
        (row,) = agreement(bundle, test_data).values()
        assert row.summary is not None
        dice[rounding] = row.summary.mean_dice
    assert dice["compensated"] > dice["nearest"] + 0.005
