"""An emulated board held against the host and the reference, with a program that plays QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.agreement_result import Thresholds
from nanonet_edge.benchmarks.emulation.cache import Place
from nanonet_edge.benchmarks.emulation.emulator import Emulator
from nanonet_edge.benchmarks.emulation.machines import AARCH64, ARMV7
from nanonet_edge.benchmarks.emulation.result import EmulatedResult, EmulatedRow
from nanonet_edge.benchmarks.emulation.verify import (
    answered_images,
    core_of,
    golden_frames,
    host_spec,
    select_jobs,
    verify_emulated,
)
from nanonet_edge.bundle import Bundle
from nanonet_edge.devices import load_catalogue
from nanonet_edge.errors import BundleError, UnsupportedError
from nanonet_edge.results import load_result, save_result
from nanonet_edge.runtimes import open_runtime
from tests.benchmarks.agreement_fakes import FakeReference, write_dataset
from tests.benchmarks.emulation.fakes import HONEST, SHIFTED, plant, program, use
from tests.tiny_bundle import make_tiny_bundle

SIZE = 32
EASY = Thresholds(mean_dice=0.5, p5_dice=0.5)

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bundle"), SIZE))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    use(monkeypatch, tmp_path / "bin")
    return plant(tmp_path / "cache")


def emulator(place: Place, body: str) -> Emulator:
    program(place.cache.parent / "bin", "qemu-aarch64-static", body)
    return Emulator(place, "cortex-a72")


def row(result: EmulatedResult) -> EmulatedRow:
    (found,) = result.rows
    return found


def test_same_engine_gives_the_same(bundle: Bundle, place: Place, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    result = verify_emulated(
        bundle,
        golden_frames(bundle, 2),
        emulator(place, HONEST),
        device="raspberry-pi-4",
        progress=lambda *step: seen.append(step),
    )
    assert [one.artifact for one in result.rows] == ["tiny.fp32.onnx", "tiny.fp16.onnx"]
    assert result.passed
    for one in result.rows:
        assert one.raw is not None
        assert one.raw.is_identical
        assert one.raw.values == 2 * SIZE * SIZE
        assert one.host_dice == (1.0, 1.0)
        assert one.host_spec == one.engine == "onnxruntime"
    (skipped,) = result.skipped
    assert skipped.artifact == "tiny.fp32.openvino"
    assert "cannot load openvino" in skipped.reason
    assert result.obtained == "emulated"
    assert (result.emulated.device, result.emulated.core) == ("raspberry-pi-4", "cortex-a72")
    assert result.emulated.qemu == "7.2.22"
    assert result.emulated.contents == {"python3": "3.11.2-1+b1", "onnxruntime": "1.32.0"}
    assert seen[:3] == [("tiny.fp32.onnx on onnxruntime", done, 2) for done in range(3)]
    save_result(result, tmp_path / "verify.json")
    assert load_result(tmp_path / "verify.json", EmulatedResult) == result


def test_result_holds_no_time(bundle: Bundle, place: Place) -> None:
    result = verify_emulated(
        bundle, golden_frames(bundle, 1), emulator(place, HONEST), device="d", artifacts=["tiny.fp32.onnx"]
    )
    text = result.model_dump_json()
    for word in ("_ms", "_ns", "seconds", "latency", "fps"):
        assert word not in text


def test_outputs_that_are_off_fail(bundle: Bundle, place: Place) -> None:
    result = verify_emulated(
        bundle,
        golden_frames(bundle, 2),
        emulator(place, SHIFTED),
        device="d",
        artifacts=["tiny.fp32.onnx"],
        thresholds=EASY,
    )
    found = row(result)
    assert not result.passed
    assert found.raw is not None
    assert found.raw.max_difference == pytest.approx(0.001, rel=1e-3)
    (reason,) = found.reasons
    assert reason == (
        "expected outputs within 0.0001 of guest and host, "
        f"found {found.raw.differing} of {found.raw.values} values to differ, by up to 0.001"
    )


def test_masks_are_judged_against_the_reference(bundle: Bundle, place: Place) -> None:
    result = verify_emulated(
        bundle,
        golden_frames(bundle),
        emulator(place, HONEST),
        device="d",
        artifacts=["tiny.fp16.onnx"],
        thresholds=Thresholds(mean_dice=1.0, p5_dice=0.5),
    )
    found = row(result)
    assert found.raw is not None
    assert found.raw.is_identical
    assert found.summary is not None
    with open_runtime(bundle.artifact("tiny.fp16.onnx")) as runtime:
        golden = bundle.golden()
        expected = []
        for frame, reference in zip(golden.frames, golden.probability, strict=True):
            ours, theirs = runtime.mask(frame) == 1, reference[..., 0] > 0.5
            expected.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
    assert found.summary.mean_dice == pytest.approx(np.mean(expected))
    assert not found.passed
    assert "mean Dice" in found.reasons[0]


def test_guest_that_crashes_fails_its_row_alone(bundle: Bundle, place: Place) -> None:
    body = f"if 'fp16' in json.load(open(job))['model']:\n    os.kill(os.getpid(), signal.SIGSEGV)\n{HONEST}"
    result = verify_emulated(bundle, golden_frames(bundle, 1), emulator(place, body), device="d")
    assert [one.passed for one in result.rows] == [True, False]
    failed = result.rows[1]
    assert failed.failure == "tiny.fp16.onnx on emulated onnxruntime: it was killed by SIGSEGV"
    assert failed.raw is None


def test_images_are_answered_by_the_reference(bundle: Bundle, tmp_path: Path) -> None:
    data = VerificationData.from_folder(write_dataset(tmp_path / "kvasir"), limit=2)
    answered = answered_images(bundle, data, FakeReference(bundle.weights_path, SIZE))
    assert (answered.record.source, answered.record.count) == ("images", 2)
    assert answered.record.digest == data.record.digest
    assert answered.probability.shape == (2, SIZE, SIZE, 1)
    assert answered.names == tuple(item.name for item in data)


def test_golden_frames_come_with_their_answers(bundle: Bundle) -> None:
    answered = golden_frames(bundle, 3)
    golden = bundle.golden()
    np.testing.assert_array_equal(np.stack(answered.frames), golden.frames[:3])
    np.testing.assert_array_equal(answered.probability, golden.probability[:3])
    assert answered.record.count == len(answered.names) == 3


def test_jobs_are_what_the_machine_can_run(bundle: Bundle) -> None:
    pairs, skipped = select_jobs(bundle, AARCH64, ["tiny.fp16.onnx"])
    assert [(artifact.name, engine) for artifact, engine in pairs] == [("tiny.fp16.onnx", "onnxruntime")]
    assert skipped == ()
    with pytest.raises(UnsupportedError, match="no artifact that armv7 can run"):
        select_jobs(bundle, ARMV7)
    with pytest.raises(UnsupportedError, match="'openvino' is not set up on aarch64: expected one of litert"):
        select_jobs(bundle, AARCH64, engines=["openvino"])
    with pytest.raises(BundleError, match="named 'other'"):
        select_jobs(bundle, AARCH64, ["other"])


@pytest.mark.parametrize(
    ("device", "core"),
    [
        ("raspberry-pi-zero-2w", "cortex-a53"),
        ("jetson-nano", "cortex-a57"),
        ("raspberry-pi-4", "cortex-a72"),
        ("jetson-orin-nano", "cortex-a76"),
    ],
)
def test_core_is_the_devices(device: str, core: str) -> None:
    profile = load_catalogue().profiles[device]
    assert core_of(profile, AARCH64) == core
    assert core_of(profile, ARMV7) == "max"


def test_what_cannot_be_emulated_says_why() -> None:
    profile = load_catalogue().profiles["coral-usb"]
    with pytest.raises(UnsupportedError, match="coral-usb cannot be emulated: the Edge TPU"):
        core_of(profile, AARCH64)


def test_core_that_cannot_be_described_is_refused() -> None:
    profile = load_catalogue().profiles["raspberry-pi-4"]
    core = profile.emulation.qemu_cpu.model_copy(update={"value": "cortex-x9"})
    own = profile.model_copy(update={"emulation": profile.emulation.model_copy(update={"qemu_cpu": core})})
    with pytest.raises(UnsupportedError, match=r"expected a core among cortex-a53, .*, found cortex-x9"):
        core_of(own, AARCH64)


def test_host_runs_the_same_engine_where_it_is_installed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = bundle.artifact("tiny.fp32.onnx")
    assert host_spec(artifact, "onnxruntime") == "onnxruntime"
    monkeypatch.setattr(
        "nanonet_edge.runtimes.onnx_runtime.OnnxRuntime.obstacle",
        classmethod(lambda cls: UnsupportedError("no")),
    )
    assert host_spec(artifact, "onnxruntime") == "openvino"
