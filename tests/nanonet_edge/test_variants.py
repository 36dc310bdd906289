"""Names, sizes and the published parameter counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.errors import UsageError
from nanonet_edge.variants import VARIANTS, Format, Head, Precision, Topology, check_size, get_variant


def test_published_parameter_counts() -> None:
    counts = {
        name: [variant.expected_parameters(topology) for topology in (Topology.RELEASED, Topology.DESCRIBED)]
        for name, variant in VARIANTS.items()
    }
    assert counts == {"a": [235_425, 310_593], "b": [132_049, 179_473], "c": [36_561, 45_833]}


def test_members_print_as_their_value() -> None:
    assert f"{Topology.RELEASED} {Precision.STATIC_WI8_AI8} {Format.OPENVINO} {Head.MASK}" == (
        "released static_wi8_ai8 openvino mask"
    )


def test_only_integer_activations_are_static() -> None:
    assert [p.value for p in Precision if p.is_static] == ["static_wi8_ai8", "static_wi8_ai16"]
    some = [p.value for p in Precision if p.has_integer_activations]
    assert some == ["static_wi8_ai8", "static_wi8_ai16", "mixed"]


@pytest.mark.parametrize("name", ["a", "B", "c"])
def test_a_variant_is_found_in_any_case(name: str) -> None:
    assert get_variant(name) is VARIANTS[name.lower()]


@pytest.mark.parametrize("name", ["", "d", "aa", "nanonet-c"])
def test_an_unknown_variant_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(UsageError, match="expected one of a, b, c"):
        get_variant(name)


@given(st.integers(-1000, 10_000))
def test_a_size_is_a_positive_multiple_of_32(size: int) -> None:
    if size > 0 and size % 32 == 0:
        assert check_size(size) == size
    else:
        with pytest.raises(UsageError, match=f"size {size} .*multiple of 32"):
            check_size(size)
