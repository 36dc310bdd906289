"""The tiny network of `tests.tiny_bundle` as TFLite, written with the schema's object API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nanonet_edge.bundle import Artifact
from nanonet_edge.contract import InputContract, OutputContract
from nanonet_edge.manifest import ArtifactRecord, record_file
from nanonet_edge.variants import Format, Precision
from tests.tiny_bundle import INPUT_NAME, OUTPUT_NAME, tiny_weights

#: Of the int8 graph: pixels, logits in about [-5, 5], probabilities.
PIXEL = (1.0 / 255.0, -128)
LOGIT = (10.5 / 255.0, 0)
PROBABILITY = (1.0 / 256.0, -128)

Affine = tuple[float, int]


class _Builder:
    """Collects tensors and buffers of one subgraph."""

    def __init__(self) -> None:
        import ai_edge_litert.schema_py_generated as schema

        self.schema: Any = schema
        self.buffers: list[Any] = [schema.BufferT()]
        self.tensors: list[Any] = []

    def tensor(
        self, name: str, shape: tuple[int, ...], kind: int, data: Any = None, affine: Affine | None = None
    ) -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), kind, 0
        if data is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        if affine is not None:
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [affine[0]], [affine[1]]
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(
        self, code: int, inputs: list[int], outputs: list[int], kind: int = 0, options: Any = None
    ) -> Any:
        operator = self.schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
        operator.builtinOptionsType, operator.builtinOptions = kind, options
        return operator

    def finish(self, operators: list[Any]) -> bytes:
        import flatbuffers

        schema = self.schema
        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.buffers, model.subgraphs = 3, self.buffers, [graph]
        for builtin, version in ((schema.BuiltinOperator.CONV_2D, 3), (schema.BuiltinOperator.LOGISTIC, 2)):
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = builtin
            code.version = version
            model.operatorCodes = [*(model.operatorCodes or []), code]
        graph.tensors, graph.operators = self.tensors, operators
        graph.inputs, graph.outputs = [0], [len(self.tensors) - 1]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _bytes(size: int, seed: int, int8: bool, logit: Affine) -> bytes:
    build = _Builder()
    schema = build.schema
    kernel, bias = tiny_weights(seed)
    kernel = kernel.transpose(0, 2, 3, 1)
    image, single = (1, size, size, 3), (1, size, size, 1)
    if int8:
        scale = float(np.abs(kernel).max()) / 127.0
        kind = schema.TensorType.INT8
        stored = np.rint(kernel / scale).astype(np.int8)
        offset = np.array([np.rint(bias / (scale * PIXEL[0]))], np.int32)
        build.tensor(INPUT_NAME, image, kind, affine=PIXEL)
        build.tensor("kernel", kernel.shape, kind, stored, (scale, 0))
        build.tensor("bias", (1,), schema.TensorType.INT32, offset, (scale * PIXEL[0], 0))
        build.tensor("logit", single, kind, affine=logit)
        build.tensor(OUTPUT_NAME, single, kind, affine=PROBABILITY)
    else:
        kind = schema.TensorType.FLOAT32
        build.tensor(INPUT_NAME, image, kind)
        build.tensor("kernel", kernel.shape, kind, kernel)
        build.tensor("bias", (1,), kind, np.array([bias], np.float32))
        build.tensor("logit", single, kind)
        build.tensor(OUTPUT_NAME, single, kind)
    options = schema.Conv2DOptionsT()
    options.padding = schema.Padding.SAME
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    return build.finish(
        [
            build.operator(0, [0, 1, 2], [3], schema.BuiltinOptions.Conv2DOptions, options),
            build.operator(1, [3], [4]),
        ]
    )


def make_tiny_tflite(
    folder: Path, precision: Precision = Precision.FP32, size: int = 64, seed: int = 0, logit: Affine = LOGIT
) -> Artifact:
    """Write the network, fp32 or full-integer int8 with int8 input and output."""
    int8 = precision is Precision.STATIC_WI8_AI8
    path = folder / f"tiny.{precision}.tflite"
    path.write_bytes(_bytes(size, seed, int8, logit))
    takes = InputContract(name=INPUT_NAME, shape=(1, size, size, 3))
    gives = OutputContract(name=OUTPUT_NAME, shape=(1, size, size, 1))
    if int8:
        takes = takes.model_copy(update={"dtype": "int8", "scale": PIXEL[0], "zero_point": PIXEL[1]})
        gives = gives.model_copy(
            update={"dtype": "int8", "scale": PROBABILITY[0], "zero_point": PROBABILITY[1], "threshold": 0.0}
        )
    record = ArtifactRecord(
        name=path.name,
        format=Format.TFLITE,
        precision=precision,
        graph="rewritten",
        files=(record_file(path, folder),),
        input=takes,
        output=gives,
    )
    return Artifact(path, record, "0" * 64)
