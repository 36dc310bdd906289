"""The bytes of a file, without any network in it."""

from __future__ import annotations

import numpy as np
import pytest

from nanonet_edge.export.tflite_flatbuffer import FILE_IDENTIFIER, FlatbufferWriter
from tests.export.tflite_file import TfliteFile, run


def adder(constants: int = 1) -> bytes:
    """x + 1 + 2 + ... with constants of odd sizes beside them, to push buffers out of alignment."""
    writer = FlatbufferWriter("adds")
    x = entry = writer.tensor("x", (1, 3), "float32")
    for index in range(constants):
        writer.constant(f"ballast{index}", np.arange(1 + 2 * index, dtype=np.int8))
        value = writer.constant(f"value{index}", np.array([index + 1.0], np.float32))
        y = writer.tensor(f"y{index}", (1, 3), "float32")
        writer.operator("ADD", 1, [x, value], y, "AddOptions")
        x = y
    return writer.finish({"x": entry}, {"y": x})


def test_identifier_description_and_signature() -> None:
    data = adder()
    file = TfliteFile(data)
    assert data[4:8] == FILE_IDENTIFIER == file.identifier
    assert file.description == "adds"
    assert file.raw.Version() == 3
    assert list(file.signatures) == ["serving_default"]
    inputs, outputs = file.signatures["serving_default"]
    assert inputs == {"x": file.inputs[0]}
    assert outputs == {"y": file.outputs[0]}


@pytest.mark.parametrize("constants", [1, 2, 5, 9])
def test_every_buffer_is_aligned_to_16_bytes(constants: int) -> None:
    positions = TfliteFile(adder(constants)).buffer_positions()
    assert len(positions) == 2 * constants
    assert {offset % 16 for offset, _ in positions} == {0}


def test_the_first_buffer_is_the_empty_one() -> None:
    assert TfliteFile(adder()).raw.Buffers(0).DataLength() == 0


def test_the_engine_computes_what_was_written() -> None:
    assert np.array_equal(run(adder(3), np.zeros((1, 3), np.float32)), np.full((1, 3), 6, np.float32))


def test_constants_are_stored_once() -> None:
    writer = FlatbufferWriter("")
    first = writer.constant("axes", np.array([1, 2], np.int32))
    assert writer.constant("axes", np.array([1, 2], np.int32)) == first
    assert writer.constant("axes", np.array([1, 3], np.int32)) != first
    assert writer.constant("axes", np.array([1, 2], np.int64)) != first
    assert writer.constant("others", np.array([1, 2], np.int32)) != first


def test_one_code_per_operator_and_version() -> None:
    file = TfliteFile(adder(4))
    assert file.raw.OperatorCodesLength() == 1
    assert [operator.name for operator in file.operators] == ["ADD"] * 4


def test_quantization_is_stored_as_given() -> None:
    writer = FlatbufferWriter("")
    scales = [0.5, 0.25]
    writer.tensor("w", (2, 1), "int8", scales=scales, axis=0, data=np.array([[1], [2]], np.int8))
    entry = writer.tensor("x", (1,), "uint8", scales=0.1, zero_points=7)
    file = TfliteFile(writer.finish({"x": entry}, {"x": entry}))
    weights, x = file.tensors
    assert weights.scales is not None
    assert weights.data is not None
    assert weights.scales.tolist() == scales
    assert weights.data.tolist() == [[1], [2]]
    assert x.zero_points is not None
    assert x.zero_points.tolist() == [7]


def test_a_misspelt_option_is_refused() -> None:
    writer = FlatbufferWriter("")
    x = writer.tensor("x", (1,), "float32")
    with pytest.raises(AttributeError, match="AddOptions has no field 'fused'"):
        writer.operator("ADD", 1, [x, x], x, "AddOptions", fused=1)
