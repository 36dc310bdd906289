from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from nanonet_edge.benchmarks import agreement
from nanonet_edge.benchmarks.agreement import check_golden, labels, select_contenders, verify
from nanonet_edge.benchmarks.agreement_data import Item, VerificationData
from nanonet_edge.benchmarks.agreement_result import Thresholds, VerifyResult
from nanonet_edge.bundle import Bundle
from nanonet_edge.datasets import Frame, images_digest, list_images
from nanonet_edge.errors import (
    BundleError,
    DatasetError,
    MissingExtraError,
    RuntimeFailure,
    UnsupportedError,
    UsageError,
)
from nanonet_edge.manifest import CalibrationRecord
from nanonet_edge.results import load_result, save_result
from nanonet_edge.runtimes import ArtifactRuntime, open_runtime
from nanonet_edge.runtimes.openvino import OpenVino
from nanonet_edge.variants import Head
from tests.benchmarks.agreement_fakes import SIZE, FakeReference, write_dataset
from tests.tiny_bundle import make_tiny_bundle

FP32, FP16, IR = "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.openvino"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", SIZE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "kvasir")


@pytest.fixture(scope="module")
def result(bundle: Bundle, folder: Path) -> VerifyResult:
    return verify(bundle, VerificationData.from_folder(folder), reference=FakeReference())


# --- figures ---------------------------------------------------------------------------


def test_exact_artifacts_agree_and_shifted_one_does_not(result: VerifyResult) -> None:
    rows = {row.artifact: row for row in result.artifacts if row.judged}
    assert list(rows) == [FP32, FP16, IR]
    for name in (FP32, IR):
        summary = rows[name].summary
        assert summary is not None
        assert summary.mean_dice > 0.9999
        assert summary.max_delta_p is not None
        assert summary.max_delta_p < 1e-5
    shifted = rows[FP16].summary
    assert shifted is not None
    # Its logits are off by 0.02: the slope of the sigmoid is at most a quarter.
    assert shifted.max_delta_p == pytest.approx(0.005, abs=1e-4)
    assert 0.95 < shifted.mean_dice < 0.999
    assert shifted.min_dice <= shifted.p5_dice <= shifted.mean_dice
    worst = rows[FP16].worst(1)[0].agreement
    assert (worst.name, worst.dice) == (shifted.worst_image, shifted.min_dice)


def test_figures_equal_those_of_the_pixels(result: VerifyResult, bundle: Bundle, folder: Path) -> None:
    """Dice and DSC of every image, worked out here from masks obtained by the plain interface."""
    row = next(row for row in result.artifacts if row.artifact == FP16)
    with open_runtime(bundle.artifact(FP16)) as engine:
        for image in row.images:
            frame = cv2.imread(str(folder / "images" / image.agreement.name))
            ours = engine.mask(frame).astype(bool)
            theirs = FakeReference().probability(frame[np.newaxis])[0, ..., 0] > 0.5
            dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
            assert image.agreement.dice == pytest.approx(dice)
            truth_path = folder / "masks" / Path(image.agreement.name).with_suffix(".jpg").name
            truth = cv2.resize(cv2.imread(str(truth_path), 0), (SIZE, SIZE)) > 127
            assert image.artifact_accuracy is not None
            dsc = 2 * (ours & truth).sum() / (ours.sum() + truth.sum())
            assert image.artifact_accuracy.dsc == pytest.approx(dsc, abs=0.01)
    assert row.accuracy is not None
    gaps = [
        image.artifact_accuracy.dsc - image.reference_accuracy.dsc
        for image in row.images
        if image.artifact_accuracy and image.reference_accuracy
    ]
    assert row.accuracy.difference.dsc.mean == pytest.approx(np.mean(gaps))


def test_result_says_where_it_comes_from(result: VerifyResult, bundle: Bundle, folder: Path) -> None:
    assert result.manifest_sha256 == bundle.manifest_sha256
    assert result.obtained == "measured"
    assert (result.data.source, result.data.folder, result.data.count) == ("images", "kvasir", 12)
    assert result.data.masks
    assert result.data.digest == images_digest(list_images(folder / "images"))
    assert result.reference.name == "numpy"
    assert result.reference.golden_max_delta_p < 1e-6
    row = result.artifacts[2]
    assert row.spec == "openvino:f32"
    assert row.runtime is not None
    assert row.runtime.computed_precision == "fp32"


