"""Which class an A64 instruction word belongs to.

Encodings: Arm Architecture Reference Manual for A-profile (DDI 0487), chapter C4, "A64 instruction
set encoding". Only what tells one class from another is looked at; words that no processor
executes are not asked about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

InstructionClass = Literal[
    "fp32_fma",
    "fp16_fma",
    "int8_dot",
    "int8_matmul",
    "widening_mac",
    "other_simd",
    "load_store",
    "branch",
    "other",
]

CLASSES: Final[tuple[InstructionClass, ...]] = get_args(InstructionClass)

#: What each class holds, for tables and help.
MEANING: Final[dict[InstructionClass, str]] = {
    "fp32_fma": "FMLA, FMLS of single precision, vector or by element",
    "fp16_fma": "FMLA, FMLS of half precision, vector or by element",
    "int8_dot": "SDOT, UDOT, USDOT, SUDOT",
    "int8_matmul": "SMMLA, UMMLA, USMMLA",
    "widening_mac": "SMLAL, SMLSL, SMULL, their unsigned and saturating forms, vector or by element",
    "other_simd": "everything else of Advanced SIMD and floating point",
    "load_store": "loads and stores of any register, prefetches",
    "branch": "branches, calls, returns",
    "other": "integer arithmetic, moves, system instructions",
}

#: Three registers of different widths, bits 15-12: SMLAL, SMLSL, SMULL, signed (U is 0) or not.
_WIDENING = frozenset({0b1000, 0b1010, 0b1100})
#: The same, saturating: SQDMLAL, SQDMLSL, SQDMULL; signed only.
_SATURATING = frozenset({0b1001, 0b1011, 0b1101})
#: The same by element, bits 15-12. With U, the places of the saturating ones are others'.
_WIDENING_BY_ELEMENT = frozenset({0b0010, 0b0110, 0b1010})
_SATURATING_BY_ELEMENT = frozenset({0b0011, 0b0111, 0b1011})
#: By element, bits 15-12: FMLA, FMLS.
_FMA_BY_ELEMENT = frozenset({0b0001, 0b0101})


def classify(word: int) -> InstructionClass:
    """The class of a 32-bit A64 instruction word."""
    if word & 0x0A00_0000 == 0x0800_0000:  # bits 28-25 are x1x0
        return "load_store"
    if word & 0x1C00_0000 == 0x1400_0000:  # bits 28-26 are 101
        return "other" if _is_system(word) else "branch"
    if word & 0x0E00_0000 == 0x0E00_0000:  # bits 28-25 are x111
        return _classify_simd(word)
    return "other"


def tally(counts: Iterable[tuple[int, int]]) -> dict[InstructionClass, int]:
    """Add up (instruction word, how often it ran) by class; every class is there."""
    totals = dict.fromkeys(CLASSES, 0)
    for word, count in counts:
        totals[classify(word)] += count
    return totals


def _is_system(word: int) -> bool:
    """Exceptions (SVC), hints, barriers, register moves: in the branches' group, but no branches."""
    return word >> 24 in (0xD4, 0xD5)


def _classify_simd(word: int) -> InstructionClass:
    top = word >> 24
    if top & 0x9F == 0x0E:  # 0QU01110: vectors
        return _classify_vector(word)
    # 0QU01111 and 01U11111, by element of a vector or of a scalar, have bit 10 clear.
    if (top & 0x9F == 0x0F or top & 0xDF == 0x5F) and not word & 0x400:
        return _classify_by_element(word)
    return "other_simd"


def _classify_vector(word: int) -> InstructionClass:
    size, unsigned, low = word >> 22 & 3, word >> 29 & 1, word >> 10 & 0x3F
    found: InstructionClass = "other_simd"
    if word & 0x0020_0000:  # bit 21
        if low == 0b110011 and not unsigned and size in (0, 2):  # sz is 0: single precision
            found = "fp32_fma"
        elif low & 3 == 0 and (low >> 2 in _WIDENING or (low >> 2 in _SATURATING and not unsigned)):
            found = "widening_mac"
    elif size == 2 and low in (0b100101, 0b100111):
        found = "int8_dot"
    elif size == 2 and low in (0b101001, 0b101011):
        found = "int8_matmul"
    elif low == 0b000011 and not unsigned and size in (1, 3):
        found = "fp16_fma"
    return found


def _classify_by_element(word: int) -> InstructionClass:
    opcode, size, unsigned = word >> 12 & 0xF, word >> 22 & 3, word >> 29 & 1
    found: InstructionClass = "other_simd"
    if opcode in _FMA_BY_ELEMENT and not unsigned:
        if size in (0, 2):
            found = "fp16_fma" if size == 0 else "fp32_fma"
    elif (opcode == 0b1110 and size == 2) or (opcode == 0b1111 and not unsigned and size in (0, 2)):
        found = "int8_dot"
    elif opcode in _WIDENING_BY_ELEMENT or (opcode in _SATURATING_BY_ELEMENT and not unsigned):
        found = "widening_mac"
    return found
