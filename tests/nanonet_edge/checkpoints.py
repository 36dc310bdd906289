"""Checkpoint files of every layout, written for the tests."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from nanonet_edge.graph import Graph

#: Weight names of Keras 2, by operation.
_NAMES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "batch_norm": ("gamma", "beta", "moving_mean", "moving_variance"),
    "dense": ("kernel",),
}


def write_keras2(
    path: Path, graph: Graph, *, first: int = 17, full: bool = True, chunked: bool = False
) -> None:
    """Write what Keras 2 under TensorFlow 2.x writes for a model built late in a long session.

    Args:
        path: the .h5 file.
        graph: an unrewritten network.
        first: suffix of the first layer of each kind, as in ``conv2d_17``.
        full: a full model (``model_weights``, optimizer and configuration) or weights alone.
        chunked: split the list of layers over two attributes, as Keras does beyond 64 KiB.
    """
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if full else file
        names: list[bytes] = []
        for index, node in enumerate(graph):
            name = f"{node.op}_{first + index}"
            names.append(name.encode())
            group = root.create_group(name)
            stored = []
            for weight, array in zip(_NAMES.get(node.op, ()), node.weights.values(), strict=False):
                group.create_dataset(f"{name}/{weight}:0", data=array)
                stored.append(f"{name}/{weight}:0".encode())
            group.attrs["weight_names"] = np.array(stored) if stored else []
        half = len(names) // 2
        parts = (
            {"layer_names0": names[:half], "layer_names1": names[half:]}
            if chunked
            else {"layer_names": names}
        )
        for attribute, values in parts.items():
            root.attrs[attribute] = np.array(values)
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.15.0"
        if full:
            file.attrs["model_config"] = b'{"class_name": "Functional", "config": {"layers": "not read"}}'
            optimizer = file.create_group("optimizer_weights")
            optimizer.attrs["weight_names"] = np.array([b"Adam/m/conv2d_17/kernel:0"])
            optimizer.create_dataset("Adam/m/conv2d_17/kernel:0", data=np.full((3, 3), np.nan, np.float32))


def same_weights(first: Graph, second: Graph) -> bool:
    """Whether two graphs have the very same nodes and arrays."""
    return [node.name for node in first] == [node.name for node in second] and all(
        a.weights.keys() == b.weights.keys()
        and all(np.array_equal(a.weights[n], b.weights[n]) for n in a.weights)
        for a, b in zip(first, second, strict=True)
    )