def test_result_survives_the_disk(result: VerifyResult, tmp_path: Path) -> None:
    save_result(result, tmp_path / "verify.json")
    assert load_result(tmp_path / "verify.json", VerifyResult) == result
    data = json.loads((tmp_path / "verify.json").read_text())
    assert data["kind"] == "verify"
    assert data["artifacts"][1]["summary"]["mean_dice"] < 1.0


def test_without_masks_there_is_no_accuracy(bundle: Bundle, folder: Path) -> None:
    data = VerificationData.from_folder(folder / "images")
    found = verify(bundle, data, reference=FakeReference(), artifacts=[FP32])
    assert not found.data.masks
    assert found.artifacts[0].accuracy is None
    assert found.artifacts[0].images[0].artifact_accuracy is None


def test_mask_head_has_no_probability(bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def masked(engine: ArtifactRuntime, item: Item) -> tuple[agreement.Labels, None]:
        monkeypatch.setattr(engine, "output", engine.output.model_copy(update={"kind": Head.MASK}))
        return real(engine, item)

    real = agreement.answer
    monkeypatch.setattr(agreement, "answer", masked)
    data = VerificationData.from_folder(folder, limit=2)
    summary = verify(bundle, data, reference=FakeReference(), artifacts=[FP32]).artifacts[0].summary
    assert summary is not None
    assert summary.max_delta_p is None
    assert summary.missing["max_delta_p"] == "a mask has no probability"


# --- verdict ---------------------------------------------------------------------------


def test_verdict_follows_the_thresholds(bundle: Bundle, folder: Path) -> None:
    data = VerificationData.from_folder(folder)

    def judge(mean: float, p5: float) -> tuple[bool, tuple[str, ...]]:
        limits = Thresholds(mean_dice=mean, p5_dice=p5)
        found = verify(bundle, data, reference=FakeReference(), artifacts=[FP16], thresholds=limits)
        assert found.passed == found.artifacts[0].passed
        return found.passed, found.artifacts[0].reasons

    assert judge(0.5, 0.5) == (True, ())
    passed, reasons = judge(0.9999, 0.5)
    assert not passed
    assert [reason.split(" 0.")[0] for reason in reasons] == ["mean Dice"]
    passed, reasons = judge(0.5, 0.9999)
    assert not passed
    assert "5th percentile" in reasons[0]


def test_artifact_that_fails_to_run_fails_alone(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def flaky(engine: ArtifactRuntime, item: Item) -> tuple[agreement.Labels, agreement.Probability | None]:
        nonlocal calls
        if engine.artifact.name == FP16:
            calls += 1
            if calls == 5:
                raise RuntimeFailure("tiny.fp16.onnx: the engine failed to run it: boom")
        return real(engine, item)

    real = agreement.answer
    monkeypatch.setattr(agreement, "answer", flaky)
    found = verify(bundle, VerificationData.from_folder(folder), reference=FakeReference())
    rows = {row.artifact: row for row in found.artifacts}
    assert not found.passed
    assert calls == 5
    assert rows[FP16].reasons == ("tiny.fp16.onnx: the engine failed to run it: boom",)
    assert rows[FP16].summary is None
    assert rows[FP32].passed
    assert len(rows[FP32].images) == 12


def test_missing_engine_skips_its_artifacts_or_is_all_there_is_to_say(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opener(artifact: object, spec: str, threads: int) -> ArtifactRuntime:
        if spec.startswith(absent):
            raise MissingExtraError(spec, "openvino")
        return open_runtime(artifact, spec, threads)  # type: ignore[arg-type]

    monkeypatch.setattr(agreement, "open_runtime", opener)
    data = VerificationData.from_folder(folder, limit=2)
    absent: tuple[str, ...] = ("openvino",)
    found = verify(bundle, data, reference=FakeReference())
    assert [row.artifact for row in found.artifacts] == [FP32, FP16]
    assert found.passed == all(row.passed for row in found.artifacts)
    (skipped,) = found.skipped
    assert skipped.artifact == IR
    assert "pip install 'nanonet-edge[openvino]'" in skipped.reason
    absent = ("openvino", "onnxruntime")
    with pytest.raises(MissingExtraError):
        verify(bundle, data, reference=FakeReference())


def test_reduced_precision_is_shown_and_not_judged(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that computes in bfloat16 by itself, and whose masks are wrong in it."""

    def wrong(engine: ArtifactRuntime, item: Item) -> tuple[agreement.Labels, agreement.Probability | None]:
        mask, probability = real(engine, item)
        return (mask if engine.info.computed_precision == "fp32" else 1 - mask), probability

    real = agreement.answer
    monkeypatch.setattr(agreement, "answer", wrong)
    compute_in(monkeypatch, "bf16")
    data = VerificationData.from_folder(folder, limit=2)
    found = verify(bundle, data, reference=FakeReference(), artifacts=[FP32, IR])
    assert [(row.artifact, row.spec, row.judged) for row in found.artifacts] == [
        (FP32, "onnxruntime", True),
        (IR, "openvino:f32", True),
        (IR, "openvino", False),
    ]
    row = found.artifacts[2]
    assert row.unjudged_reason == "computed in bf16; judged on openvino:f32"
    assert not row.passed
    assert found.passed
    # Whoever names the runtime wants it judged.
    named = verify(bundle, data, reference=FakeReference(), artifacts=[IR], runtimes=["openvino"])
    assert [row.judged for row in named.artifacts] == [True]
    assert not named.passed


def test_engine_that_keeps_to_fp32_is_run_once(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_in(monkeypatch, "fp32")
    data = VerificationData.from_folder(folder, limit=1)
    found = verify(bundle, data, reference=FakeReference(), artifacts=[IR])
    assert [row.spec for row in found.artifacts] == ["openvino:f32"]


def compute_in(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """Let OpenVINO say that it computes in `precision` unless told otherwise."""
    monkeypatch.setattr(OpenVino, "_precision", lambda self: "fp32" if self.asked_precision else precision)
    hint = {"fp32": "f32"}.get(precision, precision)
    monkeypatch.setattr(OpenVino, "_hint", lambda self: self.asked_precision or hint)


def test_nan_output_fails(bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(engine: ArtifactRuntime, item: Item) -> tuple[agreement.Labels, agreement.Probability | None]:
        mask, probability = real(engine, item)
        assert probability is not None
        return mask, np.full_like(probability, np.nan) if item.name == "3.png" else probability

    real = agreement.answer
    monkeypatch.setattr(agreement, "answer", broken)
    row = verify(
        bundle, VerificationData.from_folder(folder), reference=FakeReference(), artifacts=[FP32]
    ).artifacts[0]
    assert row.reasons == ("NaN or infinite output on 1 images, the first 3.png",)
    assert row.not_finite == ("3.png",)


def test_calibrating_on_the_verification_images_is_noted(bundle: Bundle, folder: Path) -> None:
    data = VerificationData.from_folder(folder, limit=3)
    calibration = CalibrationRecord(source="images", count=3, digest=data.record.digest, method="min-max")
    records = [
        record.model_copy(update={"calibration": calibration if record.name == FP16 else None})
        for record in bundle.manifest.artifacts
    ]
    manifest = bundle.manifest.model_copy(update={"artifacts": tuple(records)})
    leaky = Bundle(bundle.root, manifest, bundle.manifest_sha256)
    found = verify(leaky, data, reference=FakeReference(), artifacts=[FP32, FP16])
    assert [len(row.notes) for row in found.artifacts] == [0, 1]
    assert "calibrated on the very images" in found.artifacts[1].notes[0]


# --- reference -------------------------------------------------------------------------


def test_reference_must_reproduce_the_golden_vectors(bundle: Bundle, folder: Path) -> None:
    assert check_golden(bundle, FakeReference(offset=5e-5)) == pytest.approx(5e-5, rel=0.05)
    for offset in (2e-4, float("nan")):
        with pytest.raises(BundleError, match=r"golden\.npz: expected the reference to reproduce"):
            verify(bundle, VerificationData.from_folder(folder), reference=FakeReference(offset=offset))
    with pytest.raises(BundleError, match="expected golden outputs"):
        check_golden(bundle, FakeReference(size=32))


def test_labels_of_classes_are_the_largest() -> None:
    two = np.array([[[0.5], [np.nextafter(np.float32(0.5), np.float32(1))]]], np.float32)
    assert labels(two).tolist() == [[0, 1]]
    three = np.array([[[0.2, 0.5, 0.3], [0.6, 0.2, 0.2]]], np.float32)
    assert labels(three).tolist() == [[1, 0]]


# --- who runs on what ------------------------------------------------------------------


def test_default_judges_openvino_floats_in_fp32(bundle: Bundle) -> None:
    assert [(c.artifact.name, c.spec, c.judged) for c in select_contenders(bundle)] == [
        (FP32, "onnxruntime", True),
        (FP16, "onnxruntime", True),
        (IR, "openvino:f32", True),
        (IR, "openvino", False),
    ]


def test_specs_run_what_they_load(bundle: Bundle) -> None:
    chosen = select_contenders(bundle, runtimes=["onnxruntime", "openvino"])
    assert [(c.artifact.name, c.spec) for c in chosen] == [
        (FP32, "onnxruntime"),
        (FP32, "openvino"),
        (FP16, "onnxruntime"),
        (FP16, "openvino"),
        (IR, "openvino"),
    ]
    with pytest.raises(UnsupportedError, match="litert can load none"):
        select_contenders(bundle, runtimes=["litert"])
    with pytest.raises(UnsupportedError, match="litert cannot load onnx"):
        select_contenders(bundle, artifacts=[FP32], runtimes=["litert"])
    with pytest.raises(UsageError, match="nonsense"):
        select_contenders(bundle, runtimes=["nonsense"])
    with pytest.raises(BundleError, match="artifact named 'nonsense'"):
        select_contenders(bundle, artifacts=["nonsense"])


# --- data ------------------------------------------------------------------------------


def test_frames_of_mixed_sizes_in_small_batches(bundle: Bundle, tmp_path: Path) -> None:
    for index in range(20):
        side = 96 if index < 10 else 64 + index
        frame = np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), frame)
    reference = FakeReference()
    steps: list[tuple[str, int, int]] = []
    found = verify(
        bundle,
        VerificationData.from_folder(tmp_path),
        reference=reference,
        artifacts=[FP32],
        progress=lambda *step: steps.append(step),
    )
    assert [image.agreement.name for image in found.artifacts[0].images] == [f"{i}.png" for i in range(20)]
    assert reference.largest_batch == 8
    assert steps == [("verify", done, 20) for done in range(1, 21)]


def test_images_are_never_held_all_at_once(bundle: Bundle) -> None:
    """The frames alive at any time are those of a batch or two, however many there are."""
    frames: list[weakref.ref[Frame]] = []
    alive: list[int] = []

    class Watched(VerificationData):
        def __iter__(self) -> Iterator[Item]:
            for item in super().__iter__():
                frames.append(weakref.ref(item.frame))
                alive.append(sum(frame() is not None for frame in frames))
                yield item

    data = Watched.generated(40, size=64)
    verify(bundle, data, reference=FakeReference(), artifacts=[FP32])
    assert len(alive) == 40
    assert max(alive) <= 2 * agreement._BATCH + 2


def test_unreadable_image_is_named(bundle: Bundle, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data", count=3, masks=False)
    (root / "images" / "1.png").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"1\.png"):
        verify(bundle, VerificationData.from_folder(root / "images"), reference=FakeReference())


def test_limit_draws_with_the_seed(folder: Path) -> None:
    def drawn(seed: int) -> list[str]:
        return [item.name for item in VerificationData.from_folder(folder, limit=4, seed=seed)]

    assert len(drawn(0)) == 4
    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    record = VerificationData.from_folder(folder, limit=4).record
    assert (record.count, record.available) == (4, 12)


def test_masks_without_images_are_mentioned(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data", count=3)
    (root / "images" / "2.png").unlink()
    data = VerificationData.from_folder(root / "images", root / "masks")
    assert len(data) == 2
    assert "1 masks have no image" in data.notes[0]


def test_generated_data_is_labelled(bundle: Bundle) -> None:
    data = VerificationData.generated(3, seed=4)
    assert (data.record.source, data.record.masks) == ("generated", True)
    names = [item.name for item in data]
    assert names == ["generated-4-0", "generated-4-1", "generated-4-2"]
    assert np.array_equal(data.item(names[1]).frame, list(data)[1].frame)
    with pytest.raises(UsageError, match="at least one image"):
        verify(bundle, VerificationData.generated(0), reference=FakeReference())
