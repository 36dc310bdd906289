"""Reading `.tflite` files: what they hold, and what no file may do to us."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nanonet_edge import tflite_file
from nanonet_edge.edgetpu import coral_report
from nanonet_edge.errors import InputError
from nanonet_edge.tflite_file import ABSENT, TfliteFile, read_tflite
from tests.nanonet_edge.tflite_models import Drawing

SHAPE = (1, 8, 8, 4)


def drawn() -> bytes:
    """A graph with a branch, parameters, options and a shared constant."""
    drawing = Drawing()
    image = drawing.input(*SHAPE)
    left = drawing.conv(image, SHAPE, 4)
    mean = drawing.op("MEAN", [left, drawing.integers(1, 2)], (1, 1, 1, 4), "ReducerOptions", keepDims=True)
    scaled = drawing.op("MUL", [left, mean], SHAPE, "MulOptions")
    big = drawing.op(
        "RESIZE_BILINEAR", [scaled, drawing.integers(16, 16)], (1, 16, 16, 4), "ResizeBilinearOptions", 3
    )
    drawing.op("SPLIT", [drawing.integers(3), big], (1, 16, 16, 4), "SplitOptions", numSplits=1)
    return drawing.build()


@pytest.fixture(scope="module")
def sound() -> bytes:
    return drawn()


def read(data: bytes, folder: Path) -> TfliteFile:
    path = folder / "net.tflite"
    path.write_bytes(data)
    return read_tflite(path)


def test_it_reads_what_was_written(sound: bytes, tmp_path: Path) -> None:
    file = read(sound, tmp_path)
    names = ["CONV_2D", "MEAN", "MUL", "RESIZE_BILINEAR", "SPLIT"]
    assert [operator.name for operator in file.operators] == names
    assert [operator.version for operator in file.operators] == [3, 1, 1, 3, 1]
    assert file.description == "drawn by a test"
    assert file.subgraphs == 1
    conv, mean = file.operators[0], file.operators[1]
    source, kernel, bias = file.input_tensors(conv)
    assert (source.shape, source.dtype, source.is_constant) == (SHAPE, "int8", False)
    assert (kernel.shape, kernel.data_bytes, kernel.is_constant) == ((4, 3, 3, 4), 144, True)
    assert (bias.dtype, bias.values) == ("int32", (1, 1, 1, 1))
    assert conv.option("StrideW") == 1
    assert conv.option("NoSuchOption", 7) == 7
    axes = file.input(mean, 1)
    assert axes is not None
    assert axes.values == (1, 2)
    assert file.input(mean, 2) is None
    assert source.zero_points == (3,)
    assert source.nbytes == 256
    assert bias.nbytes == 16


def test_an_input_that_is_left_out_is_absent(tmp_path: Path) -> None:
    drawing = Drawing()
    kernel = drawing.constant(np.ones((4, 4), np.int8))
    drawing.op("FULLY_CONNECTED", [drawing.input(1, 4), kernel, ABSENT], (1, 4), version=4)
    file = read(drawing.build(), tmp_path)
    assert file.operators[0].inputs[2] == ABSENT
    assert file.input(file.operators[0], 2) is None
    assert len(file.input_tensors(file.operators[0])) == 2


def test_zero_means_the_zero_point(tmp_path: Path) -> None:
    drawing = Drawing()
    zeros = drawing.constant(np.full((1, 2), 3, np.int8), scales=[1.0], zero_points=[3])
    plain = drawing.constant(np.zeros((1, 2), np.int8), scales=[1.0], zero_points=[3])
    floats = drawing.constant(np.zeros((1, 2), np.float32))
    image = drawing.input(1, 2)
    for constant in (zeros, plain, floats):
        drawing.op("CONCATENATION", [image, constant], (1, 4), "ConcatenationOptions", axis=1)
    file = read(drawing.build(), tmp_path)
    seconds = [file.input_tensors(operator)[1] for operator in file.operators]
    assert [file.means_zero(tensor) for tensor in seconds] == [True, False, True]
    assert not file.means_zero(file.input_tensors(file.operators[0])[0])


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 4 + b"TFL2" + b"\0" * 64, b"\x89PNG\r\n\x1a\n" * 9])
def test_other_files_are_told_apart(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.tflite: not a \.tflite file: expected the identifier TFL3"):
        read(data, tmp_path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        read_tflite(tmp_path / "none.tflite")
    with pytest.raises(InputError, match="found a folder"):
        read_tflite(tmp_path)


def test_a_huge_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite_file, "MAX_FILE_BYTES", 100)
    with pytest.raises(InputError, match="1000 bytes; at most 100 are read"):
        read(b"\0" * 1000, tmp_path)


def looked_at(data: bytes, folder: Path) -> bool:
    """Whether a file is read; if not, it must be refused in one line."""
    path = folder / "net.tflite"
    path.write_bytes(data)
    try:
        coral_report(path)
    except InputError as error:
        message = str(error)
    else:
        return True
    assert str(path) in message
    assert "\n" not in message
    return False


def test_every_truncation_is_refused_or_harmless(sound: bytes, tmp_path: Path) -> None:
    outcomes = [looked_at(sound[:length], tmp_path) for length in range(len(sound))]
    assert not any(outcomes[: len(sound) // 2])


#: What offsets and lengths are replaced with: nowhere, itself, the end, beyond it, negative.
WORDS = [0, 1, 4, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF]


def test_every_word_may_be_wrong(sound: bytes, tmp_path: Path) -> None:
    outcomes = [
        looked_at(sound[:offset] + struct.pack("<I", word) + sound[offset + 4 :], tmp_path)
        for offset in range(0, len(sound) - 3, 4)
        for word in (0, 0xFFFFFFFC)
    ]
    assert any(outcomes)
    assert not all(outcomes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.sampled_from(WORDS)), min_size=1, max_size=6))
@example([(0, 8)])
def test_wrong_words_anywhere(
    sound: bytes, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(sound)
    for offset, word in changes:
        struct.pack_into("<I", damaged, offset % (len(sound) - 4), word)
    looked_at(bytes(damaged), tmp_path_factory.getbasetemp())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=12))
def test_flipped_bytes_anywhere(
    sound: bytes, tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(sound)
    for offset, byte in changes:
        damaged[8 + offset % (len(sound) - 8)] = byte
    looked_at(bytes(damaged), tmp_path_factory.getbasetemp())


@given(st.binary(max_size=400))
def test_garbage_behind_the_identifier(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    looked_at(b"\x10\0\0\0TFL3" + tail, tmp_path_factory.getbasetemp())


def crossed(entries: int) -> bytes:
    """As many operators as each has inputs, all of them the same table: quadratic to write out."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    builder = flatbuffers.Builder(1 << 16)

    def vector(start: Any, values: list[int], prepend: Any) -> Any:
        start(builder, len(values))
        for value in values:
            prepend(value)
        return builder.EndVector()

    offsets, integers = builder.PrependUOffsetTRelative, builder.PrependInt32
    inputs = vector(schema.OperatorStartInputsVector, [0] * entries, integers)
    schema.OperatorStart(builder)
    schema.OperatorAddInputs(builder, inputs)
    operator = schema.OperatorEnd(builder)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    schema.OperatorCodeStart(builder)
    code = schema.OperatorCodeEnd(builder)
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    operators = vector(schema.SubGraphStartOperatorsVector, [operator] * entries, offsets)
    tensors = vector(schema.SubGraphStartTensorsVector, [tensor], offsets)
    schema.SubGraphStart(builder)
    schema.SubGraphAddOperators(builder, operators)
    schema.SubGraphAddTensors(builder, tensors)
    graph = schema.SubGraphEnd(builder)
    codes = vector(schema.ModelStartOperatorCodesVector, [code], offsets)
    graphs = vector(schema.ModelStartSubgraphsVector, [graph], offsets)
    buffers = vector(schema.ModelStartBuffersVector, [buffer], offsets)
    schema.ModelStart(builder)
    schema.ModelAddOperatorCodes(builder, codes)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def test_vectors_that_overlap_do_not_multiply_the_work(tmp_path: Path) -> None:
    assert len(read(crossed(2), tmp_path).operators) == 2
    data = crossed(20_000)  # 160 KB that would come to 400 million inputs
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"damaged \.tflite file: 20000 indices do not fit"):
            read(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 50 * len(data)
    finally:
        tracemalloc.stop()


def test_names_cannot_drive_a_terminal(tmp_path: Path) -> None:
    drawing = Drawing()
    image = drawing.tensor((1, 4), name="\x1b[2Jgone")
    drawing.inputs["x"] = image
    drawing.op("RELU", [image], (1, 4))
    assert read(drawing.build(), tmp_path).tensors[image].name == "\ufffd[2Jgone"


def test_cycles_are_refused(tmp_path: Path) -> None:
    drawing = Drawing()
    image = drawing.input(1, 4)
    later = drawing.tensor((1, 4))
    drawing.op("ADD", [image, later], (1, 4), "AddOptions")
    drawing.writer.operator("RELU", 1, [drawing.last], later)
    with pytest.raises(InputError, match="operator 0 reads tensor 1, which operator 1 has yet to write"):
        read(drawing.build(), tmp_path)


def test_tensors_written_twice_are_refused(tmp_path: Path) -> None:
    drawing = Drawing()
    image = drawing.input(1, 4)
    once = drawing.op("RELU", [image], (1, 4))
    drawing.writer.operator("RELU6", 1, [image], once)
    with pytest.raises(InputError, match="operators 0 and 1 both write tensor 1"):
        read(drawing.build(), tmp_path)


def test_indices_beyond_the_tensors_are_refused(tmp_path: Path) -> None:
    drawing = Drawing()
    drawing.op("ADD", [drawing.input(1, 4), 99], (1, 4), "AddOptions")
    with pytest.raises(InputError, match="an input of operator 0 is tensor 99 of 2"):
        read(drawing.build(), tmp_path)
