"""A graph of the intermediate form as a Keras 3 model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nanonet_edge.extras import require
from nanonet_edge.graph import Graph, GraphError, Node

if TYPE_CHECKING:
    import keras


def build_keras(graph: Graph) -> keras.Model:
    """Build a Keras model that computes `graph`, with its weights set.

    The unrewritten network becomes the very layers of the released code, so the model can be
    trained, saved and converted as that one can.

    Raises:
        MissingExtraError: Keras is not installed.
        GraphError: Keras has no layer for an operation of a rewritten graph (mask, edge_pad,
            depth_to_space).
    """
    keras = require("keras")
    size, channels = graph.size, int(graph.input.attributes["channels"])
    tensors: dict[str, Any] = {graph.input.name: keras.Input((size, size, channels), name=graph.input.name)}
    layers: list[tuple[Node, Any]] = []
    for node in graph.nodes[1:]:
        layer = _layer(keras.layers, node, graph)
        # A broadcast's second input only says how large; Keras wants to know that beforehand.
        inputs = [tensors[name] for name in node.inputs[: 1 if node.op == "broadcast" else None]]
        x = layer(inputs[0] if len(inputs) == 1 else inputs)
        if node.activation != "none":
            x = keras.layers.Activation(node.activation, name=f"{node.name}_{node.activation}")(x)
        tensors[node.name] = x
        layers.append((node, layer))
    model = keras.Model(tensors[graph.input.name], tensors[graph.output], name="nanonet")
    for node, layer in layers:
        if node.weights:
            layer.set_weights(list(node.weights.values()))
    return model


def _layer(layers: Any, node: Node, graph: Graph) -> Any:
    if node.weights:
        return _weighted_layer(layers, node)
    return _plain_layer(layers, node, graph)


def _weighted_layer(layers: Any, node: Node) -> Any:
    name, attributes = node.name, node.attributes
    if node.op == "conv2d":
        kernel = node.weights["kernel"]
        return layers.Conv2D(
            kernel.shape[3], kernel.shape[:2], node.strides, attributes["padding"],
            dilation_rate=node.dilation, use_bias="bias" in node.weights, name=name,
        )  # fmt: skip
    if node.op == "conv2d_transpose":
        return layers.Conv2DTranspose(
            node.weights["kernel"].shape[2], 2, 2, use_bias="bias" in node.weights, name=name
        )
    if node.op == "depthwise_conv2d":
        kernel = node.weights["kernel"]
        return layers.DepthwiseConv2D(
            kernel.shape[:2], node.strides, attributes["padding"], kernel.shape[3],
            use_bias="bias" in node.weights, name=name,
        )  # fmt: skip
    if node.op == "dense":
        return layers.Dense(node.weights["kernel"].shape[1], use_bias=False, name=name)
    return layers.BatchNormalization(
        epsilon=attributes["epsilon"], momentum=attributes["momentum"], name=name
    )


def _plain_layer(layers: Any, node: Node, graph: Graph) -> Any:
    name, attributes = node.name, node.attributes
    if node.op == "reshape":
        return layers.Reshape((1, 1, graph.shapes()[name][-1]), name=name)
    if node.op == "global_mean":
        return layers.GlobalAveragePooling2D(keepdims=bool(attributes["keepdims"]), name=name)
    if node.op == "broadcast":
        return layers.UpSampling2D(graph.shapes()[name][:2], interpolation="bilinear", name=name)
    plain = {
        "relu": lambda: layers.ReLU(name=name),
        "relu6": lambda: layers.ReLU(6.0, name=name),
        "sigmoid": lambda: layers.Activation("sigmoid", name=name),
        "softmax": lambda: layers.Softmax(name=name),
        "add": lambda: layers.Add(name=name),
        "multiply": lambda: layers.Multiply(name=name),
        "concat": lambda: layers.Concatenate(name=name),
        "upsample_bilinear": lambda: layers.UpSampling2D(2, interpolation="bilinear", name=name),
        "upsample_nearest": lambda: layers.UpSampling2D(2, name=name),
        "max_pool": lambda: layers.MaxPooling2D(2, name=name),
        "zero_pad": lambda: layers.ZeroPadding2D(((0, 1), (0, 1)), name=name),
    }
    if node.op not in plain:
        raise GraphError(f"node '{node.name}': Keras has no layer for {node.op}")
    return plain[node.op]()
