"""Classes of instruction words, against Capstone 5.0.7.

`a64_words.json` holds words that were drawn at random, by the class that Capstone's mnemonic and
operands put them into, with what Capstone made of them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.emulation.instructions import CLASSES, MEANING, classify, tally

WORDS: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("a64_words.json").read_text())
KNOWN = [(int(word, 16), text, name) for name, words in WORDS.items() for word, text in words.items()]

#: From the encoding diagrams of the Arm Architecture Reference Manual, put together by hand.
BY_HAND = {
    0x4E22CC20: "fp32_fma",  # FMLA  V0.4S, V1.4S, V2.4S
    0x4E62CC20: "other_simd",  # FMLA  V0.2D, V1.2D, V2.2D
    0x4F821020: "fp32_fma",  # FMLA  V0.4S, V1.4S, V2.S[0]
    0x4E420C20: "fp16_fma",  # FMLA  V0.8H, V1.8H, V2.8H
    0x1F020C20: "other_simd",  # FMADD S0, S1, S2, S3
    0x4E829420: "int8_dot",  # SDOT  V0.4S, V1.16B, V2.16B
    0x6E829420: "int8_dot",  # UDOT  V0.4S, V1.16B, V2.16B
    0x4F82E020: "int8_dot",  # SDOT  V0.4S, V1.16B, V2.4B[0]
    0x4E82A420: "int8_matmul",  # SMMLA V0.4S, V1.16B, V2.16B
    0x0E628020: "widening_mac",  # SMLAL V0.4S, V1.4H, V2.4H
    0x0E22C020: "widening_mac",  # SMULL V0.8H, V1.8B, V2.8B
    0x0F422020: "widening_mac",  # SMLAL V0.4S, V1.4H, V2.H[0]
    0x0E22E020: "other_simd",  # PMULL V0.8H, V1.8B, V2.8B
    0x3DC00020: "load_store",  # LDR   Q0, [X1]
    0xA9007BFD: "load_store",  # STP   X29, X30, [SP]
    0xF9800020: "load_store",  # PRFM  PLDL1KEEP, [X1]
    0x54000041: "branch",  # B.NE  8
    0xD65F03C0: "branch",  # RET
    0xD4000001: "other",  # SVC   0
    0xD503201F: "other",  # NOP
    0x8B020020: "other",  # ADD   X0, X1, X2
}


@pytest.mark.parametrize(("word", "text", "name"), KNOWN, ids=[text for _, text, _ in KNOWN])
def test_class_is_the_disassemblers(word: int, text: str, name: str) -> None:
    assert classify(word) == name, text


@pytest.mark.parametrize(("word", "name"), BY_HAND.items(), ids=[f"{word:08x}" for word in BY_HAND])
def test_class_is_the_manuals(word: int, name: str) -> None:
    assert classify(word) == name


def test_known_words_cover_every_class() -> None:
    assert WORDS.keys() == set(CLASSES) == MEANING.keys()
    assert all(WORDS.values())


@given(st.integers(0, 2**32 - 1), st.integers(0, 31), st.integers(0, 31))
def test_registers_do_not_change_the_class(word: int, rd: int, rn: int) -> None:
    changed = word & ~0x3FF | rn << 5 | rd
    # Bits 9-0 are registers or immediates in every class that is told apart.
    assert classify(changed) == classify(word)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 10**9))))
def test_tally_loses_nothing(counts: list[tuple[int, int]]) -> None:
    totals = tally(counts)
    assert tuple(totals) == CLASSES
    assert sum(totals.values()) == sum(count for _, count in counts)
