from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanonet_edge.benchmarks.accuracy import evaluate_model, evaluate_models
from nanonet_edge.benchmarks.accuracy_data import open_data
from nanonet_edge.benchmarks.accuracy_result import AccuracyResult, AccuracyRow, AccuracySettings
from nanonet_edge.errors import (
    DatasetError,
    MissingExtraError,
    RuntimeFailure,
    UsageError,
)
from nanonet_edge.metrics import ImageAccuracy, ModelAccuracy, PooledAccuracy
from nanonet_edge.results import load_result, save_result
from tests.benchmarks.accuracy_fakes import FakeModel, Truth, certain, in_memory, random_masks, sklearn_scores
from tests.benchmarks.agreement_fakes import SIZE, write_dataset
from tests.tiny_bundle import make_tiny_bundle, tiny_reference

FIGURES = tuple(ImageAccuracy.model_fields)


def evaluate(models: list[FakeModel], truths: list[Truth], **asked: object) -> AccuracyResult:
    found = AccuracySettings.model_validate(asked)
    return evaluate_models(models, in_memory(truths), found)  # type: ignore[arg-type]


@st.composite
def mask_pairs(draw: st.DrawFn) -> list[tuple[Truth, Truth]]:
    """Some images' true and predicted masks, of sizes of their own; empty and full ones among them."""
    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
        mask = st.one_of(
            st.just(np.zeros(shape, np.uint8)),
            st.just(np.ones(shape, np.uint8)),
            hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)),
        )
        pairs.append((draw(mask), draw(mask)))
    return pairs


# --- figures ---------------------------------------------------------------------------


@settings(max_examples=40)
@given(mask_pairs())
def test_every_figure_is_that_of_scikit_learn(pairs: list[tuple[Truth, Truth]]) -> None:
    truths, masks = [truth for truth, _ in pairs], [mask for _, mask in pairs]
    (row,) = evaluate([FakeModel(certain(masks))], truths).rows
    expected = [sklearn_scores(truth, mask) for truth, mask in pairs]
    for image, scores in zip(row.images, expected, strict=True):
        assert image.accuracy.model_dump() == pytest.approx(scores)
    assert row.mean is not None
    assert row.pooled is not None
    for name in FIGURES:
        estimate = getattr(row.mean, "miou" if name == "iou" else name)
        assert estimate.mean == pytest.approx(np.mean([scores[name] for scores in expected]))
        assert estimate.low - 1e-12 <= estimate.mean <= estimate.high + 1e-12
    every_truth, every_mask = (np.concatenate([one.reshape(-1) for one in side]) for side in (truths, masks))
    pooled = {name: getattr(row.pooled, name).mean for name in FIGURES}
    assert pooled == pytest.approx(sklearn_scores(every_truth, every_mask))


def test_intervals_are_those_of_resampled_images() -> None:
    """Against a bootstrap of its own, with other draws: means and ratios of sums."""
    truths, masks = random_masks(30, seed=1), random_masks(30, seed=2)
    for index, mask in enumerate(masks):
        mask[: index % 20] = truths[index][: index % 20]
    (row,) = evaluate([FakeModel(certain(masks))], truths).rows
    rng = np.random.default_rng(99)
    scores = [sklearn_scores(t, m)["dsc"] for t, m in zip(truths, masks, strict=True)]
    means, ratios = [], []
    for _ in range(4000):
        drawn = rng.integers(0, 30, 30)
        means.append(np.mean([scores[i] for i in drawn]))
        common = sum(int((truths[i] & masks[i]).sum()) for i in drawn)
        ratios.append(2 * common / sum(int(truths[i].sum() + masks[i].sum()) for i in drawn))
    assert row.mean is not None
    assert row.pooled is not None
    for found, draws in ((row.mean.dsc, means), (row.pooled.dsc, ratios)):
        low, high = np.percentile(draws, (2.5, 97.5))
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_mean_over_images_and_pooled_pixels_differ_as_they_should() -> None:
    """A perfect mask of a small polyp and a missed large one: half of the images, few of the pixels."""
    small, large = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    small[0, 0] = 1
    large[:9] = 1
    (row,) = evaluate([FakeModel(certain([small, np.zeros_like(large)]))], [small, large]).rows
    assert row.mean is not None
    assert row.pooled is not None
    assert row.mean.dsc.mean == 0.5
    assert row.pooled.recall.mean == pytest.approx(1 / 91)
    assert row.pooled.dsc.mean == pytest.approx(2 / 92)


# --- resolution and threshold ----------------------------------------------------------


def test_truth_is_resized_to_the_network_by_default() -> None:
    truth = np.zeros((40, 60), np.uint8)
    truth[10:30, 12:48] = 1
    small = cv2.resize(truth * 255, (16, 16), interpolation=cv2.INTER_LINEAR) > 127
    (row,) = evaluate([FakeModel(certain([small.astype(np.uint8)]))], [truth]).rows
    (image,) = row.images
    assert (image.height, image.width) == (16, 16)
    assert image.accuracy.dsc == 1.0


