"""Every artifact's record tells the truth about its file: what it takes, gives and means."""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nanonet_edge.bundle import Artifact
from nanonet_edge.contract import ChannelOrder, DType, Layout
from nanonet_edge.errors import UnsupportedError
from nanonet_edge.export.precision import SUPPORTED
from nanonet_edge.export.writers import Boundary, artifact_name
from nanonet_edge.manifest import sha256_file
from nanonet_edge.runtimes import open_runtime
from nanonet_edge.variants import Format, Head, Precision
from tests.export.networks import SIZE, Shelf, expected, judges, rewritten

Labels = npt.NDArray[np.uint8]
Real = npt.NDArray[np.float32]

SPECS = {Format.TFLITE: "litert", Format.ONNX: "onnxruntime", Format.OPENVINO: "openvino:f32"}
#: Share of pixels that may get another label than from the float graph: of these random networks
#: half of all pixels lie within a few hundredths of the threshold.
LABELS = {
    Precision.FP32: 0.0,
    Precision.FP16: 0.002,
    Precision.DYNAMIC_WI8: 0.01,
    Precision.STATIC_WI8_AI8: 0.08,
    Precision.STATIC_WI8_AI16: 0.01,
}
#: How far a probability may be off. Static ranges come from eight frames, so others are clipped.
PROBABILITIES = {
    Precision.FP32: 1e-5,
    Precision.FP16: 2e-3,
    Precision.DYNAMIC_WI8: 0.03,
    Precision.STATIC_WI8_AI8: 0.06,
    Precision.STATIC_WI8_AI16: 0.03,
}
#: Precision mixed has tests of its own, `test_mixed`.
PAIRS = [
    (file_format, precision)
    for file_format in Format
    for precision in SUPPORTED[file_format]
    if precision is not Precision.MIXED
]
INTEGER = Precision.STATIC_WI8_AI8


_answered: dict[tuple[Path, str | None], tuple[Labels, Real | None]] = {}


def answers(artifact: Artifact, spec: str | None = None) -> tuple[Labels, Real | None]:
    """Masks and, unless the head is a mask, probabilities of the judges' frames."""
    key = (artifact.path, spec)
    if key not in _answered:
        _answered[key] = _ask(artifact, spec)
    return _answered[key]


def _ask(artifact: Artifact, spec: str | None) -> tuple[Labels, Real | None]:
    with open_runtime(artifact, spec or SPECS[artifact.record.format]) as runtime:
        masks = np.stack([runtime.mask(image) for image in judges()])
        if artifact.record.output.kind is Head.MASK:
            return masks, None
        return masks, np.stack([runtime.probability(image) for image in judges()])


def masks(artifact: Artifact, spec: str | None = None) -> Labels:
    return answers(artifact, spec)[0]


def probabilities(artifact: Artifact) -> Real:
    real = answers(artifact)[1]
    assert real is not None
    return real


@cache
def truth(classes: int) -> tuple[Real, Labels]:
    """Probabilities and labels of the float graph, by the NumPy interpreter."""
    values = np.stack([expected(rewritten("c", classes).graph, image) for image in judges()])
    labels = values[..., 0] > 0.5 if classes == 1 else values.argmax(axis=-1)
    return values, labels.astype(np.uint8)


@pytest.mark.parametrize(
    ("file_format", "precision", "classes"),
    [
        *((*pair, 1) for pair in PAIRS),
        *((*pair, 3) for pair in PAIRS if pair[1] in (Precision.FP32, INTEGER, Precision.STATIC_WI8_AI16)),
    ],
)
def test_three_heads_say_the_same(
    shelf: Shelf, file_format: Format, precision: Precision, classes: int
) -> None:
    real, labels = truth(classes)
    assert len(np.unique(labels)) > 1
    found = {}
    for head in Head:
        artifact = shelf.artifact(file_format, precision, classes=classes, boundary=Boundary(head=head))
        assert artifact.record.output.kind is head
        found[head] = masks(artifact)
        if head is not Head.MASK:
            assert np.abs(probabilities(artifact) - real).max() <= PROBABILITIES[precision]
    for head, mask in found.items():
        assert mask.shape == labels.shape
        assert np.mean(mask != labels) <= LABELS[precision], head
    # A softmax or sigmoid in integers may tie what its logits tell apart.
    assert np.mean(found[Head.MASK] != found[Head.LOGIT]) <= (0.0 if classes == 1 else 0.002)
    assert np.mean(found[Head.PROBABILITY] != found[Head.LOGIT]) <= (0.01 if precision.is_static else 1e-4)


@pytest.mark.parametrize(
    ("file_format", "precision"), [pair for pair in PAIRS if pair[1] is not Precision.STATIC_WI8_AI16]
)
def test_raw_pixels(shelf: Shelf, file_format: Format, precision: Precision) -> None:
    artifact = shelf.artifact(file_format, precision, boundary=Boundary(input_dtype="uint8"))
    takes = artifact.record.input
    assert (takes.dtype, takes.zero_point) == ("uint8", 0)
    assert takes.scale == pytest.approx(1 / 255)
    assert ("fold-input-scale" in artifact.record.passes) == (not precision.is_static)
    real, _ = truth(1)
    assert np.abs(probabilities(artifact) - real).max() <= PROBABILITIES[precision]


