"""Reading the compiler's log: what it prints, and what it never should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.edgetpu import parse_log
from nanonet_edge.edgetpu.rules import DATA_TYPE, LIMITATION, MAPPED, NOT_SUPPORTED, SUBGRAPH, VERSION
from nanonet_edge.errors import CompilerError
from tests.nanonet_edge.edgetpu import fake_compiler as fake

STATUSES = (MAPPED, SUBGRAPH, NOT_SUPPORTED, VERSION, DATA_TYPE, LIMITATION)
#: As google-coral/edgetpu's issue #420 shows it: the operation log of compiler 15.
OLD = """Edge TPU Compiler version 15.0.340273435
Input: test-20210714-181902.tflite
Output: test-20210714-181902_edgetpu.tflite

Operator                       Count      Status

RESIZE_NEAREST_NEIGHBOR        4          Operation version not supported
"""
ROWS = st.lists(
    st.tuples(
        st.sampled_from(("CONV_2D", "ADD", "edgetpu-custom-op")),
        st.integers(1, 10**6),
        st.sampled_from(STATUSES),
    ),
    min_size=1,
    max_size=20,
)


@given(ROWS)
def test_every_line_of_the_table_is_read(rows: list[fake.Row]) -> None:
    log = parse_log(fake.log(*rows))
    assert [(count.name, count.count, count.status) for count in log.counts] == rows
    assert log.operations == sum(count for _, count, _ in rows)


def test_figures_are_bytes() -> None:
    log = parse_log(fake.log(("CONV_2D", 3, MAPPED)))
    assert (log.version, log.subgraphs) == ("16.0.384591198", 1)
    assert log.parameters_cached == round(6.84 * 2**20)
    assert log.cache_left == 7.75 * 2**10
    assert log.parameters_streamed == 0


def test_a_log_of_the_older_compiler_has_the_table_alone() -> None:
    log = parse_log(OLD)
    assert log.version == "15.0.340273435"
    assert [(count.name, count.count) for count in log.counts] == [("RESIZE_NEAREST_NEIGHBOR", 4)]
    assert (log.operations, log.parameters_cached, log.subgraphs) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names its version, found nothing"),
        ("hello\x1b[31m\n", r"names its version, found hello\?\[31m"),
        (fake.log(("ADD", 1, MAPPED)).partition("Operator  ")[0], "a table of operators in its log"),
        (fake.log(("ADD", 0, MAPPED)), "a table of operators"),
        ("Edge TPU Compiler version 16\nOperator Count Status\nADD one mapped\n", "a table of operators"),
        ("Edge TPU Compiler version 16\nADD  1  Mapped to Edge TPU\n", "a table of operators"),
    ],
)
def test_what_is_no_log_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(CompilerError, match=words) as refusal:
        parse_log(text)
    assert str(refusal.value).isprintable()


@given(st.text(max_size=400))
def test_anything_else_is_refused_too(text: str) -> None:
    for beginning in ("", "Edge TPU Compiler version 16.0\n", "Operator  Count  Status\n"):
        with pytest.raises(CompilerError):
            parse_log(beginning + text.replace("Operator", "").replace("Edge TPU", ""))
