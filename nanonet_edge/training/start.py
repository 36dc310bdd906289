"""Where a run starts: a random network, and an ImageNet encoder placed into it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import numpy as np

from nanonet_edge.errors import CheckpointError, InputError
from nanonet_edge.extras import require
from nanonet_edge.graph import Graph, Node
from nanonet_edge.hdf5 import Arrays, Layer
from nanonet_edge.hdf5_process import read_layers_isolated
from nanonet_edge.variants import Variant

#: Where Keras's own `MobileNetV2(weights="imagenet")` looks.
_KERAS_WEIGHTS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"

#: Of the files that are there, by alpha.
_SHA256 = {
    0.35: "df1c3db1d0d9193719c4c70f707c56f7021f999f825bdc57454c275cf6def19f",
    0.50: "279052de2cfa801003aa6cc25cc4d007d35dd0b76f06935268c79788b7642d05",
}

#: The encoder is what MobileNetV2 calls so; the bridge is the first layer of NanoNet's own.
_FIRST_OWN_LAYER = "bridge"
_FIRST_LAYER = "Conv1"


def place_encoder(graph: Graph, path: Path | str, *, adapt_input: bool) -> Graph:
    """Copy ImageNet weights of MobileNetV2 into a NanoNet's encoder.

    The layers are matched by kind, order and shape, not by name, which differ between Keras's
    own files.

    Args:
        graph: an unrewritten NanoNet.
        path: `mobilenet_v2_weights_..._no_top.h5` as Keras distributes it, of the same alpha.
        adapt_input: ImageNet weights expect RGB in [-1, 1]. True rewrites the first
            convolution and its batch norm for BGR in [0, 1], which is the same function but for
            the outermost pixels; False leaves them, as the released code does.

    Raises:
        CheckpointError: damaged, or not a MobileNetV2 of this width.
    """
    path = Path(path)
    queues: dict[str, list[Layer]] = {}
    for layer in read_layers_isolated(path):
        queues.setdefault(layer.op, []).append(layer)
    nodes, inside = [], True
    for node in graph:
        inside = inside and not node.name.startswith(_FIRST_OWN_LAYER)
        nodes.append(node.but(weights=_take(queues, node, path)) if inside and node.weights else node)
    placed = Graph(tuple(nodes), graph.output)
    return _adapt(placed) if adapt_input else placed


def _take(queues: dict[str, list[Layer]], node: Node, path: Path) -> Arrays:
    found = queues[node.op].pop(0) if queues.get(node.op) else None
    expected = {name: array.shape for name, array in node.weights.items()}
    shapes = {name: array.shape for name, array in found.weights.items()} if found else None
    if found is None or shapes != expected:
        raise CheckpointError(
            f"{path}: expected a MobileNetV2 whose layer for '{node.name}' has {expected}, found {shapes}"
        )
    return dict(found.weights)


def _adapt(graph: Graph) -> Graph:
    """conv(2 bgr->rgb(x) - 1) = conv'(x) - sum(kernel): the sum goes into the batch norm's mean."""
    kernel = graph[_FIRST_LAYER].weights["kernel"]
    mean = graph[f"{_FIRST_LAYER}_bn"].weights["mean"]
    changed = {
        _FIRST_LAYER: {"kernel": np.ascontiguousarray(2 * kernel[:, :, ::-1])},
        f"{_FIRST_LAYER}_bn": {"mean": mean + kernel.sum(axis=(0, 1, 2))},
    }
    nodes = [
        node.but(weights={**node.weights, **changed[node.name]}) if node.name in changed else node
        for node in graph
    ]
    return Graph(tuple(nodes), graph.output)


def imagenet_encoder(variant: Variant) -> Path:
    """ImageNet weights for a variant's encoder, through Keras's own download and its cache.

    Raises:
        InputError: they are not cached and cannot be downloaded; says to give a file.
    """
    keras = require("keras")
    name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{variant.alpha:.2g}_224_no_top.h5"
    try:
        # It talks on stdout, which is for data.
        with contextlib.redirect_stdout(sys.stderr):
            return Path(
                keras.utils.get_file(
                    name, _KERAS_WEIGHTS + name, cache_subdir="models", file_hash=_SHA256[variant.alpha]
                )
            )
    except Exception as error:  # noqa: BLE001 - Keras raises a bare Exception for a failed download
        reason = " ".join(str(error).split())
        raise InputError(
            f"{_KERAS_WEIGHTS}{name}: cannot be downloaded ({reason}): "
            "give --encoder-weights FILE, or --random-encoder"
        ) from None