def test_probabilities_are_resized_to_the_truth_before_the_threshold() -> None:
    truth = random_masks(1, 30)[0][:, :25]
    probability = np.random.default_rng(3).random((16, 16, 1), np.float32)
    asked = {"resolution": "original", "threshold": 0.4}
    (row,) = evaluate([FakeModel([probability])], [truth], **asked).rows
    (image,) = row.images
    resized = cv2.resize(probability[..., 0], (25, 30), interpolation=cv2.INTER_LINEAR)
    expected = sklearn_scores(truth, (resized > 0.4).astype(np.uint8))
    assert (image.height, image.width) == (30, 25)
    assert image.accuracy.model_dump() == pytest.approx(expected)
    # Thresholding first would be another mask.
    coarse = cv2.resize((probability[..., 0] > 0.4).astype(np.uint8), (25, 30), interpolation=0)
    assert image.accuracy.dsc != pytest.approx(sklearn_scores(truth, coarse)["dsc"])


def test_threshold_is_exceeded_not_reached() -> None:
    probability = np.array([[[0.3], [0.30000004], [0.9]]], np.float32)
    truth = np.array([[0, 1, 1]], np.uint8)
    (row,) = evaluate([FakeModel([probability])], [truth], threshold=float(np.float32(0.3))).rows
    assert row.images[0].accuracy.dsc == 1.0


@pytest.mark.parametrize("asked", [{"threshold": 0.4}, {"resolution": "original"}])
def test_mask_head_has_no_other_threshold_and_size(asked: dict[str, object]) -> None:
    truths = random_masks(2)
    model = FakeModel(certain(truths), mask_only=True)
    (plain,) = evaluate([model], truths).rows
    assert plain.mean is not None
    assert plain.mean.dsc.mean == 1.0
    (row,) = evaluate([model], truths, **asked).rows
    assert "its head is a mask, without probabilities" in str(row.failure)


def test_several_classes_take_the_largest_and_no_threshold() -> None:
    truth = np.array([[0, 1]], np.uint8)
    probability = np.array([[[0.6, 0.3, 0.1], [0.3, 0.3, 0.4]]], np.float32)
    for asked in ({}, {"resolution": "original"}):
        (row,) = evaluate([FakeModel([probability])], [truth], **asked).rows
        assert row.images[0].accuracy.dsc == 1.0
    (row,) = evaluate([FakeModel([probability])], [truth], threshold=0.35).rows
    assert "several classes have no threshold" in str(row.failure)


# --- several models --------------------------------------------------------------------


def test_differences_are_paired_and_against_the_first() -> None:
    truths, masks = random_masks(20, seed=1), random_masks(20, seed=2)
    better = [mask | truth for mask, truth in zip(masks, truths, strict=True)]
    first, second = evaluate([FakeModel(certain(masks)), FakeModel(certain(better), "b")], truths).rows
    assert first.difference is None
    assert second.difference is not None
    gaps = [
        sklearn_scores(t, b)["dsc"] - sklearn_scores(t, m)["dsc"]
        for t, m, b in zip(truths, masks, better, strict=True)
    ]
    found = second.difference.dsc
    assert found.mean == pytest.approx(np.mean(gaps))
    assert min(gaps) <= found.low < found.mean < found.high <= max(gaps)
    assert first.mean is not None
    # Paired: narrower than what each of the two has by itself.
    assert found.high - found.low < first.mean.dsc.high - first.mean.dsc.low


def test_one_that_fails_leaves_the_others() -> None:
    truths = random_masks(3)
    nan = [*certain(truths[:2]), np.full((24, 24, 1), np.nan, np.float32)]
    broken = [*certain(truths[:2]), RuntimeFailure("the engine failed to run it: boom")]
    models = [
        FakeModel(broken, "broken"),
        FakeModel(certain(truths), "good"),
        FakeModel(nan, "nan"),
        FakeModel([], "refused", refuses=RuntimeFailure("no such file")),
    ]
    result = evaluate(models, truths)
    assert [row.failure for row in result.rows] == [
        "broken on fake: the engine failed to run it: boom",
        None,
        "nan on fake: 2: the output holds NaN or infinity",
        "refused on fake: no such file",
    ]
    assert len(result.failures) == 3
    good = result.rows[1]
    assert good.mean is not None
    assert good.difference is None  # there is no first to compare with
    assert len(good.images) == 3
    assert result.rows[0].images == ()


