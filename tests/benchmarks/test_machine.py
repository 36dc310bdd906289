from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from nanonet_edge import machine
from nanonet_edge.machine import Conditions, Machine, read_conditions, read_machine


def test_this_machine_is_described() -> None:
    found = read_machine()
    assert found.memory_bytes > 1 << 26
    assert found.logical_cores == os.cpu_count()
    assert found.python.count(".") == 2
    assert Machine.model_validate_json(found.model_dump_json()) == found


def test_every_gap_has_a_reason_and_no_zero_stands_for_it() -> None:
    for record in (read_machine(), read_conditions()):
        missing = {name for name in type(record).model_fields if getattr(record, name) is None}
        assert missing == set(record.unknown)
        assert all(record.unknown.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"frequency_mhz": None, "temperature_c": 40.0},
        {"frequency_mhz": 900.0, "temperature_c": 40.0, "unknown": {"frequency_mhz": "hidden"}},
    ],
)
def test_gap_without_reason_or_reason_without_gap_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="expected reasons for"):
        Conditions.model_validate(fields)


def test_governor_and_clocks_are_read_in_mhz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for core, clock in enumerate(("600000", "1800000")):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(clock + "\n")
    first = tmp_path / "cpu0" / "cpufreq"
    (first / "scaling_governor").write_text("ondemand\n")
    (first / "cpuinfo_min_freq").write_text("600000\n")
    (first / "cpuinfo_max_freq").write_text("1800000\n")
    monkeypatch.setattr(machine, "_CPUFREQ", first)
    found = read_machine()
    assert (found.governor, found.frequency_min_mhz, found.frequency_max_mhz) == ("ondemand", 600.0, 1800.0)
    assert read_conditions().frequency_mhz == 1200.0


CPUINFO = {
    "x86 guest": ("model name\t: Some CPU\nflags\t\t: fpu hypervisor sse\n", "Some CPU", True),
    "x86 metal": ("model name\t: Some CPU\nflags\t\t: fpu sse\n", "Some CPU", False),
    # Arm lists features, and a hypervisor is not among them even in a guest.
    "Arm board": ("Features\t: fp asimd\nModel\t\t: Some Board Rev 1\n", "Some Board Rev 1", None),
}


@pytest.mark.parametrize("case", CPUINFO)
def test_processor_is_read_from_cpuinfo(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, model, virtualised = CPUINFO[case]
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    found = read_machine()
    assert (found.cpu_model, found.virtualised) == (model, virtualised)
    assert ("virtualised" in found.unknown) == (virtualised is None)


def test_system_without_processor_flags_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "absent")
    found = read_machine()
    assert found.virtualised is None
    assert "flags" in found.unknown["virtualised"]


def test_hottest_processor_sensor_wins_over_others(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = namedtuple("sensor", "current")
    readings = {"nvme": [sensor(80.0)], "coretemp": [sensor(50.0), sensor(61.5)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: readings, raising=False)
    assert read_conditions().temperature_c == 61.5


def test_sensors_of_other_parts_are_not_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = namedtuple("sensor", "current")
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"nvme": [sensor(80.0)]}, raising=False)
    found = read_conditions()
    assert found.temperature_c is None
    assert "sensor" in found.unknown["temperature_c"]
