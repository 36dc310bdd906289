"""`bench --device`: here, there, or nowhere; and what a throttled device does to the table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nanonet_edge.benchmarks.bench import bench as run_bench
from nanonet_edge.bundle import Bundle
from nanonet_edge.cli import bench_target, remote
from nanonet_edge.cli.main import app
from nanonet_edge.devices import EnergyPerInference, read_state
from nanonet_edge.figures import Figure
from nanonet_edge.manifest import MANIFEST_NAME, record_file
from nanonet_edge.results import BenchResult, load_result
from nanonet_edge.variants import Format
from tests.benchmarks.bench_fakes import measurement, replay
from tests.nanonet_edge.devices.trees import ACCELERATORS, BOARDS, plant
from tests.tiny_bundle import make_tiny_bundle

ONNX = "tiny.fp32.onnx"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, bytes]], Path]:
    """Makes this machine describe itself as another, and measure nothing."""

    monkeypatch.setitem(
        run_bench.__kwdefaults__, "start", replay(lambda load: measurement(load.spec, [3.0, 1.0, 2.0]))
    )
    monkeypatch.delenv("NANONET_EDGE_DEVICE_JETSON", raising=False)

    def describe(files: dict[str, bytes]) -> Path:
        root = plant(tmp_path / "root", files)
        monkeypatch.setattr(bench_target, "ROOT", root)
        return root

    return describe


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def saved(bundle: Path) -> BenchResult:
    return load_result(bundle.with_name("tiny.results") / "bench.json", BenchResult)


def test_device_that_this_machine_is_is_measured_here(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path]
) -> None:
    machine(BOARDS["raspberry-pi-5"])
    done = run(bundle, "--device", "raspberry-pi", "--artifact", ONNX)
    assert done.exit_code == 0, done.output
    assert "raspberry-pi-5 (Raspberry Pi 5 Model B), detected" in done.stderr
    assert "raspberry-pi-5 was recognised here" in done.stderr
    assert "measured on this machine (raspberry-pi-5, " in done.stdout
    result = saved(bundle)
    assert (result.settings.device, result.detected) == ("raspberry-pi-5", ("raspberry-pi-5",))


def test_cpu_is_this_machine_and_says_which(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path]
) -> None:
    machine(BOARDS["raspberry-pi-4"])
    assert run(bundle, "--artifact", ONNX).exit_code == 0
    assert (saved(bundle).settings.device, saved(bundle).detected) == ("cpu", ("raspberry-pi-4",))


def test_throttled_run_is_marked_and_its_figures_are_not_printed(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path]
) -> None:
    machine({**BOARDS["raspberry-pi-5"], FIRMWARE: b"50005\n"})
    done = run(bundle, "--device", "raspberry-pi-5", "--artifact", ONNX)
    assert done.exit_code == 1, done.output
    assert "does not count" in done.stdout
    assert "2.00" not in done.stdout
    said = f"does not count: {ONNX} on onnxruntime: undervoltage (get_throttled 0x50005)"
    assert said in done.stderr
    assert said in done.stdout
    (row,) = saved(bundle).rows
    assert row.measurement is not None
    assert row.objection == "undervoltage (get_throttled 0x50005); throttled (get_throttled 0x50005)"


def test_jetson_without_an_engine_for_its_gpu_gives_its_cpus_figures_and_says_so(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path]
) -> None:
    machine(BOARDS["jetson-orin-nano"])
    done = run(bundle, "--device", "jetson", "--artifact", ONNX)
    assert done.exit_code == 0, done.output
    assert "nothing here uses the GPU of a NVIDIA Jetson Orin Nano" in done.stderr
    assert "these are figures of its CPU" in done.stderr
    assert [row.spec for row in saved(bundle).rows] == ["onnxruntime"]


def test_jetson_is_measured_on_its_gpu_too(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = {"onnxruntime:tensorrt,fp16", "tensorrt:fp16", "tensorrt:int8"}
    monkeypatch.setattr(
        "nanonet_edge.runtimes.registry.obstacle_to",
        lambda spec: None if spec in usable else ValueError(spec),
    )
    monkeypatch.setattr("nanonet_edge.benchmarks.plan.obstacle_to", lambda spec: None)
    machine(BOARDS["jetson-orin-nano"])
    assert run(bundle, "--device", "jetson", "--artifact", ONNX).exit_code == 0
    # int8 has no ranges to start from in this bundle.
    assert [row.spec for row in saved(bundle).rows] == ["onnxruntime", *sorted(usable - {"tensorrt:int8"})]
    assert run(bundle, "--device", "jetson", "--artifact", ONNX, "--runtime", "onnxruntime").exit_code == 0


def test_accelerator_measures_what_was_compiled_for_it_and_nothing_else(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonet_edge.runtimes.registry.obstacle_to", lambda spec: None)
    machine({**BOARDS["raspberry-pi-5"], **ACCELERATORS["coral-usb"]})
    done = run(bundle, "--device", "coral-usb")
    assert done.exit_code == 2
    assert "expected an artifact compiled for the Coral USB Accelerator, found none" in done.stderr
    path = bundle / "tiny.edgetpu.tflite"
    path.write_bytes(b"1234TFL3 edgetpu-custom-op")
    manifest = Bundle.open(bundle).manifest
    record = manifest.artifacts[0].model_copy(
        update={"name": path.name, "format": Format.TFLITE, "files": (record_file(path, bundle),)}
    )
    more = manifest.model_copy(update={"artifacts": (*manifest.artifacts, record)})
    (bundle / MANIFEST_NAME).write_text(more.to_json())
    assert run(bundle, "--device", "coral-usb").exit_code == 0
    (row,) = saved(bundle).rows
    assert (row.artifact, row.spec) == (path.name, "litert:edgetpu")


def test_accelerator_without_its_library_is_refused(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path]
) -> None:
    machine({**BOARDS["raspberry-pi-5"], **ACCELERATORS["coral-usb"]})
    done = run(bundle, "--device", "coral-usb")
    assert done.exit_code == 2
    assert "nothing here uses the TPU of a Coral USB Accelerator" in done.stderr
    assert not bundle.with_name("tiny.results").exists()


@pytest.mark.parametrize(("device", "expected"), [("jetson", "jetson"), ("cpu", None)])
def test_named_host_is_measured_there(
    device: str, expected: str | None, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(remote, "bench_hosts", lambda bundle, settings, **more: asked.update(more, b=bundle))
    monkeypatch.delenv("NANONET_EDGE_DEVICE_JETSON", raising=False)
    done = run(bundle, "--device", device, "--host", "me@board", "--artifact", ONNX, "--json")
    assert done.exit_code == 0, done.output
    assert asked == {
        "b": bundle,
        "host": "me@board",
        "hosts": None,
        "runtimes": None,
        "artifacts": [ONNX],
        "device": expected,
        "output": None,
        "as_json": True,
    }


def test_device_that_is_nowhere_is_predicted_and_nobody_can_take_it_for_measured(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path]
) -> None:
    machine(BOARDS["generic-x86-64"])
    done = run(bundle, "--device", "raspberry-pi-5")
    assert done.exit_code == 0, done.output
    assert "no raspberry-pi-5 (Raspberry Pi 5 Model B): nothing is measured" in done.stderr
    assert "predicted, not measured: Raspberry Pi 5 Model B" in done.stdout
    assert "measured on" not in done.stdout
    line = f"nanonet-edge bench {bundle} --device raspberry-pi-5 --host user@board"
    assert f"to measure: {line}" in done.stderr.replace("\n", "")
    folder = bundle.with_name("tiny.results")
    assert [path.name for path in folder.iterdir()] == ["predict-raspberry-pi-5.json"]
    told = json.loads((folder / "predict-raspberry-pi-5.json").read_text())
    assert (told["kind"], told["obtained"]) == ("predict", "predicted")


def test_predictions_of_some_artifacts_as_json(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path], tmp_path: Path
) -> None:
    machine(BOARDS["generic-x86-64"])
    path = tmp_path / "p.json"
    done = run(bundle, "--device", "jetson", "--artifact", ONNX, "--json", "--output", path)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [row["artifact"] for row in told["rows"]] == [ONNX]
    assert (told["device"], told["obtained"]) == ("jetson-orin-nano", "predicted")
    assert json.loads(path.read_text()) == told
    assert "jetson-orin-nano (NVIDIA Jetson Orin Nano 8 GB), default" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--fps", "25"], 2, "--fps: expected to measure"),
        (["--runtime", "litert", "--reference"], 2, "--runtime, --reference: expected to measure"),
        (["--artifact", "banana"], 3, "expected an artifact named 'banana'"),
    ],
)
def test_what_a_prediction_cannot_give_is_refused(
    arguments: list[str],
    code: int,
    message: str,
    bundle: Path,
    machine: Callable[[dict[str, bytes]], Path],
) -> None:
    machine(BOARDS["generic-x86-64"])
    done = run(bundle, "--device", "raspberry-pi-5", *arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""
    assert not bundle.with_name("tiny.results").exists()


def test_energy_has_a_table_of_its_own(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = EnergyPerInference(
        scope="invoke",
        meter="VDD_IN",
        watts=Figure(obtained="measured", unit="W", value=3.913),
        millijoules=Figure(obtained="measured", unit="mJ", value=12.345),
    )
    monkeypatch.setattr(
        "nanonet_edge.benchmarks.watch.energy_per_inference",
        lambda scope, *_: (energy,) if scope == "invoke" else (),
    )
    machine(BOARDS["jetson-orin-nano"])
    done = run(bundle, "--artifact", ONNX)
    assert done.exit_code == 0, done.output
    for word in ("VDD_IN", "3.91", "12.35", "idle power included"):
        assert word in done.stdout
    done = run(bundle, "--artifact", ONNX, "--json")
    assert json.loads(done.stdout)["rows"][0]["watched"]["energy"][0]["millijoules"]["value"] == 12.345


def test_no_energy_has_a_reason_in_the_json(
    bundle: Path, machine: Callable[[dict[str, bytes]], Path]
) -> None:
    root = machine(BOARDS["raspberry-pi-5"])
    assert not read_state(root).rails
    assert run(bundle, "--artifact", ONNX).exit_code == 0
    (row,) = saved(bundle).rows
    assert row.watched is not None
    assert {one.millijoules.value for one in row.watched.energy} == {None}
    assert all("no power rail" in (one.millijoules.reason or "") for one in row.watched.energy)
