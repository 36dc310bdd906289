"""The device while it is measured: planted trees, fake programs, and what becomes of the figures."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nanonet_edge.benchmarks import watch as watch_module
from nanonet_edge.benchmarks.agreement_result import VerifyResult
from nanonet_edge.benchmarks.bench import bench
from nanonet_edge.benchmarks.compare import join
from nanonet_edge.benchmarks.watch import DeviceProbe, Watch
from nanonet_edge.benchmarks.worker_protocol import LoadRequest
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import energy_per_inference, read_state
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.results import BenchResult, BenchSettings, Measurement
from tests.benchmarks.bench_fakes import bench_result, measurement, replay
from tests.nanonet_edge.devices.recordings import ORIN_NANO
from tests.nanonet_edge.devices.trees import plant
from tests.tiny_bundle import make_tiny_bundle

ONNX = "tiny.fp32.onnx"
QUICK = BenchSettings(min_seconds=0.0, min_count=1)
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
RAPL = "sys/class/powercap/intel-rapl:0"
INA = "sys/class/hwmon/hwmon3"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path / "tiny"))


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script on PATH, before everything else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put


def measured(bundle: Bundle, root: Path, during: Callable[[], object] = lambda: None) -> BenchResult:
    def answer(load: LoadRequest) -> Measurement:
        during()
        return measurement(load.spec, [3.0, 1.0, 2.0])

    return bench(bundle, QUICK, artifacts=[ONNX], root=root, start=replay(answer))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_run_on_a_pi_that_lost_its_voltage_does_not_count(bundle: Bundle, tmp_path: Path) -> None:
    root = plant(tmp_path / "pi", {FIRMWARE: b"0\n"})
    result = measured(bundle, root, lambda: plant(root, {FIRMWARE: b"50005\n"}))
    (row,) = result.rows
    assert row.measurement is not None, "the figures are kept"
    assert row.valid_measurement is None, "and do not count"
    assert row.objection == "undervoltage (get_throttled 0x50005); throttled (get_throttled 0x50005)"
    assert result.objections == (f"{ONNX} on onnxruntime: {row.objection}",)
    assert result.failures == ()
    assert BenchResult.model_validate_json(result.model_dump_json()) == result


def test_throttling_that_came_and_went_is_caught_by_a_sample(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "SAMPLE_SECONDS", 0.01)
    cooling = "sys/class/thermal/cooling_device0"
    root = plant(tmp_path / "pi", {f"{cooling}/type": b"cpufreq-cpu0\n", f"{cooling}/cur_state": b"0\n"})
    seen = tmp_path / "looks"
    seen.mkdir()
    real = DeviceProbe.glance

    def glance(probe: DeviceProbe) -> object:
        state = real(probe)
        (seen / str(state.monotonic_ns)).touch()
        return state

    monkeypatch.setattr(DeviceProbe, "glance", glance)

    def get_hot_for_a_moment() -> None:
        for state in (b"2\n", b"0\n"):
            plant(root, {f"{cooling}/cur_state": state})
            looks = len(list(seen.iterdir()))
            wait_for(lambda looks=looks: len(list(seen.iterdir())) >= looks + 2)  # type: ignore[misc]

    (row,) = measured(bundle, root, get_hot_for_a_moment).rows
    assert row.watched is not None
    assert (row.watched.before.cooling[0].state, row.watched.after.cooling[0].state) == (0, 0)
    assert row.objection == "slowed down against heat by the cooling device cpufreq-cpu0"


def test_quiet_device_has_no_objection(bundle: Bundle, tmp_path: Path) -> None:
    (row,) = measured(bundle, plant(tmp_path / "pi", {FIRMWARE: b"0\n"})).rows
    assert row.objection is None
    assert row.valid_measurement is row.measurement is not None


def test_compare_takes_no_figure_of_a_run_that_does_not_count(bundle: Bundle, tmp_path: Path) -> None:
    result = measured(bundle, plant(tmp_path / "pi", {FIRMWARE: b"1\n"}))
    verify = VerifyResult.model_construct(artifacts=(), skipped=())
    candidate = next(one.candidate for one in join(bundle, result, verify) if one.candidate.artifact == ONNX)
    assert candidate.frame_p50_ms is candidate.fps is candidate.memory_mib is None
    expected = "the measurement does not count: undervoltage (get_throttled 0x1)"
    assert {candidate.missing[name] for name in ("frame_p50_ms", "fps", "memory_mib")} == {expected}


def test_results_of_a_version_that_watched_nothing_are_read(bundle: Bundle) -> None:
    data = bench_result(bundle, []).model_dump(mode="json")
    del data["detected"]
    assert BenchResult.model_validate(data).objections == ()


def test_comparison_on_a_throttled_device_is_refused(tmp_path: Path) -> None:
    with DeviceProbe(plant(tmp_path, {FIRMWARE: b"4\n"})) as probe, Watch(probe) as watch:
        pass
    with pytest.raises(RuntimeFailure, match=r"the duel does not count: throttled \(get_throttled 0x4\)"):
        watch.require_valid("the duel")


def test_firmware_is_asked_during_the_run_where_no_file_tells(
    tmp_path: Path, programs: Callable[[str, str], Path]
) -> None:
    programs("vcgencmd", f"cat {tmp_path}/word")
    (tmp_path / "word").write_text("throttled=0x0\n")
    with DeviceProbe(tmp_path / "empty") as probe, Watch(probe, 0.01) as watch:
        (tmp_path / "word").write_text("throttled=0x1\n")
        wait_for(lambda: any(state.throttling and state.throttling.word for state in watch._samples))
        (tmp_path / "word").write_text("throttled=0x0\n")
    assert watch.result().objection == "undervoltage (get_throttled 0x1)"


def test_power_mode_is_asked_before_and_after_only(
    tmp_path: Path, programs: Callable[[str, str], Path]
) -> None:
    programs("nvpmodel", f"echo x >> {tmp_path}/asked; echo 'NV Power Mode: MAXN'; echo 0")
    with DeviceProbe(tmp_path / "empty") as probe, Watch(probe, 0.005) as watch:
        wait_for(lambda: len(watch._samples) > 3)
    assert (tmp_path / "asked").read_text() == "x\nx\n"
    assert watch.result().validity.valid


def test_rails_of_a_running_tegrastats_give_energy_and_it_is_ended(
    tmp_path: Path, programs: Callable[[str, str], Path]
) -> None:
    programs(
        "tegrastats",
        f"echo $$ > {tmp_path}/pid; echo $@ > {tmp_path}/asked\necho '{ORIN_NANO}'\nexec sleep 600",
    )
    with DeviceProbe(tmp_path / "empty") as probe:
        wait_for(lambda: probe.read().tegrastats is not None)
        with Watch(probe, 0.01) as watch:
            start = time.monotonic_ns()
            wait_for(lambda: len(watch._samples) > 3)
            window = (start, time.monotonic_ns())
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (tmp_path / "asked").read_text().split() == ["--interval", "1000"]
    found = measurement("onnxruntime", [1.0] * 10)
    found = found.model_copy(update={"invoke": found.invoke.model_copy(update={"window_ns": window})})
    energy = {one.meter: one for one in watch.result(found).energy if one.scope == "invoke"}
    assert set(energy) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}
    assert energy["VDD_IN"].watts.value == pytest.approx(3.913)
    expected = 3.913 * (window[1] - window[0]) / 1e9 / 10 * 1e3
    assert energy["VDD_IN"].millijoules.value == pytest.approx(expected)
    (frame,) = (one for one in watch.result(found).energy if one.scope == "frame")
    assert frame.millijoules.reason == "the runs of this scope did not follow each other without a pause"


def test_rapl_counter_that_turns_over_gives_energy(tmp_path: Path) -> None:
    def at(seconds: float, microjoules: int) -> object:
        plant(
            tmp_path,
            {
                f"{RAPL}/name": b"package-0\n",
                f"{RAPL}/energy_uj": b"%d\n" % microjoules,
                f"{RAPL}/max_energy_range_uj": b"100000000\n",
            },
        )
        return read_state(tmp_path).model_copy(update={"monotonic_ns": round(seconds * 1e9)})

    states = [at(0.0, 80_000_000), at(1.0, 90_000_000), at(2.0, 5_000_000), at(3.0, 77_000_000)]
    # 15 J between the looks at 1 s and 2 s, over a turn; the scope lasted 2 s and had 100 runs.
    (found,) = energy_per_inference("invoke", states, (round(0.5e9), round(2.5e9)), 100)  # type: ignore[arg-type]
    assert found.meter == "intel-rapl:0 package-0"
    assert found.watts.value == pytest.approx(15.0)
    assert found.millijoules.value == pytest.approx(15.0 * 2.0 / 100 * 1e3)


def test_energy_that_is_missing_has_its_reason(tmp_path: Path) -> None:
    bare = read_state(tmp_path)
    (found,) = energy_per_inference("invoke", [bare, bare], (0, 1), 1)
    assert (found.meter, found.watts.value) == (None, None)
    assert "no power rail" in (found.millijoules.reason or "")
    assert "RAPL" in (found.millijoules.reason or "")
    rails = {
        f"{INA}/name": b"ina3221\n",
        f"{INA}/in1_label": b"VDD_IN\n",
        f"{INA}/power1_input": b"5000000\n",
    }
    state = read_state(plant(tmp_path / "jetson", rails))
    now = state.monotonic_ns
    (short,) = energy_per_inference("invoke", [state], (now - 1, now + 1), 1)
    assert short.millijoules.reason == "the scope was over before the device was read twice"


def test_scopes_are_measured_with_their_window(bundle: Bundle) -> None:
    begun = time.monotonic_ns()
    (row,) = bench(bundle, QUICK, artifacts=[ONNX]).rows
    assert row.measurement is not None
    invoke, frame = row.measurement.invoke.window_ns, row.measurement.frame.window_ns
    assert invoke is not None
    assert frame is not None
    assert begun < invoke[0] < invoke[1] <= frame[0] < frame[1] < time.monotonic_ns()
    assert sum(row.measurement.invoke.samples_ns) <= invoke[1] - invoke[0]
    assert row.watched is not None
    assert row.watched.before.monotonic_ns < invoke[0]
    assert frame[1] < row.watched.after.monotonic_ns
