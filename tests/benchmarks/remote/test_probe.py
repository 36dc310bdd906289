"""What a board says of its Python, before it is sent anything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.benchmarks.remote.probe import board_wheels, parse_probe, pins
from nanonet_edge.errors import DeviceError

PI = {
    "python": [3, 11, 2],
    "implementation": "CPython",
    "machine": "aarch64",
    "bits": 64,
    "libc": "glibc 2.36",
}


def said(**fields: object) -> bytes:
    return json.dumps(PI | fields).encode()


def test_systems_of_32_bits_on_kernels_of_64_take_wheels_of_32() -> None:
    assert parse_probe(said(), "pi").wheel_machine == "aarch64"
    assert parse_probe(said(bits=32), "pi").wheel_machine == "armv7l"


@pytest.mark.parametrize(
    ("libc", "expected"),
    [
        ("glibc 2.36", (2, 36)),
        ("glibc 2.36.9000", (2, 36)),
        ("", None),
        ("musl 1.2", None),
        ("glibc 2", None),
        ("glibc 2.\u00b2", None),
        ("glibc 2.999999999999", None),
    ],
)
def test_c_library(libc: str, expected: tuple[int, int] | None) -> None:
    assert parse_probe(said(libc=libc), "pi").glibc == expected


@given(st.text(max_size=99), st.text(max_size=99), st.integers(), st.lists(st.integers(), max_size=4))
def test_whatever_a_board_says_is_one_line_of_refusal(
    machine: str, implementation: str, bits: int, python: list[int]
) -> None:
    fields = {"machine": machine, "implementation": implementation, "bits": bits, "python": python}
    with pytest.raises(DeviceError, match=r"^pi: ") as caught:
        board_wheels(frozenset({"onnxruntime"}), parse_probe(said(**fields), "pi"), "pi")
    assert str(caught.value).isprintable()


def test_old_pythons_get_the_last_versions_that_they_run() -> None:
    old, new = (
        dict(pin.split("==") for pin in pins(frozenset({"onnxruntime"}), at)) for at in ("3.9", "3.11")
    )
    assert old.keys() == new.keys() == {"numpy", "opencv-python-headless", "onnxruntime"}
    assert (old["numpy"], old["onnxruntime"]) == ("2.0.2", "1.19.2")
    assert new["numpy"] != old["numpy"]
