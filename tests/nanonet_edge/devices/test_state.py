"""A device's state from planted files, and whether a run under it counts."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from nanonet_edge.devices import DeviceState, ask_commands, energy_over, judge, read_state
from nanonet_edge.devices.sensors import Cooling, CoreClock, Counter, EnergyCounter, RailPower, Temperature
from nanonet_edge.devices.state import REASONS, ActiveMode
from nanonet_edge.devices.throttling import decode_throttled
from tests.nanonet_edge.devices.recordings import NANO, ORIN_NANO
from tests.nanonet_edge.devices.trees import plant

CPU = "sys/devices/system/cpu"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
ZONE = "sys/class/thermal/thermal_zone0"
COOLING = "sys/class/thermal/cooling_device0"
HWMON = "sys/class/hwmon/hwmon3"
RAPL = "sys/class/powercap/intel-rapl:0"


def cores(
    count: int, current: int, limit: int = 1_800_000, governor: str = "performance"
) -> dict[str, bytes]:
    """cpufreq of some cores, clocks in kHz."""
    files = {}
    for core in range(count):
        folder = f"{CPU}/cpu{core}/cpufreq"
        files[f"{folder}/scaling_governor"] = f"{governor}\n".encode()
        files[f"{folder}/scaling_cur_freq"] = f"{current}\n".encode()
        files[f"{folder}/scaling_max_freq"] = f"{limit}\n".encode()
        files[f"{folder}/cpuinfo_max_freq"] = b"1800000\n"
    return files


PI = cores(4, 1_800_000) | {
    FIRMWARE: b"0\n",
    f"{ZONE}/type": b"cpu-thermal\n",
    f"{ZONE}/temp": b"52095\n",
    f"{COOLING}/type": b"pwm-fan\n",
    f"{COOLING}/cur_state": b"3\n",
    "sys/class/hwmon/hwmon1/name": b"rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": b"0\n",
}
ORIN = cores(6, 1_497_600, 1_497_600) | {
    f"{HWMON}/name": b"ina3221\n",
    f"{HWMON}/in1_label": b"VDD_IN\n", f"{HWMON}/in1_input": b"5000\n", f"{HWMON}/curr1_input": b"784\n",
    f"{HWMON}/in2_label": b"NC\n", f"{HWMON}/in2_input": b"0\n", f"{HWMON}/curr2_input": b"0\n",
    f"{HWMON}/in3_label": b"VDD_SOC\n", f"{HWMON}/in3_input": b"4968\n", f"{HWMON}/curr3_input": b"250\n",
    "sys/class/hwmon/hwmon4/name": b"soctherm_oc\n",
    "sys/class/hwmon/hwmon4/oc3_event_cnt": b"7\n",
    f"{COOLING}/type": b"thermal-cpufreq-0\n",
    f"{COOLING}/cur_state": b"0\n", f"{COOLING}/max_state": b"26\n",
    "var/lib/nvpmodel/status": b"pmode:0002 fmode:quiet\n",
    "etc/nvpmodel.conf": b"< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
}  # fmt: skip
LAPTOP = {
    f"{RAPL}/name": b"package-0\n", f"{RAPL}/energy_uj": b"262143000000\n",
    f"{RAPL}/max_energy_range_uj": b"262143328850\n",
    f"{RAPL}:0/name": b"core\n", f"{RAPL}:0/energy_uj": b"17\n",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": b"3\n",
    f"{CPU}/cpu0/thermal_throttle/package_throttle_count": b"5\n",
    f"{CPU}/cpufreq/boost": b"1\n",
}  # fmt: skip


def test_raspberry_pi(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, PI))
    assert [core.core for core in state.cores] == [0, 1, 2, 3]
    assert state.cores[0] == CoreClock(
        core=0, governor="performance", current_mhz=1800, limit_mhz=1800, hardware_max_mhz=1800
    )
    assert state.temperatures == (Temperature(zone="cpu-thermal", celsius=52.095),)
    assert state.throttling == decode_throttled(0)
    assert state.undervoltage_alarm is False
    assert state.cooling == (), "a fan slows nothing down"
    assert state.troubles == ()
    assert DeviceState.model_validate_json(state.model_dump_json()) == state


@pytest.mark.parametrize(
    "path", [FIRMWARE, "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"]
)
def test_word_of_the_firmware_is_hexadecimal_in_sysfs(path: str, tmp_path: Path) -> None:
    assert read_state(plant(tmp_path, {path: b"50005\n"})).throttling == decode_throttled(0x50005)


def test_command_is_believed_before_the_file(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, PI), {"vcgencmd": "throttled=0x4\n"})
    assert state.throttling == decode_throttled(4)


def test_jetson(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, ORIN))
    assert state.rails == (
        RailPower(name="VDD_IN", milliwatts=3920),
        RailPower(name="VDD_SOC", milliwatts=1242),
    )
    assert state.counters == (Counter(name="over-current event oc3", count=7),)
    assert state.cooling == (Cooling(device="thermal-cpufreq-0", state=0, max_state=26),)
    assert state.power_mode == ActiveMode(id=2, name="MAXN_SUPER")


def test_jetson_of_jetpack_4_has_its_rails_elsewhere(tmp_path: Path) -> None:
    folder = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {f"{folder}/rail_name_0": b"POM_5V_IN\n", f"{folder}/in_power0_input": b"2545\n"}
    assert read_state(plant(tmp_path, files)).rails == (RailPower(name="POM_5V_IN", milliwatts=2545),)


def test_rails_of_tegrastats_are_taken_where_the_kernel_shows_none(tmp_path: Path) -> None:
    state = read_state(tmp_path, {"tegrastats": NANO, "nvpmodel": "NV Power Mode: MAXN\n0\n"})
    assert [rail.name for rail in state.rails] == ["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"]
    assert state.power_mode == ActiveMode(id=0, name="MAXN")
    shown = read_state(plant(tmp_path, ORIN), {"tegrastats": ORIN_NANO})
    assert [rail.name for rail in shown.rails] == ["VDD_IN", "VDD_SOC"]
    assert shown.tegrastats is not None


def test_x86_host(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, LAPTOP))
    assert state.energy == (
        EnergyCounter(
            name="intel-rapl:0 package-0", microjoules=262143000000, range_microjoules=262143328850
        ),
        EnergyCounter(name="intel-rapl:0:0 core", microjoules=17, range_microjoules=None),
    )
    assert [(counter.name, counter.count) for counter in state.counters] == [
        ("cpu0 core thermal throttle", 3),
        ("cpu0 package thermal throttle", 5),
    ]


def test_cores_are_in_order_of_their_numbers(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path, cores(12, 1_000_000)))
    assert [core.core for core in state.cores] == list(range(12))


def test_every_gap_has_a_reason(tmp_path: Path) -> None:
    state = read_state(tmp_path)
    assert state.unknown == REASONS
    assert read_state().unknown.keys() <= REASONS.keys()
    with pytest.raises(ValidationError, match="expected reasons for"):
        DeviceState(monotonic_ns=0)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"nan\n", b"9" * 50, b"1" * (1 << 20), b"\x1b[0m", b"-5\n"]
)
def test_nonsense_in_every_file_is_survived(content: bytes, tmp_path: Path) -> None:
    files = dict.fromkeys(PI | ORIN | LAPTOP, content)
    state = read_state(
        plant(tmp_path, files), dict.fromkeys(("vcgencmd", "nvpmodel", "tegrastats"), "\x00 junk")
    )
    assert (state.throttling, state.power_mode, state.energy) == (None, None, ())
    judge(state, [state], state)
    assert all(line.isprintable() for line in state.troubles)


_LIKELY = st.sampled_from(
    [b"0", b"1\n", b"-7", b"50005", b"1800000", b"ina3221", b"rpi_volt", b"VDD_IN", b"\0", b""]
)


@settings(max_examples=50)
@given(
    st.dictionaries(st.sampled_from(sorted(PI | ORIN | LAPTOP)), _LIKELY | st.binary(max_size=40), max_size=8)
)
def test_any_bytes_in_some_files_give_a_state(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = read_state(plant(Path(folder), files))
    assert DeviceState.model_validate_json(state.model_dump_json()) == state


def _fake(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_commands_are_asked_where_they_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_commands() == {}
    _fake(tmp_path, "vcgencmd", 'test "$1" = get_throttled && echo throttled=0x50000')
    _fake(tmp_path, "nvpmodel", "while :; do :; done")  # never ends
    assert ask_commands(timeout_s=0.2) == {"vcgencmd": "throttled=0x50000\n"}


# Judging


def pi(tmp_path: Path, **changes: bytes) -> DeviceState:
    """The Pi with some files changed: `word`, `temp`, `alarm`."""
    paths = {"word": FIRMWARE, "alarm": "sys/class/hwmon/hwmon1/in0_lcrit_alarm"}
    return read_state(plant(tmp_path, PI | {paths[key]: value for key, value in changes.items()}))


def test_quiet_run_is_valid(tmp_path: Path) -> None:
    state = pi(tmp_path)
    verdict = judge(state, [state] * 3, state)
    assert verdict.valid
    assert (verdict.reasons, verdict.warnings) == ((), ())
    assert {"throttling", "undervoltage_alarm", "cores"} <= set(verdict.watched)


@pytest.mark.parametrize("position", ["before", "during", "after"])
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (b"1", "undervoltage (get_throttled 0x1)"),
        (b"2", "frequency capped (get_throttled 0x2)"),
        (b"4", "throttled (get_throttled 0x4)"),
        (b"8", "soft temperature limit (get_throttled 0x8)"),
    ],
)
def test_throttled_or_undervolted_run_is_invalid_with_the_reason(
    word: bytes, reason: str, position: str, tmp_path: Path
) -> None:
    quiet, bad = pi(tmp_path / "a"), pi(tmp_path / "b", word=word)
    states = {
        "before": (bad, [quiet], quiet),
        "during": (quiet, [quiet, bad], quiet),
        "after": (quiet, [], bad),
    }
    verdict = judge(*states[position])
    assert (verdict.valid, verdict.reasons) == (False, (reason,))


def test_what_happened_between_two_looks_shows_in_the_bits_since_boot(tmp_path: Path) -> None:
    quiet, since = pi(tmp_path / "a"), pi(tmp_path / "b", word=b"50000")
    assert judge(quiet, [quiet], since).reasons == (
        "undervoltage between two looks (get_throttled 0x50000)",
        "throttled between two looks (get_throttled 0x50000)",
    )
    old = judge(since, [since], since)
    assert old.valid
    assert old.warnings == ("since boot, before the run: undervoltage, throttled",)


def test_voltage_alarm_of_the_kernel_invalidates(tmp_path: Path) -> None:
    quiet, bad = pi(tmp_path / "a"), pi(tmp_path / "b", alarm=b"1")
    assert judge(quiet, [bad], quiet).reasons == ("undervoltage (alarm of the sensor rpi_volt)",)


def _orin(tmp_path: Path, **changes: bytes) -> DeviceState:
    paths = {
        "events": "sys/class/hwmon/hwmon4/oc3_event_cnt",
        "cooling": f"{COOLING}/cur_state",
        "mode": "var/lib/nvpmodel/status",
        "governor": f"{CPU}/cpu0/cpufreq/scaling_governor",
        "limit": f"{CPU}/cpu0/cpufreq/scaling_max_freq",
    }
    return read_state(plant(tmp_path, ORIN | {paths[key]: value for key, value in changes.items()}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"events": b"9"}, "over-current event oc3: 2 while it ran"),
        ({"cooling": b"4"}, "slowed down against heat by the cooling device thermal-cpufreq-0"),
        ({"mode": b"pmode:0000"}, "the power mode was changed while it ran"),
        ({"governor": b"schedutil"}, "the frequency governor was changed while it ran"),
        ({"limit": b"1190400"}, "the clocks' upper limit was changed while it ran"),
    ],
)
def test_jetson_that_changed_while_it_ran_is_invalid(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    first, last = _orin(tmp_path / "a"), _orin(tmp_path / "b", **changes)
    verdict = judge(first, [first], last)
    assert (verdict.valid, verdict.reasons) == (False, (reason,))


def test_clock_that_falls_under_a_fixed_governor_is_invalid(tmp_path: Path) -> None:
    fast = read_state(plant(tmp_path / "a", cores(4, 1_800_000)))
    slow = read_state(plant(tmp_path / "b", cores(4, 1_200_000)))
    assert judge(fast, [fast, slow], fast).reasons == (
        "the fastest core fell from 1800 to 1200 MHz while it ran",
    )
    assert judge(slow, [fast, fast], slow).valid, "idle before and after"
    loose = [
        read_state(plant(tmp_path / c, cores(4, f, governor="ondemand")))
        for c, f in (("c", 600_000), ("d", 1_800_000))
    ]
    verdict = judge(loose[0], loose, loose[0])
    assert verdict.valid
    assert "the frequency governor is ondemand: clocks follow the load" in verdict.warnings


def test_limited_clocks_and_what_cannot_be_watched_are_warnings(tmp_path: Path) -> None:
    state = read_state(plant(tmp_path / "a", cores(2, 1_200_000, 1_200_000)))
    verdict = judge(state, [state], state)
    assert verdict.valid
    assert verdict.warnings == (
        "throttling could not be watched on this device",
        "clocks are limited to 1200 of 1800 MHz",
    )


# Energy


def at(seconds: float, **fields: Any) -> DeviceState:
    """A state that has only these fields."""
    unknown = {name: reason for name, reason in REASONS.items() if name not in fields}
    return DeviceState(monotonic_ns=round(seconds * 1e9), unknown=unknown, **fields)


def counted(microjoules: int, turn: int | None = 1000) -> tuple[EnergyCounter, ...]:
    return (EnergyCounter(name="package", microjoules=microjoules, range_microjoules=turn),)


def test_energy_of_a_counter_that_turns_over() -> None:
    states = [at(index, energy=counted(value)) for index, value in enumerate((900, 950, 50, 60))]
    (found,) = energy_over(states)
    assert found.joules == pytest.approx((50 + 100 + 10) / 1e6)


@given(st.lists(st.integers(min_value=0, max_value=999), min_size=1, max_size=20), st.integers(0, 999))
def test_energy_is_what_was_spent_however_often_the_counter_turned(steps: list[int], start: int) -> None:
    values = [start]
    for step in steps:
        values.append((values[-1] + step) % 1000)
    (found,) = energy_over([at(i, energy=counted(value)) for i, value in enumerate(values)])
    assert found.joules == pytest.approx(sum(steps) / 1e6)


@pytest.mark.parametrize("turn", [None, 800])
def test_counter_that_goes_back_inexplicably_has_a_reason(turn: int | None) -> None:
    (found,) = energy_over([at(0, energy=counted(900, turn)), at(1, energy=counted(10, turn))])
    assert found.joules is None
    assert "range" in (found.reason or "")


def test_energy_of_rails_is_the_integral_of_their_power() -> None:
    powers = ((0, 1000.0), (1, 3000.0), (3, 3000.0))
    states = [at(s, rails=(RailPower(name="VDD_IN", milliwatts=power),)) for s, power in powers]
    (found,) = energy_over(states)
    assert found.joules == pytest.approx(2 + 6)
    (gap,) = energy_over([states[0], at(2), states[2]])
    assert (gap.joules, gap.reason) == (None, "the rail could not be read every time")


def test_one_state_has_no_energy() -> None:
    (found,) = energy_over([at(0, energy=counted(5))])
    assert found.reason == "expected at least two states"
    assert energy_over([at(0), at(1)]) == ()
