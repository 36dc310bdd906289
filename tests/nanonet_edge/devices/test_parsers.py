"""Recorded lines of tegrastats, nvpmodel and vcgencmd, and anything else in their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.devices.state import ActiveMode, parse_nvpmodel
from nanonet_edge.devices.tegrastats import TegraCore, parse_tegrastats
from nanonet_edge.devices.throttling import CONDITIONS, decode_throttled, parse_throttled
from tests.nanonet_edge.devices.recordings import AGX_ORIN, NANO, ORIN_NANO


def rails(line: str) -> dict[str, tuple[int, int]]:
    sample = parse_tegrastats(line)
    assert sample is not None
    return {rail.name: (rail.milliwatts, rail.mean_milliwatts) for rail in sample.rails}


def test_line_of_a_nano() -> None:
    sample = parse_tegrastats(NANO)
    assert sample is not None
    assert (sample.ram_used_mib, sample.ram_total_mib) == (1766, 3964)
    assert sample.cores[0] == TegraCore(load_percent=24, mhz=1224)
    assert (sample.memory_load_percent, sample.memory_mhz) == (0, None)
    assert (sample.gpu_load_percent, sample.gpu_mhz) == (0, ())
    assert sample.temperatures_c == {
        "PLL": 21,
        "CPU": 25,
        "PMIC": 100,
        "GPU": 23.5,
        "AO": 33.5,
        "thermal": 24.5,
    }
    assert rails(NANO) == {"POM_5V_IN": (2545, 2547), "POM_5V_GPU": (0, 0), "POM_5V_CPU": (549, 529)}


def test_line_of_an_orin_nano_with_cores_off() -> None:
    sample = parse_tegrastats(ORIN_NANO)
    assert sample is not None
    assert sample.cores[4:] == (None, None)
    assert sample.cores[0] == TegraCore(load_percent=1, mhz=729)
    assert sample.temperatures_c["tj"] == 62.843
    assert rails(ORIN_NANO) == {"VDD_IN": (3913, 3922), "VDD_CPU_GPU_CV": (598, 598), "VDD_SOC": (1238, 1237)}


def test_line_of_an_agx_orin_with_clocks_and_a_unit_switched_off() -> None:
    sample = parse_tegrastats(AGX_ORIN)
    assert sample is not None
    assert (sample.memory_load_percent, sample.memory_mhz) == (1, 2133)
    assert (sample.gpu_load_percent, sample.gpu_mhz) == (14, (407, 407))
    assert "CV0" not in sample.temperatures_c
    assert rails(AGX_ORIN) == {
        "VDD_GPU_SOC": (3150, 2971), "VDD_CPU_CV": (14312, 12415),
        "VIN_SYS_5V0": (4968, 5048), "VDDQ_VDD2_1V8AO": (1091, 1091),
    }  # fmt: skip


@pytest.mark.parametrize(
    "line", ["", "RAM 1/2MB", "CPU [1%@2]", "tegrastats: command not found", "RAM 5059MB CPU"]
)
def test_another_line_is_none(line: str) -> None:
    assert parse_tegrastats(line) is None


_PIECES = st.sampled_from(
    [*NANO.split(" "), *ORIN_NANO.split(" "), *AGX_ORIN.split(" "), "@", "[", "]", "%@", "/", "C"]
)


@given(st.text() | st.lists(_PIECES, max_size=60).map(" ".join) | st.lists(_PIECES, max_size=60).map("".join))
def test_any_line_is_a_sample_or_none(line: str) -> None:
    sample = parse_tegrastats(f"RAM 1/2MB CPU [{line}] {line}")
    assert sample is None or all(rail.milliwatts >= 0 for rail in sample.rails)
    parse_tegrastats(line)


def test_very_long_line_ends_soon() -> None:
    assert parse_tegrastats(NANO + " VDD_X" + "1" * 10_000_000) is not None


@pytest.mark.parametrize(
    ("text", "now", "since_boot"),
    [
        ("throttled=0x0\n", (), ()),
        ("throttled=0x50005\n", ("undervoltage", "throttled"), ("undervoltage", "throttled")),
        ("throttled=0x50000", (), ("undervoltage", "throttled")),
        ("throttled=0x80008", ("soft temperature limit",), ("soft temperature limit",)),
        (
            "throttled=0xE0002",
            ("frequency capped",),
            ("frequency capped", "throttled", "soft temperature limit"),
        ),
    ],
)
def test_throttle_word(text: str, now: tuple[str, ...], since_boot: tuple[str, ...]) -> None:
    found = parse_throttled(text)
    assert found is not None
    assert (found.now, found.since_boot) == (now, since_boot)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "throttled=",
        "throttled=0x",
        "throttled=-0x1",
        "throttled=0x123456789",
        'error=1 error_msg="Command not registered"',
        "VCHI initialization failed",
    ],
)
def test_another_answer_of_vcgencmd_is_none(text: str) -> None:
    assert parse_throttled(text) is None


@given(st.integers(min_value=0, max_value=(1 << 32) - 1))
def test_each_bit_of_the_word_is_told_once(word: int) -> None:
    found = parse_throttled(f"throttled=0x{word:x}")
    assert found == decode_throttled(word)
    for bit, condition in CONDITIONS.items():
        assert (condition in found.now) == bool(word & (1 << bit))
        assert (condition in found.since_boot) == bool(word & (1 << (bit + 16)))


@pytest.mark.parametrize("word", [-1, 1 << 32])
def test_what_is_no_word_is_refused(word: int) -> None:
    with pytest.raises(ValueError, match="32-bit"):
        decode_throttled(word)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN\n0\n", ActiveMode(id=0, name="MAXN")),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: MAXN\n0", ActiveMode(id=0, name="MAXN")),
        ("NVPM VERB: Current mode: NV Power Mode: 25W\n1\n", ActiveMode(id=1, name="25W")),
        ("NV Power Mode: 15W\n", ActiveMode(id=None, name="15W")),
        ("NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap\n", None),
        ("", None),
    ],
)
def test_power_mode(text: str, mode: ActiveMode | None) -> None:
    assert parse_nvpmodel(text) == mode


@given(st.text())
def test_any_answer_of_nvpmodel_is_a_mode_or_none(text: str) -> None:
    for given_text in (text, f"NV Power Mode: {text}"):
        found = parse_nvpmodel(given_text)
        assert found is None or found.name