def test_missing_engine_skips_or_is_all_there_is_to_say() -> None:
    truths = random_masks(2)
    absent = FakeModel([], "absent", refuses=MissingExtraError("openvino", "openvino"))
    result = evaluate([absent, FakeModel(certain(truths))], truths)
    assert [row.model.name for row in result.rows] == ["fake"]
    assert [one.artifact for one in result.skipped] == ["absent"]
    assert "pip install 'nanonet-edge[openvino]'" in result.skipped[0].reason
    with pytest.raises(MissingExtraError):
        evaluate([absent], truths)


# --- result ----------------------------------------------------------------------------


def test_result_survives_the_disk_and_is_frozen(tmp_path: Path) -> None:
    truths = random_masks(3)
    result = evaluate([FakeModel(certain(random_masks(3, seed=5))), FakeModel(certain(truths), "b")], truths)
    save_result(result, tmp_path / "evaluate.json")
    assert load_result(tmp_path / "evaluate.json", AccuracyResult) == result
    assert (result.obtained, result.kind, result.data.count) == ("measured", "evaluate", 3)
    with pytest.raises(ValueError, match="frozen"):
        result.rows[0].failure = "no"  # type: ignore[misc]


def test_csv_has_a_row_per_image_with_figures_in_full() -> None:
    truths = random_masks(3)
    result = evaluate([FakeModel(certain(random_masks(3, seed=5)), 'a, "quoted"')], truths)
    table = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [line["image"] for line in table] == ["0", "1", "2"]
    for line, image in zip(table, result.rows[0].images, strict=True):
        assert line["model"] == 'a, "quoted"'
        assert {name: float(line[name]) for name in FIGURES} == image.accuracy.model_dump()
        assert sum(int(line[name]) for name in ("tp", "fp", "fn", "tn")) == 24 * 24


def test_row_has_figures_or_a_failure() -> None:
    (row,) = evaluate([FakeModel(certain(random_masks(1)))], random_masks(1)).rows
    for update in ({"failure": "both"}, {"mean": None}, {"images": ()}):
        with pytest.raises(ValueError, match="expected either figures and images, or a failure"):
            AccuracyRow.model_validate({**row.model_dump(), **update})


# --- real engines and files ------------------------------------------------------------


def test_artifact_on_files_equals_scikit_learn_on_its_pixels(tmp_path: Path) -> None:
    bundle, folder = make_tiny_bundle(tmp_path / "tiny", SIZE), write_dataset(tmp_path / "kvasir")
    row = evaluate_model(bundle / "tiny.fp32.onnx", open_data(folder))
    assert row.runtime is not None
    assert (row.runtime.name, row.model.spec, row.model.size) == ("onnxruntime", "onnxruntime", SIZE)
    assert len(row.images) == 12
    for image in row.images:
        frame = cv2.resize(cv2.imread(str(folder / "images" / image.name)), (SIZE, SIZE))
        mask = (tiny_reference(frame[np.newaxis])[0, ..., 0] > 0.5).astype(np.uint8)
        stored = cv2.imread(str((folder / "masks" / image.name).with_suffix(".jpg")), cv2.IMREAD_GRAYSCALE)
        truth = (cv2.resize((stored > 127).astype(np.uint8) * 255, (SIZE, SIZE)) > 127).astype(np.uint8)
        # The engine rounds differently: a pixel on the threshold may fall to either side.
        assert image.accuracy.model_dump() == pytest.approx(sklearn_scores(truth, mask), abs=2e-3)


def test_one_model_is_one_model(tmp_path: Path) -> None:
    bundle, folder = make_tiny_bundle(tmp_path / "tiny", SIZE), write_dataset(tmp_path / "kvasir")
    with pytest.raises(UsageError, match=r"expected one model, found tiny\.fp32\.onnx, tiny\.fp16\.onnx"):
        evaluate_model(bundle, open_data(folder))


def test_no_images_and_no_masks_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one image"):
        evaluate([FakeModel([])], [])
    data = in_memory(random_masks(1))
    data.record = data.record.model_copy(update={"masks": False})
    with pytest.raises(DatasetError, match="expected ground-truth masks"):
        evaluate_models([FakeModel([])], data)  # type: ignore[list-item]


@pytest.mark.slow
def test_trained_network_on_the_validation_images(test_data: Path) -> None:
    """The figure of the weights' own README: DSC 0.828 in training, 0.8262 by the reference here."""
    path = test_data / "weights" / "nanonet_c_kvasir_quick.h5"
    row = evaluate_model(path, open_data(test_data / "data" / "kvasir-seg", split="val"))
    assert len(row.images) == 100
    assert isinstance(row.mean, ModelAccuracy)
    assert isinstance(row.pooled, PooledAccuracy)
    assert 0.826 <= row.mean.dsc.mean <= 0.828
    assert row.mean.dsc.low < 0.8
    assert row.mean.dsc.high > 0.85
    assert 0.72 <= row.mean.miou.mean <= 0.74
    assert row.runtime is not None
    assert row.runtime.computed_precision == "fp32"
