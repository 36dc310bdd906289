"""The profiles that ship keep to the schema and to the facts; what does not is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanonet_edge.devices import Profile, load_catalogue, load_profile
from nanonet_edge.devices.profile import cited
from nanonet_edge.errors import InputError

CATALOGUE = load_catalogue(environment={})
PROFILES = CATALOGUE.profiles


def test_the_devices_of_the_families_are_there() -> None:
    assert {
        "raspberry-pi-3b-plus", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w",
        "jetson-nano", "jetson-xavier-nx", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin",
        "coral-usb", "coral-dev-board", "generic-x86-64", "generic-aarch64",
    } <= PROFILES.keys()  # fmt: skip
    assert CATALOGUE.families == ("coral", "generic", "jetson", "raspberry-pi")


@pytest.mark.parametrize("name", PROFILES)
def test_every_source_is_used_and_no_figure_is_without(name: str) -> None:
    profile = PROFILES[name]
    assert {key for _, key in cited(profile)} == set(profile.sources)
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def _published(name: str) -> dict[tuple[str, str, str, int | None], float]:
    return {(one.model, one.precision, one.on, one.threads): one.ms for one in PROFILES[name].published}


def test_published_latencies_are_those_of_their_sources() -> None:
    ssd, net = "SSDLite-MobileNetV2-300", "MobileNetV2-1.0-224"
    unet = "U-Net-MobileNetV2-128"
    assert _published("raspberry-pi-4") == {
        (net, "fp32", "cpu", None): 46, (net, "int8", "cpu", None): 17,
        (ssd, "fp32", "cpu", 1): 210, (ssd, "fp32", "cpu", 4): 110,
        (ssd, "int8", "cpu", 1): 168, (ssd, "int8", "cpu", 4): 57,
    }  # fmt: skip
    assert _published("raspberry-pi-3b-plus") == {
        (net, "fp32", "cpu", None): 79, (net, "int8", "cpu", None): 30,
        (ssd, "fp32", "cpu", 1): 349, (ssd, "fp32", "cpu", 4): 199,
        (ssd, "int8", "cpu", 1): 342, (ssd, "int8", "cpu", 4): 122,
    }  # fmt: skip
    assert _published("coral-usb") == {
        (unet, "int8", "tpu", None): 3.3, ("MobileNetV2-224", "int8", "tpu", None): 2.6,
    }  # fmt: skip
    assert _published("coral-dev-board") == {
        (unet, "int8", "tpu", None): 5.7, (unet, "int8", "cpu", None): 190.7,
        ("MobileNetV2-224", "int8", "cpu", None): 122,
    }  # fmt: skip


@pytest.mark.parametrize(("name", "flop_per_cycle"), [("raspberry-pi-4", 8), ("raspberry-pi-5", 16)])
def test_derived_peaks_follow_from_cores_and_clock(name: str, flop_per_cycle: int) -> None:
    cpu = PROFILES[name].cpu
    assert cpu is not None
    assert cpu.fp32_gflops.derived
    assert cpu.cores.value is not None
    assert cpu.clock_max_mhz.value is not None
    peak = cpu.cores.value * cpu.clock_max_mhz.value / 1000 * flop_per_cycle
    assert cpu.fp32_gflops.value == pytest.approx(peak)


def test_what_has_no_source_has_a_reason_instead() -> None:
    for name in ("raspberry-pi-3b-plus", "raspberry-pi-zero-2w"):
        cpu = PROFILES[name].cpu
        assert cpu is not None
        assert (cpu.fp32_gflops.value, cpu.int8_gops.value) == (None, None)
        assert "source" in (cpu.fp32_gflops.reason or "")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("raspberry-pi-3b-plus", "cortex-a53"),
        ("raspberry-pi-zero-2w", "cortex-a53"),
        ("jetson-nano", "cortex-a57"),
        ("raspberry-pi-4", "cortex-a72"),
        ("raspberry-pi-5", "cortex-a76"),
        ("jetson-orin-nano", "cortex-a76"),
        ("jetson-xavier-nx", None),
        ("coral-usb", None),
    ],
)
def test_what_qemu_emulates(name: str, model: str | None) -> None:
    assert PROFILES[name].emulation.qemu_cpu.value == model


def test_dense_operations_are_half_of_the_sparse_ones_where_both_are_known() -> None:
    pairs = [
        (accelerator.int8_tops_dense.value, accelerator.int8_tops_sparse.value)
        for profile in PROFILES.values()
        for accelerator in profile.accelerators
    ]
    both = [(dense, sparse) for dense, sparse in pairs if dense is not None and sparse is not None]
    assert len(both) == 3
    assert all(sparse == 2 * dense for dense, sparse in both)


def _raw(name: str = "raspberry-pi-5") -> Any:
    return json.loads(CATALOGUE.paths[name].read_text(encoding="utf-8"))


def _changed(keys: str, value: Any) -> Any:
    """A profile with one key set, or deleted by ``...``."""
    raw = _raw()
    *path, last = (int(key) if key.isdigit() else key for key in keys.split("."))
    here = raw
    for key in path:
        here = here[key]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return raw


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        ("cpu.cores.value", "four", ("'cpu.cores.value'", "valid integer", "found 'four'")),
        ("cpu.cores.value", 0, ("'cpu.cores.value'", "greater than 0", "found 0")),
        ("cpu.cores.source", ..., ("'cpu.cores'", "expected a source")),
        (
            "cpu.cores",
            {"reason": "x", "value": 1, "source": "y"},
            ("'cpu.cores'", "either a value or a reason"),
        ),
        ("cpu.cores.source", "nowhere", ("cpu.cores.source cites 'nowhere'", "not among the sources")),
        ("cpu.clock", 5, ("'cpu.clock'", "no such key", "found 5")),
        ("memory", ..., ("expected cpu and memory", "'board'")),
        ("name", ..., ("'name'", "expected a value, found nothing")),
        ("name", "Pi 5!", ("'name'", "found 'Pi 5!'")),
        ("name", "another", ("'name'", "expected 'raspberry-pi-5'", "found 'another'")),
        ("schema_version", 2, ("'schema_version'", "expected 1", "found 2")),
        ("detection", {"source": "rpi-bcm2712"}, ("'detection'", "at least one rule")),
        ("detection.models", "Pi", ("'detection.models'", "found 'Pi'")),
        ("sources.rpi-bcm2712.url", "ftp://x", ("'sources.rpi-bcm2712.url'", "found 'ftp://x'")),
        ("power", {}, ("'power'", "modes, rails or a reason")),
    ],
)
def test_mistake_is_one_line_with_file_key_expected_and_found(
    keys: str, value: Any, words: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "raspberry-pi-5.json"
    path.write_text(json.dumps(_changed(keys, value)))
    with pytest.raises(InputError) as caught:
        load_profile(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "expected JSON"),
        (b"[]", "found []"),
        (b"null", "found None"),
        (b'{"name": "x", "name": "y"}', "'name' twice"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b" " * (1 << 20) + b"{}", "more than"),
    ],
)
def test_what_is_no_profile_is_one_line(content: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json: ") as caught:
        load_profile(path)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def _outcome(path: Path) -> str:
    try:
        return load_profile(path).name
    except InputError as error:
        return str(error)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(sorted(Profile.model_fields)), value=_JSON)
def test_anything_in_place_of_a_key_is_taken_or_refused_in_one_line(
    key: str, value: Any, tmp_path: Path
) -> None:
    path = tmp_path / "raspberry-pi-5.json"
    path.write_text(json.dumps(_raw() | {key: value}))
    assert "\n" not in _outcome(path)