@pytest.mark.parametrize("file_format", Format)
def test_integer_inputs_mean_the_same_frame(shelf: Shelf, file_format: Format) -> None:
    """float32, uint8 and int8 at the edge hold the same 256 levels: nothing downstream may differ."""
    spec = {Format.TFLITE: "litert:no-xnnpack"}.get(file_format)
    dtypes: tuple[DType, ...] = ("float32", "uint8", "int8")
    found = [
        masks(shelf.artifact(file_format, INTEGER, boundary=Boundary(Head.MASK, dtype)), spec)
        for dtype in dtypes
    ]
    if file_format is Format.OPENVINO:
        # With a float input, sums stay in float inside its fused kernels: see openvino_plan.
        assert np.mean(found[0] != found[1]) < LABELS[INTEGER]
    else:
        assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[1], found[2])


@pytest.mark.parametrize("file_format", Format)
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_integer_outputs_have_the_contracts_scale(shelf: Shelf, file_format: Format, dtype: DType) -> None:
    boundary = Boundary(input_dtype=dtype)
    gives = shelf.artifact(file_format, INTEGER, boundary=boundary).record.output
    assert gives.dtype == dtype
    assert gives.scale == pytest.approx(1 / 256)
    assert gives.zero_point == (0 if dtype == "uint8" else -128)
    assert gives.threshold == (128 if dtype == "uint8" else 0)
    plain = probabilities(shelf.artifact(file_format, INTEGER, boundary=Boundary(input_dtype="float32")))
    ours = probabilities(shelf.artifact(file_format, INTEGER, boundary=boundary))
    tolerance = PROBABILITIES[INTEGER] if file_format is Format.OPENVINO else gives.scale
    assert np.abs(ours - plain).max() <= tolerance * (1 + 1e-6)


@pytest.mark.parametrize("order", ["bgr", "rgb"])
@pytest.mark.parametrize(
    ("file_format", "precision"),
    list(product(Format, (Precision.FP32, INTEGER))),
)
def test_channel_order(shelf: Shelf, file_format: Format, precision: Precision, order: ChannelOrder) -> None:
    artifact = shelf.artifact(file_format, precision, boundary=Boundary(channel_order=order))
    assert artifact.record.input.channel_order == order
    assert ("swap-input-channels" in artifact.record.passes) == (order == "rgb")
    real, _ = truth(1)
    assert np.abs(probabilities(artifact) - real).max() <= PROBABILITIES[precision]


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("file_format", [Format.ONNX, Format.OPENVINO])
@pytest.mark.parametrize("precision", [Precision.FP32, INTEGER])
def test_layout(
    shelf: Shelf, file_format: Format, precision: Precision, dtype: DType, layout: Layout
) -> None:
    boundary = Boundary(input_dtype=dtype, layout=layout)
    takes = shelf.artifact(file_format, precision, boundary=boundary).record.input
    assert takes.layout == layout
    assert takes.shape == ((1, SIZE, SIZE, 3) if layout == "nhwc" else (1, 3, SIZE, SIZE))
    real, _ = truth(1)
    artifact = shelf.artifact(file_format, precision, boundary=boundary)
    assert np.abs(probabilities(artifact) - real).max() <= PROBABILITIES[precision]


def test_tflite_keeps_channels_last(shelf: Shelf) -> None:
    record = shelf.artifact(Format.TFLITE, Precision.FP32, boundary=Boundary(layout="nchw")).record
    assert record.input.layout == record.output.layout == "nhwc"


@pytest.mark.parametrize(
    ("precision", "dtype", "can"),
    [
        (Precision.FP32, "int8", "float32, uint8"),
        (Precision.FP16, "int16", "float32, uint8"),
        (Precision.DYNAMIC_WI8, "int8", "float32, uint8"),
        (Precision.STATIC_WI8_AI8, "int16", "int8, uint8, float32"),
        (Precision.STATIC_WI8_AI16, "uint8", "int16, float32"),
        (Precision.STATIC_WI8_AI16, "int8", "int16, float32"),
    ],
)
def test_an_input_that_a_precision_cannot_take_is_refused(
    shelf: Shelf, precision: Precision, dtype: DType, can: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"{precision} cannot take {dtype} input: it can take {can}"):
        shelf.artifact(Format.TFLITE, precision, boundary=Boundary(input_dtype=dtype))


@pytest.mark.parametrize(("file_format", "precision"), PAIRS)
def test_record(shelf: Shelf, file_format: Format, precision: Precision) -> None:
    artifact = shelf.artifact(file_format, precision)
    record = artifact.record
    assert record.name == f"nanonet.{precision}.{file_format}"
    assert (record.format, record.precision, record.graph) == (file_format, precision, "rewritten")
    assert len(record.files) == (2 if file_format is Format.OPENVINO else 1)
    for file in record.files:
        path = artifact.path.parent / file.path
        assert (path.stat().st_size, sha256_file(path)) == (file.bytes, file.sha256)
    integer = precision not in (Precision.FP32, Precision.FP16)
    assert (record.calibration is not None) == (record.quantizer is not None) == integer
    assert record.passes == rewritten().applied + ("scale-channels",) * integer
    default = {Precision.STATIC_WI8_AI8: "int8", Precision.STATIC_WI8_AI16: "int16"}
    wanted = default.get(precision, "float32") if file_format is Format.TFLITE else "float32"
    assert record.input.dtype == record.output.dtype == wanted


def test_straight_artifacts_say_so_in_their_names() -> None:
    name = artifact_name("nanonet-c", Precision.STATIC_WI8_AI8, Format.TFLITE, graph="straight")
    assert name == "nanonet-c.straight.static_wi8_ai8.tflite"


def test_integers_without_a_calibration_are_a_fault_of_the_caller(shelf: Shelf) -> None:
    with pytest.raises(ValueError, match="static_wi8_ai8 needs a calibration"):
        shelf.write(rewritten(), None, Format.TFLITE, Precision.STATIC_WI8_AI8)
