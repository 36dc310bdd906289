"""The paper's other networks in every format and precision, narrow and small, on every engine."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from nanonet_edge.comparators import build_comparator
from nanonet_edge.errors import UnsupportedError
from nanonet_edge.export.calibration import Calibration, calibrate
from nanonet_edge.export.precision import SUPPORTED, check_operations
from nanonet_edge.export.quantization import plan_activations
from nanonet_edge.export.rounding import MomentCollector
from nanonet_edge.graph import Graph, Node
from nanonet_edge.interpreter import evaluate
from nanonet_edge.network import random_fill
from nanonet_edge.passes import Rewritten, rewrite
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import COMPARATORS, Format, Precision
from tests.export.networks import (
    SIZE,
    Shelf,
    Tensor,
    calibration_frames,
    expected,
    frame,
    judges,
    tensor,
    with_weights,
)
from tests.export.tflite_file import TfliteFile

#: Largest and mean distance in probability from the float graph; logits span about ±4 here, so
#: that one step of 8 bits shows.
WORST = {
    Precision.FP32: (2e-5, 3e-6),
    Precision.FP16: (1e-2, 3e-3),
    Precision.DYNAMIC_WI8: (0.15, 0.02),
    Precision.STATIC_WI8_AI8: (0.4, 0.06),
    Precision.STATIC_WI8_AI16: (0.1, 0.01),
}
ENGINES = {
    Format.TFLITE: ("litert", "litert:no-xnnpack"),
    Format.ONNX: ("onnxruntime",),
    Format.OPENVINO: ("openvino:f32",),
}
WITHOUT_16_BITS = "unet"
CASES = [
    pytest.param(name, file_format, precision, id=f"{name}-{file_format}-{precision}")
    for name in COMPARATORS
    for file_format in Format
    for precision in SUPPORTED[file_format]
    # `test_mixed` has tests of mixed.
    if precision in WORST and (name, precision) != (WITHOUT_16_BITS, Precision.STATIC_WI8_AI16)
]


@cache
def rewritten(name: str) -> Rewritten:
    """An eighth as wide as published, with logits as spread as a trained network's."""
    graph = build_comparator(name, SIZE, 1, random_fill(5), divisor=8)
    x = tensor(frame(0))
    spread = evaluate(Graph(graph.nodes, "head"), x).std()
    graph = with_weights(graph, {"head": {"kernel": 1.5 / spread * graph["head"].weights["kernel"]}})
    middle = np.median(evaluate(Graph(graph.nodes, "head"), x)) - graph["head"].bias
    return rewrite(with_weights(graph, {"head": {"bias": -middle}}))


@cache
def calibrated(name: str) -> Calibration:
    return calibrate(rewritten(name).graph, calibration_frames(), "min-max")


@cache
def truth(name: str) -> Tensor:
    found = np.stack([expected(rewritten(name).graph, image) for image in judges()])
    assert found.std() > 0.1
    return found


@pytest.mark.parametrize(("name", "file_format", "precision"), CASES)
def test_every_engine_computes_the_network(
    shelf: Shelf, name: str, file_format: Format, precision: Precision
) -> None:
    calibration = None if precision.is_float else calibrated(name)
    artifact = shelf.write(rewritten(name), calibration, file_format, precision)
    for spec in ENGINES[file_format]:
        with open_runtime(artifact, spec, 1) as runtime:
            found = np.stack([runtime.probability(image) for image in judges()])
        difference = np.abs(found - truth(name))
        worst, mean = WORST[precision]
        assert difference.max() <= worst, spec
        assert difference.mean() <= mean, spec


@pytest.mark.parametrize("name", COMPARATORS)
def test_int8_is_integer_throughout(shelf: Shelf, name: str) -> None:
    artifact = shelf.write(rewritten(name), calibrated(name), Format.TFLITE, Precision.STATIC_WI8_AI8)
    file = TfliteFile(artifact.path.read_bytes())
    assert file.dtypes() == {"int8", "int32"}
    for operator in file.operators:
        if operator.name in ("CONCATENATION", "MAX_POOL_2D", "RESIZE_NEAREST_NEIGHBOR"):
            tensors = [file.tensors[index] for index in (*operator.inputs, *operator.outputs)]
            stored = {
                (float(t.scales[0]), int(t.zero_points[0]))
                for t in tensors
                if t.dtype == "int8" and t.scales is not None and t.zero_points is not None
            }
            assert len(stored) == 1, f"{operator.name} copies values: all must be stored alike"


def test_what_only_goes_into_a_join_is_stored_as_the_join_is() -> None:
    kernel = np.ones((1, 1, 3, 3), np.float32)
    conv = {"strides": 1, "padding": "same"}
    nodes = (
        Node("input", "input", attributes={"size": 8, "channels": 3}),
        Node("only", "conv2d", ("input",), {"kernel": kernel}, conv),
        Node("both", "conv2d", ("input",), {"kernel": kernel}, conv),
        Node("joined", "concat", ("only", "both")),
        Node("other", "global_mean", ("both",), attributes={"keepdims": True}),
        Node("output", "multiply", ("joined", "joined")),
        Node("end", "add", ("output", "other")),
    )
    ranges = {node.name: (0.0, 1.0) for node in nodes} | {"joined": (0.0, 4.0), "only": (0.0, 4.0)}
    plan = plan_activations(Graph(nodes, "end"), ranges)
    assert plan["only"] == plan["joined"]
    assert plan["both"].scale == pytest.approx(plan["joined"].scale / 4)


def test_16_bit_tflite_is_refused_where_an_operation_has_no_kernel() -> None:
    ops = rewritten("unet").graph.ops()
    pairs = [(Format.TFLITE, precision) for precision in Precision]
    with pytest.raises(UnsupportedError) as caught:
        check_operations(ops, pairs, "U-Net")
    assert str(caught.value) == (
        "U-Net cannot be exported as static_wi8_ai16 tflite: DEPTH_TO_SPACE has no kernel for it; "
        "it can be fp32, fp16, dynamic_wi8, static_wi8_ai8, mixed"
    )
    check_operations(ops, pairs[:4], "U-Net")
    check_operations(rewritten("resunet++").graph.ops(), pairs, "ResUNet++")


def test_moments_of_very_large_kernels_are_not_gathered() -> None:
    def conv(channels: int) -> Graph:
        kernel = np.ones((3, 3, channels, 4), np.float32)
        image = Node("input", "input", attributes={"size": 8, "channels": channels})
        return Graph((image, Node("conv", "conv2d", ("input",), {"kernel": kernel})), "conv")

    for channels, gathered in ((113, True), (114, False)):
        collector = MomentCollector(conv(channels))
        collector.add({"input": np.ones((1, channels, 8, 8), np.float32)})
        assert ("conv" in collector.moments()) is gathered
