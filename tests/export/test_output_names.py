"""The contract names the tensors by which an engine knows them."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from nanonet_edge.contract import DType
from nanonet_edge.export.writers import Boundary
from nanonet_edge.variants import Format, Head, Precision
from tests.export.networks import Shelf


@pytest.mark.parametrize("head", list(Head))
@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        (Precision.FP32, "float32"),
        (Precision.FP16, "float32"),
        (Precision.FP16, "uint8"),
        (Precision.STATIC_WI8_AI8, "float32"),
        (Precision.STATIC_WI8_AI8, "uint8"),
        (Precision.STATIC_WI8_AI8, "int8"),
    ],
)
def test_onnx_input_and_output_bear_the_contract_names(
    shelf: Shelf, precision: Precision, dtype: DType, head: Head
) -> None:
    artifact = shelf.artifact(Format.ONNX, precision, boundary=Boundary(head=head, input_dtype=dtype))
    session = ort.InferenceSession(str(artifact.path))
    assert [tensor.name for tensor in session.get_inputs()] == [artifact.record.input.name]
    assert [tensor.name for tensor in session.get_outputs()] == [artifact.record.output.name]
