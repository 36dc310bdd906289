"""Pictures on disk and in memory, a network that trains in a second, and its arithmetic in NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from nanonet_edge.builder import GraphBuilder
from nanonet_edge.graph import Graph
from nanonet_edge.interpreter import evaluate
from nanonet_edge.network import initial_fill, random_fill
from nanonet_edge.phantom import generate
from nanonet_edge.training import Recipe, Stage, TrainingSet
from tests.nanonet_edge.graphs import Tensor

#: Two stages at different sizes, and everything on that a run has to remember.
RECIPE = Recipe(
    "test",
    (Stage(32, 2, 2e-2, 1e-2, validate_every=1), Stage(64, 2, 1e-2, 1e-3, validate_every=1)),
    optimizer="adamw",
    augmentation="strong",
    batch=4,
    cross_entropy=0.5,
    weight_decay=1e-3,
    momentum=0.9,
    reestimate=2,
    average=0.9,
    warm_up=5,
)

#: The same without anything random or moving.
PLAIN = replace(
    RECIPE,
    stages=(Stage(32, 1, 1e-3, 1e-3),),
    augmentation="none",
    cross_entropy=0.0,
    reestimate=0,
    average=0.0,
    warm_up=0,
)


def write_images(folder: Path, count: int, size: int = 64, seed: int = 0, first: int = 0) -> Path:
    """`images/` and `masks/` with generated frames; returns the folder."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, (frame, mask) in enumerate(generate(count, size, seed), start=first):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), frame)
        cv2.imwrite(str(folder / "masks" / f"{index}.png"), mask * 255)
    return folder


def pictures(count: int, size: int = 64, seed: int = 0) -> TrainingSet:
    """Generated frames in memory."""
    frames, masks = zip(*generate(count, size, seed), strict=True)
    names = tuple(f"{index}.png" for index in range(count))
    return TrainingSet(names, np.stack(frames), np.stack(masks), f"phantom {count} {size} {seed}")


def small_network(size: int = 64, seed: int = 0, *, trained: bool = False) -> Graph:
    """An encoder of one layer and a decoder of one, joined as NanoNet's are.

    With `trained`, kernels and batch norms are random, as a trained network's; otherwise as
    training starts.
    """
    builder = GraphBuilder(random_fill(seed) if trained else initial_fill(seed))
    image = builder.add("image", "input", size=size, channels=3)
    deep = builder.conv("encoder", image, 8, 3, 0.999, strides=2, activation="relu")
    skip = builder.conv("skip", image, 4, 1, 0.99, activation="relu")
    up = builder.add("up", "upsample_bilinear", deep)
    joined = builder.add("joined", "concat", up, skip)
    x = builder.conv("decoder", joined, 6, 1, 0.99, activation="relu")
    x = builder.conv("head", x, 1, 1, None)
    return builder.graph(builder.add("probability", "sigmoid", x))


def with_batch_moments(graph: Graph, x: Tensor) -> Graph:
    """The graph with the statistics that a batch gives each batch norm in training: one after the other."""
    for name in [node.name for node in graph if node.op == "batch_norm"]:
        node = graph[name]
        before = evaluate(Graph(graph.nodes, node.inputs[0]), x).astype(np.float64)
        moments = {"mean": before.mean((0, 1, 2)), "variance": before.var((0, 1, 2))}
        weights = {**node.weights, **{key: value.astype(np.float32) for key, value in moments.items()}}
        graph = Graph(
            tuple(one.but(weights=weights) if one.name == name else one for one in graph), graph.output
        )
    return graph
