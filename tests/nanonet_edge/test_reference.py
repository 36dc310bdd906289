"""The Keras reference: batches, frames, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint
from nanonet_edge.contract import preprocess
from nanonet_edge.errors import CheckpointError, MissingExtraError, TensorError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.reference import KerasReference
from tests.nanonet_edge.graphs import image, nanonet


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "x.weights.h5"
    save_checkpoint(nanonet(seed=9, classes=2), path)
    return path


@pytest.fixture(scope="module")
def reference(weights: Path) -> KerasReference:
    return KerasReference(weights, size=64)


def test_it_says_what_it_takes_and_gives(reference: KerasReference) -> None:
    assert reference.input.shape == (1, 64, 64, 3)
    assert (reference.input.layout, reference.input.channel_order) == ("nhwc", "bgr")
    assert (reference.name, reference.classes) == ("keras", 2)
    assert reference.version


def test_it_computes_the_unrewritten_network(reference: KerasReference, weights: Path) -> None:
    x = image(64, count=3)
    graph = load_checkpoint(weights, size=64).graph
    np.testing.assert_allclose(reference.predict(x), evaluate(graph, x), atol=1e-5)


@pytest.mark.parametrize("count", [1, 8, 9, 17])
def test_batches_do_not_show(reference: KerasReference, count: int) -> None:
    x = image(64, count=count)
    together = reference.predict(x)
    assert together.shape == (count, 64, 64, 2)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together[-1:], reference.predict(x[-1:]), atol=1e-6)


def test_frames_are_preprocessed_as_everywhere(reference: KerasReference) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    tensors = np.concatenate([preprocess(frame, reference.input) for frame in frames])
    assert np.array_equal(reference.probability(frames), reference.predict(tensors))
    with pytest.raises(TensorError, match="expected a colour frame"):
        reference.probability(frames.astype(np.float32))


def test_a_loaded_checkpoint_is_taken_as_it_is(weights: Path) -> None:
    with KerasReference(load_checkpoint(weights, size=64), size=96) as reference:
        assert reference.predict(image(96)).shape == (1, 96, 96, 2)
    assert reference.model is None


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("no")
    with pytest.raises(CheckpointError, match=r"x\.h5: expected a Keras checkpoint"):
        KerasReference(tmp_path / "x.h5")


def test_without_tensorflow_it_names_the_extra(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r"nanonet-edge\[export\]"):
        KerasReference(weights)
