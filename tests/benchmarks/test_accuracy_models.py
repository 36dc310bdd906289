from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.benchmarks.accuracy import evaluate_models
from nanonet_edge.benchmarks.accuracy_data import open_data
from nanonet_edge.benchmarks.accuracy_models import CheckpointModel, find_models
from nanonet_edge.datasets import read_frame, read_mask, resize_mask
from nanonet_edge.errors import (
    BundleError,
    CheckpointError,
    InputError,
    MissingExtraError,
    UnsupportedError,
    UsageError,
)
from nanonet_edge.reference import KerasReference
from nanonet_edge.variants import VARIANTS, Format, Precision, Topology
from nanonet_edge.weights import bundled_weights
from tests.benchmarks.accuracy_fakes import sklearn_scores
from tests.benchmarks.agreement_fakes import SIZE, write_dataset
from tests.tiny_bundle import make_tiny_bundle

SHIPPED = bundled_weights(VARIANTS["c"], Topology.RELEASED).checkpoint
FP32, FP16, IR = "tiny.fp32.onnx", "tiny.fp16.onnx", "tiny.fp32.openvino"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", SIZE)


def found(*paths: Path | str, runtimes: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return [(model.record.name, model.record.spec) for model in find_models(paths, runtimes=runtimes)]


def test_bundle_is_all_its_artifacts_each_once(bundle: Path) -> None:
    assert found(bundle) == [(FP32, "onnxruntime"), (FP16, "onnxruntime"), (IR, "openvino:f32")]


def test_artifact_is_named_by_its_file_or_by_its_name(bundle: Path) -> None:
    one = [(IR, "openvino:f32")]
    assert found(bundle / "tiny.fp32.xml") == found(bundle / "tiny.fp32.bin") == found(bundle / IR) == one
    (model,) = find_models([bundle / FP16])
    record = model.record
    assert (record.kind, record.format, record.precision) == ("artifact", Format.ONNX, Precision.FP16)
    assert record.manifest_sha256 is not None


def test_named_twice_counts_once(bundle: Path) -> None:
    relative = os.path.relpath(bundle / FP16)
    assert found(bundle / FP16, relative, bundle) == [
        (FP16, "onnxruntime"), (FP32, "onnxruntime"), (IR, "openvino:f32"),
    ]  # fmt: skip


def test_runtimes_run_what_they_load(bundle: Path) -> None:
    assert found(bundle, runtimes=("openvino", "onnxruntime")) == [
        (FP32, "openvino"), (FP32, "onnxruntime"),
        (FP16, "openvino"), (FP16, "onnxruntime"),
        (IR, "openvino"),
    ]  # fmt: skip
    with pytest.raises(UnsupportedError, match="litert"):
        find_models([bundle / FP32], runtimes=["litert"])
    with pytest.raises(UsageError, match="runtime 'openvino' runs artifacts, found checkpoints alone"):
        find_models([SHIPPED], runtimes=["openvino"])


def test_equal_names_are_told_apart_by_their_folders(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    assert found(bundle / FP32, other / FP32, other / FP16) == [
        (f"tiny/{FP32}", "onnxruntime"), (f"other/{FP32}", "onnxruntime"), (FP16, "onnxruntime"),
    ]  # fmt: skip


def test_checkpoint_is_what_it_holds(bundle: Path) -> None:
    shipped, artifact = find_models([SHIPPED, bundle / FP32], size=64)
    assert isinstance(shipped, CheckpointModel)
    record = shipped.record
    assert (record.name, record.kind, record.spec) == (SHIPPED.name, "checkpoint", "keras")
    assert (record.variant, record.topology, record.size) == ("c", Topology.RELEASED, 64)
    assert record.sha256 == shipped.checkpoint.sha256
    assert (record.manifest_sha256, record.format, record.precision) == (None, None, None)
    assert artifact.record.kind == "artifact"


def test_checkpoint_in_keras_equals_scikit_learn_on_its_pixels(bundle: Path, tmp_path: Path) -> None:
    """Beside an artifact, in one pass."""
    folder = write_dataset(tmp_path / "kvasir", count=3)
    models = find_models([SHIPPED, bundle / FP32], size=64)
    keras, engine = evaluate_models(models, open_data(folder)).rows
    assert keras.failure is None
    assert engine.difference is not None
    assert keras.runtime is not None
    assert (keras.runtime.name, keras.runtime.computed_precision) == ("keras", "fp32")
    frames = [read_frame(folder / "images" / image.name) for image in keras.images]
    with KerasReference(SHIPPED, 64) as reference:
        masks = reference.probability(np.stack(frames))[..., 0] > 0.5
    for image, mask in zip(keras.images, masks, strict=True):
        truth = read_mask((folder / "masks" / image.name).with_suffix(".jpg"))
        expected = sklearn_scores(resize_mask(truth, (64, 64)), mask.astype(np.uint8))
        assert image.accuracy.model_dump() == pytest.approx(expected, abs=2e-3)


# --- bad input -------------------------------------------------------------------------


def test_nothing_named() -> None:
    with pytest.raises(UsageError, match="expected a model to evaluate"):
        find_models([])


@pytest.mark.parametrize("name", ["absent.h5", "absent.tflite", "absent"])
def test_missing_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: expected a checkpoint .*, found nothing"):
        find_models([tmp_path / name])


def test_artifact_without_a_manifest_has_no_contract(bundle: Path, tmp_path: Path) -> None:
    lone = shutil.copy(bundle / FP32, tmp_path / "lone.onnx")
    with pytest.raises(InputError, match=r"lone\.onnx: .* found a file with no manifest\.json beside it"):
        find_models([lone])


def test_unknown_artifact(bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"expected an artifact named 'golden\.npz', found tiny"):
        find_models([bundle / "golden.npz"])


def test_artifact_whose_digest_differs(bundle: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    data = bytearray((damaged / FP32).read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / FP32).write_bytes(data)
    for path in (damaged, damaged / FP32, damaged / FP16):
        with pytest.raises(BundleError, match=r"tiny\.fp32\.onnx: .*sha256"):
            find_models([path])


def test_checkpoint_that_is_none_or_another(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(CheckpointError, match=r"text\.h5"):
        find_models([tmp_path / "text.h5"])
    with pytest.raises(CheckpointError, match="expected NanoNet-A, found NanoNet-C"):
        find_models([SHIPPED], variant="a")


def test_checkpoint_needs_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanonet_edge.extras.is_installed", lambda module: module != "tensorflow")
    with pytest.raises(MissingExtraError, match="tensorflow is not installed"):
        find_models([SHIPPED])
