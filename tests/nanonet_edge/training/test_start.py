"""Where a run starts: ImageNet weights in a NanoNet's encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nanonet_edge.errors import CheckpointError, InputError
from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from nanonet_edge.network import build_network, initial_fill
from nanonet_edge.training import imagenet_encoder, place_encoder
from nanonet_edge.variants import VARIANTS
from tests.nanonet_edge.graphs import image

FILES = {"a": "0.5", "b": "0.35", "c": "0.35"}
#: Where the encoder ends, as it is called here and by Keras.
CUT, KERAS_CUT = "block_6_expand_relu6", "block_6_expand_relu"


def encoder_file(test_data: Path, variant: str) -> Path:
    return (
        test_data / f"weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{FILES[variant]}_224_no_top.h5"
    )


def start(variant: str = "c", size: int = 64) -> Graph:
    return build_network(VARIANTS[variant], size=size, fill=initial_fill(0))


def encoded(graph: Graph, x: np.ndarray) -> np.ndarray:
    """What the encoder makes of an image."""
    return evaluate(Graph(graph.nodes, CUT), x)


@pytest.mark.parametrize("variant", FILES)
def test_the_encoder_is_the_files_and_the_rest_stays(test_data: Path, variant: str) -> None:
    graph, path = start(variant), encoder_file(test_data, variant)
    placed = place_encoder(graph, path, adapt_input=False)
    with h5py.File(path) as file:
        stored: dict[int, list[np.ndarray]] = {}
        file.visititems(
            lambda _, item: (
                stored.setdefault(item.size, []).append(np.asarray(item))
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    names = [node.name for node in graph]
    for name in names[: names.index(CUT)]:
        for array in placed[name].weights.values():
            assert any(np.array_equal(array, one) for one in stored[array.size]), name
    for node in list(graph)[names.index(CUT) :]:
        assert all(np.array_equal(placed[node.name].weights[key], node.weights[key]) for key in node.weights)


@pytest.mark.parametrize("variant", ["a", "c"])
def test_adapted_to_the_input_it_is_the_same_function_inside_the_border(
    test_data: Path, variant: str
) -> None:
    """ImageNet's weights on RGB in [-1, 1], and the adapted ones on BGR in [0, 1]: two definitions of one."""
    graph, path = start(variant, 128), encoder_file(test_data, variant)
    x = image(128, seed=3)
    plain = place_encoder(graph, path, adapt_input=False)
    adapted = place_encoder(graph, path, adapt_input=True)
    expected = encoded(plain, 2 * x[..., ::-1] - 1)
    found = encoded(adapted, x)
    # Outside the image the one sees grey, the other black: that reaches a few pixels inwards.
    inside = np.s_[:, 4:-4, 4:-4]
    np.testing.assert_allclose(found[inside], expected[inside], atol=2e-4)
    assert expected[inside].max() > 1
    assert np.abs(encoded(plain, x)[inside] - expected[inside]).max() > 0.1


def test_keras_own_layers_agree_with_what_is_placed(test_data: Path) -> None:
    """Keras's MobileNetV2 with the file's weights, on the input that it was trained with."""
    from nanonet_edge.extras import require

    keras = require("keras")
    path = encoder_file(test_data, "c")
    model = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None)
    model.load_weights(str(path))
    cut = keras.Model(model.input, model.get_layer(KERAS_CUT).output)
    x = image(64, seed=1)
    placed = place_encoder(start("c"), path, adapt_input=False)
    np.testing.assert_allclose(
        encoded(placed, 2 * x - 1), np.asarray(cut(2 * x - 1, training=False)), atol=1e-4
    )


def test_another_width_is_refused(test_data: Path) -> None:
    path = encoder_file(test_data, "a")
    with pytest.raises(CheckpointError) as caught:
        place_encoder(start("c"), path, adapt_input=True)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected a MobileNetV2 whose layer for ")
    assert "\n" not in message


def test_a_damaged_file_is_refused(test_data: Path, tmp_path: Path) -> None:
    whole = encoder_file(test_data, "c").read_bytes()
    for name, content in (
        ("half.h5", whole[: len(whole) // 2]),
        ("empty.h5", b""),
        ("text.h5", b"no weights"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=name) as caught:
            place_encoder(start(), path, adapt_input=True)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match=r"missing\.h5"):
        place_encoder(start(), tmp_path / "missing.h5", adapt_input=True)


def test_a_checkpoint_without_so_many_layers_is_refused(tmp_path: Path) -> None:
    from nanonet_edge.checkpoint import save_checkpoint
    from tests.nanonet_edge.training.material import small_network

    path = tmp_path / "small.weights.h5"
    save_checkpoint(small_network(), path)
    with pytest.raises(CheckpointError, match=r"small\.weights\.h5: expected a MobileNetV2"):
        place_encoder(start(), path, adapt_input=True)


@pytest.mark.parametrize(("variant", "alpha"), FILES.items())
def test_keras_own_download_is_asked_for_the_width_and_the_digest(
    variant: str, alpha: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nanonet_edge.extras import require

    def get_file(name: str, origin: str, **options: Any) -> str:
        print(f"Downloading data from {origin}")
        assert origin.endswith(name)
        assert len(options["file_hash"]) == 64
        return f"/cache/{name}"

    monkeypatch.setattr(require("keras").utils, "get_file", get_file)
    assert f"_{alpha}_224_no_top.h5" in imagenet_encoder(VARIANTS[variant]).name
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Downloading" in printed.err


def test_the_files_at_hand_have_the_digests_that_are_asked_for(
    test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanonet_edge.extras import require
    from nanonet_edge.manifest import sha256_file

    asked = {}
    monkeypatch.setattr(
        require("keras").utils, "get_file", lambda name, origin, **o: asked.setdefault(name, o["file_hash"])
    )
    for variant in FILES:
        imagenet_encoder(VARIANTS[variant])
    assert asked == {name: sha256_file(test_data / "weights" / name) for name in asked}


def test_no_network_says_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanonet_edge.extras import require

    def get_file(name: str, *_: Any, **__: Any) -> str:
        raise Exception(f"URL fetch failure on\n{name}: None -- no route")  # noqa: TRY002 - as Keras

    monkeypatch.setattr(require("keras").utils, "get_file", get_file)
    with pytest.raises(InputError, match=r"cannot be downloaded .*give --encoder-weights FILE") as caught:
        imagenet_encoder(VARIANTS["c"])
    assert "\n" not in str(caught.value)
