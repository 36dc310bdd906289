"""Checkpoints that load: every layout, whatever the layers are called."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nanonet_edge.checkpoint import load_checkpoint, save_checkpoint
from nanonet_edge.errors import CheckpointError, UsageError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.keras_network import build_keras
from nanonet_edge.manifest import sha256_file
from nanonet_edge.reference import KerasReference
from nanonet_edge.variants import Topology
from tests.nanonet_edge.checkpoints import same_weights, write_keras2
from tests.nanonet_edge.graphs import ALL, image, nanonet

# Keras copies tensors in a way that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

#: What Keras 3 saves here: (variant, topology, classes).
SAVED = [("c", Topology.RELEASED, 1), ("a", Topology.DESCRIBED, 3)]


def unnamed(model: Any) -> Any:
    """The model again, with the names Keras gives late in a session: conv2d_17, dense_4, …"""
    import keras

    for kind in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
        kind(1, 1)
    keras.layers.BatchNormalization()
    keras.layers.Dense(1)

    def anonymous(layer: Any) -> Any:
        config = layer.get_config()
        if not isinstance(layer, keras.layers.InputLayer):
            del config["name"]
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(model, clone_function=anonymous)
    copy.set_weights(model.get_weights())
    return copy


def weights_only(full: Path, path: Path) -> Path:
    """The weights of a full legacy model, laid out as `save_weights` of Keras 2 does."""
    with h5py.File(full) as source, h5py.File(path, "w") as target:
        root = source["model_weights"]
        for name in root:
            source.copy(root[name], target, name)
        for name, value in root.attrs.items():
            target.attrs[name] = value
    return path


@pytest.fixture(scope="module", params=SAVED, ids=lambda saved: "-".join(map(str, saved)))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    """What was saved, the Keras model, and a folder with it in four layouts."""
    variant, topology, classes = request.param
    folder = tmp_path_factory.mktemp("saved")
    model = unnamed(build_keras(nanonet(variant, topology, seed=6, size=64, classes=classes)))
    model.save(folder / "full.h5")
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    weights_only(folder / "full.h5", folder / "weights.h5")
    return request.param, model, folder


@pytest.mark.parametrize("name", ["full.h5", "weights.h5", "model.keras", "model.weights.h5"])
def test_what_keras_3_saves_is_recognised_and_reproduced(saved: tuple[Any, Any, Path], name: str) -> None:
    (variant, topology, classes), model, folder = saved
    found = load_checkpoint(folder / name, size=64)
    assert (found.variant.name, found.topology, found.classes) == (variant, topology, classes)
    assert found.sha256 == sha256_file(folder / name)
    expected = np.asarray(model(image(64), training=False))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(evaluate(found.graph, image(64)), expected, atol=1e-5)


def test_the_names_tell_nothing(saved: tuple[Any, Any, Path]) -> None:
    _, model, _ = saved
    weighted = [layer.name for layer in model.layers if layer.weights]
    assert all(
        re.fullmatch(r"(conv2d|depthwise_conv2d|batch_normalization|dense)_\d+", name) for name in weighted
    )


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_what_keras_2_saves_loads(tmp_path: Path, full: bool, chunked: bool) -> None:
    graph = nanonet("b", Topology.DESCRIBED)
    write_keras2(tmp_path / "old.h5", graph, full=full, chunked=chunked)
    found = load_checkpoint(tmp_path / "old.h5", size=64)
    assert (found.variant.name, found.topology) == ("b", Topology.DESCRIBED)
    assert same_weights(found.graph, graph)


@pytest.mark.parametrize(("variant", "topology", "classes"), [*((*each, 1) for each in ALL), (*ALL[0], 4)])
def test_saved_and_loaded_is_the_same(tmp_path: Path, variant: str, topology: Topology, classes: int) -> None:
    graph = nanonet(variant, topology, classes=classes)
    path = tmp_path / "new folder" / "x.weights.h5"
    save_checkpoint(graph, path, origin="a test")
    found = load_checkpoint(str(path), variant=variant.upper(), topology=topology, size=64)
    assert (found.path, found.variant.name, found.topology, found.classes) == (
        path,
        variant,
        topology,
        classes,
    )
    assert same_weights(found.graph, graph)


def test_the_same_network_gives_the_same_bytes_at_any_time(tmp_path: Path) -> None:
    save_checkpoint(nanonet(), tmp_path / "now")
    time.sleep(1.1)  # HDF5 stores whole seconds
    save_checkpoint(nanonet(), tmp_path / "later")
    assert (tmp_path / "now").read_bytes() == (tmp_path / "later").read_bytes()


@pytest.mark.parametrize("topology", list(Topology))
def test_keras_itself_loads_what_is_saved(tmp_path: Path, topology: Topology) -> None:
    graph = nanonet("c", topology, seed=7)
    save_checkpoint(graph, tmp_path / "x.weights.h5")
    model = build_keras(nanonet("c", topology, seed=8))
    model.load_weights(tmp_path / "x.weights.h5")
    np.testing.assert_allclose(model(image(64), training=False), evaluate(graph, image(64)), atol=1e-5)


def test_the_graph_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    save_checkpoint(nanonet(), tmp_path / "x")
    assert load_checkpoint(tmp_path / "x").graph.size == 256
    assert load_checkpoint(tmp_path / "x", size=96).graph.size == 96
    with pytest.raises(UsageError, match="multiple of 32"):
        load_checkpoint(tmp_path / "x", size=100)


def test_the_extension_does_not_matter(tmp_path: Path) -> None:
    save_checkpoint(nanonet(), tmp_path / "x.weights.h5")
    shutil.move(tmp_path / "x.weights.h5", tmp_path / "no extension at all")
    assert load_checkpoint(tmp_path / "no extension at all").variant.name == "c"


def test_half_precision_and_double_weights_are_read(tmp_path: Path) -> None:
    graph = nanonet()
    for dtype in (np.float16, np.float64):
        cast = [node.but(weights={n: a.astype(dtype) for n, a in node.weights.items()}) for node in graph]
        save_checkpoint(type(graph)(tuple(cast), graph.output), tmp_path / "x")
        found = load_checkpoint(tmp_path / "x").graph
        for node, stored in zip(found, cast, strict=True):
            assert all(array.dtype == np.float32 for array in node.weights.values())
            assert all(
                np.array_equal(a, stored.weights[n].astype(np.float32)) for n, a in node.weights.items()
            )


def test_a_wrong_belief_is_corrected(tmp_path: Path) -> None:
    save_checkpoint(nanonet("c"), tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"x: expected NanoNet-A, found NanoNet-C \(released\)$"):
        load_checkpoint(tmp_path / "x", variant="a")
    with pytest.raises(CheckpointError, match=r"x: expected topology 'described', found 'released'$"):
        load_checkpoint(tmp_path / "x", topology=Topology.DESCRIBED)
    with pytest.raises(UsageError, match="variant 'z' is unknown"):
        load_checkpoint(tmp_path / "x", variant="z")


def test_the_released_code_is_reproduced(test_data: Path) -> None:
    found = load_checkpoint(test_data / "fixtures" / "released_code_C.h5")
    assert (found.variant.name, found.topology, found.classes) == ("c", Topology.RELEASED, 1)
    x = np.random.RandomState(3).rand(4, 256, 256, 3).astype(np.float32)
    with np.load(test_data / "fixtures" / "released_code_C_output.npz") as stored:
        expected = stored["y"]
    with KerasReference(found) as reference:
        np.testing.assert_allclose(reference.predict(x), expected, atol=1e-5)
    np.testing.assert_allclose(evaluate(found.graph, x[:1]), expected[:1], atol=1e-5)


def test_a_checkpoint_trained_under_keras_3_is_recognised(test_data: Path) -> None:
    found = load_checkpoint(test_data / "weights" / "nanonet_c_kvasir_quick.h5")
    assert (found.variant.name, found.topology, found.classes) == ("c", Topology.RELEASED, 1)
