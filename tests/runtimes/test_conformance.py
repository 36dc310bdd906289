"""What every runtime must do alike, whatever the engine behind it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from nanonet_edge import contract
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import NanonetEdgeError, RuntimeFailure, TensorError, UsageError
from nanonet_edge.manifest import record_file
from nanonet_edge.runtimes import Runtime, RuntimeInfo, open_reference, open_runtime, parse_spec
from nanonet_edge.runtimes.keras_reference import reference_contracts, running_threads
from nanonet_edge.runtimes.registry import RUNTIMES
from tests.runtimes.conftest import nanonet_probability
from tests.tiny_bundle import tiny_frames, tiny_reference

SIZE = 64
FRAMES = tiny_frames(2, SIZE)
REFERENCE = tiny_reference(FRAMES)

FP32_MARGIN = 1e-4
COARSE_MARGIN = 0.02  # bfloat16 has 8 bits of mantissa, int8 probabilities steps of 1/256


class Case(NamedTuple):
    spec: str
    artifact: str
    precision: str | None  # what the engine must say it computes in; None where the CPU decides
    margin: float


FP32_TFLITE, INT8_TFLITE = "tiny.fp32.tflite", "tiny.static_wi8_ai8.tflite"
CASES = (
    *(
        case
        for name in ("litert", "litert:no-xnnpack", "tflite-runtime", "tflite-runtime:no-xnnpack", "tf-lite")
        for case in (
            Case(name, FP32_TFLITE, "fp32", FP32_MARGIN),
            Case(name, INT8_TFLITE, "int8", COARSE_MARGIN),
        )
    ),
    Case("onnxruntime", "tiny.fp32.onnx", "fp32", FP32_MARGIN),
    Case("onnxruntime:CPUExecutionProvider", "tiny.fp32.onnx", "fp32", FP32_MARGIN),
    Case("openvino:f32", "tiny.fp32.openvino", "fp32", FP32_MARGIN),
    Case("openvino:f32", "tiny.fp32.onnx", "fp32", FP32_MARGIN),
    Case("openvino:CPU,f32", FP32_TFLITE, "fp32", FP32_MARGIN),
    Case("openvino", "tiny.fp32.openvino", None, COARSE_MARGIN),
)
REFERENCE_CASES = tuple(
    Case(spec, "the reference", "fp32", FP32_MARGIN) for spec in ("keras", "keras:predict")
)


def name_of(case: Case) -> str:
    return f"{case.spec}-{case.artifact}"


@pytest.fixture(params=CASES, ids=name_of)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    obstacle = RUNTIMES[parse_spec(found.spec).name].obstacle()
    if obstacle is not None:
        pytest.skip(str(obstacle))
    return found


@pytest.fixture
def artifact(case: Case, artifacts: dict[str, Artifact]) -> Artifact:
    return find(artifacts, case)


def find(artifacts: dict[str, Artifact], case: Case) -> Artifact:
    if case.artifact not in artifacts:
        pytest.skip(f"{case.artifact} cannot be made here: its writer is not installed")
    return artifacts[case.artifact]


@dataclass(frozen=True)
class Subject:
    """A model on a runtime, whatever is behind it: `expected` are its probabilities of FRAMES."""

    case: Case
    file: str
    takes: contract.InputContract
    expected: contract.Array
    open: Callable[[], Runtime]

    def tensor(self, index: int = 0) -> contract.Array:
        return contract.preprocess(FRAMES[index], self.takes)


@pytest.fixture(params=(*CASES, *REFERENCE_CASES), ids=name_of)
def subject(request: pytest.FixtureRequest, artifacts: dict[str, Artifact]) -> Subject:
    found: Case = request.param
    if found in REFERENCE_CASES:
        bundle: Bundle = request.getfixturevalue("nanonet")
        takes, _ = reference_contracts(bundle)
        # TensorFlow may have been started by an earlier test, and its threads cannot be changed.
        return Subject(
            found,
            bundle.weights_path.name,
            takes,
            nanonet_probability(bundle, FRAMES),
            lambda: open_reference(bundle, found.spec, running_threads()),
        )
    obstacle = RUNTIMES[parse_spec(found.spec).name].obstacle()
    if obstacle is not None:
        pytest.skip(str(obstacle))
    artifact = find(artifacts, found)
    return Subject(
        found,
        artifact.path.name,
        artifact.record.input,
        REFERENCE,
        lambda: open_runtime(artifact, found.spec),
    )


def tensor(artifact: Artifact, index: int = 0) -> contract.Array:
    return contract.preprocess(FRAMES[index], artifact.record.input)


def test_masks_and_probabilities_are_those_of_the_reference(subject: Subject) -> None:
    with subject.open() as runtime:
        for frame, expected in zip(FRAMES, subject.expected, strict=True):
            probability = runtime.probability(frame)
            assert probability.shape == expected.shape
            np.testing.assert_allclose(probability, expected, atol=subject.case.margin)
            decided = np.abs(expected[..., 0] - 0.5) > subject.case.margin
            assert decided.mean() > 0.8
            np.testing.assert_array_equal(runtime.mask(frame)[decided], (expected[..., 0] > 0.5)[decided])


def test_two_loads_in_one_process_are_independent(subject: Subject) -> None:
    first_x, second_x = subject.tensor(0), subject.tensor(1)
    with subject.open() as first:
        before = first.invoke(first_x)
        with subject.open() as second:
            other = second.invoke(second_x)
            np.testing.assert_array_equal(first.invoke(first_x), before)
            np.testing.assert_array_equal(second.invoke(second_x), other)
        np.testing.assert_array_equal(first.invoke(first_x), before)
    assert not np.array_equal(before, other)


def test_the_result_belongs_to_the_caller(subject: Subject) -> None:
    x = subject.tensor()
    with subject.open() as runtime:
        kept = runtime.invoke(x)
        copy = kept.copy()
        runtime.invoke(subject.tensor(1))
        np.testing.assert_array_equal(kept, copy)
        kept[...] = 0
        np.testing.assert_array_equal(runtime.invoke(x), copy)
    np.testing.assert_array_equal(x, subject.tensor())


def test_the_number_of_threads_does_not_change_the_mask(case: Case, artifact: Artifact) -> None:
    with (
        open_runtime(artifact, case.spec, threads=1) as one,
        open_runtime(artifact, case.spec, threads=2) as two,
    ):
        assert (one.info.threads, two.info.threads) == (1, 2)
        for frame in FRAMES:
            np.testing.assert_array_equal(one.mask(frame), two.mask(frame))


ODD: dict[str, tuple[Callable[[contract.Array], Any], str]] = {
    "a list": (lambda x: x.tolist(), "expected a NumPy array, found list"),
    "another dtype": (lambda x: x.astype(np.float64), "found float64"),
    "another byte order": (lambda x: x.astype(">f8"), "found >f8"),
    "no batch": (lambda x: x[0], f"found ({SIZE}, {SIZE}, 3)"),
    "a batch of two": (lambda x: np.concatenate([x, x]), f"found (2, {SIZE}, {SIZE}, 3)"),
    "channels first": (lambda x: np.moveaxis(x, 3, 1).copy(), f"found (1, 3, {SIZE}, {SIZE})"),
    "no pixels": (lambda x: x[:, :0], f"found (1, 0, {SIZE}, 3)"),
    "not contiguous": (lambda x: x[:, :, ::-1], "expected a C-contiguous array"),
    "NaN": (lambda x: _with(x, np.nan), "found 1 NaN and 0 infinite"),
    "infinity": (lambda x: _with(x, -np.inf), "found 0 NaN and 1 infinite"),
}


def _with(x: contract.Array, value: float) -> contract.Array:
    changed = x.copy()
    changed[0, 1, 2, 0] = value
    return changed


def test_odd_inputs_are_refused_and_do_no_harm(subject: Subject) -> None:
    x = subject.tensor()
    with subject.open() as runtime:
        before = runtime.invoke(x)
        for name, (distort, message) in ODD.items():
            if name in ("NaN", "infinity") and x.dtype.kind != "f":
                continue
            with pytest.raises(TensorError) as caught:
                runtime.invoke(distort(x))
            assert_one_line(caught.value, subject.file, message)
        np.testing.assert_array_equal(runtime.invoke(x), before)


def test_a_closed_runtime_refuses_to_run(subject: Subject) -> None:
    x = subject.tensor()
    with subject.open() as runtime:
        runtime.invoke(x)
    runtime.close()
    attempts: tuple[Callable[[], object], ...] = (
        lambda: runtime.invoke(x),
        lambda: runtime.invoke_unchecked(x),
        lambda: runtime.time_invoke(x, 1, 0.0),
        lambda: runtime.info,
        runtime.process_memory,
    )
    for attempt in attempts:
        with pytest.raises(RuntimeFailure, match="was closed"):
            attempt()


def test_timing_gives_every_sample(subject: Subject) -> None:
    x = subject.tensor()
    with subject.open() as runtime:
        samples = runtime.time_invoke(x, min_runs=7, min_seconds=0.0)
        assert samples.dtype == np.int64
        assert len(samples) == 7
        assert (samples > 0).all()
        assert len(runtime.time_invoke(x, min_runs=10**9, min_seconds=0.0, max_seconds=0.0)) == 1
        start = time.perf_counter()
        runtime.time_invoke(x, min_runs=1, min_seconds=0.05)
        assert time.perf_counter() - start >= 0.05
        np.testing.assert_array_equal(runtime.invoke_unchecked(x), runtime.invoke(x))
        assert runtime.load_ns > 0


def test_info_says_what_really_runs(subject: Subject) -> None:
    with subject.open() as runtime:
        info = runtime.info
    assert RuntimeInfo.model_validate_json(json.dumps(info.model_dump(mode="json"))) == info
    assert info.name == subject.case.spec.partition(":")[0]
    assert info.version[0].isdigit()
    assert info.device == "CPU"
    if subject.case.precision is None:
        assert info.computed_precision in ("fp32", "bf16", "fp16")
    else:
        assert info.computed_precision == subject.case.precision
    if "no-xnnpack" in subject.case.spec:
        assert info.delegate == "none"


def revouched(artifact: Artifact, folder: Path, data: bytes) -> Artifact:
    """A copy of an artifact whose record vouches for other bytes."""
    files = []
    for old in artifact.record.files:
        path = folder / old.path
        path.write_bytes((artifact.path.parent / old.path).read_bytes())
        if old is artifact.record.files[0]:
            path.write_bytes(data)
        files.append(record_file(path, folder))
    record = artifact.record.model_copy(update={"files": tuple(files)})
    return replace(artifact, path=folder / artifact.path.name, record=record)


@pytest.mark.parametrize("damage", ["empty", "three bytes", "noise", "half"])
def test_a_damaged_file_is_one_line(case: Case, artifact: Artifact, damage: str, tmp_path: Path) -> None:
    data = artifact.path.read_bytes()
    broken = {
        "empty": b"",
        "three bytes": data[:3],
        "noise": np.random.default_rng(0).bytes(len(data)),
        "half": data[: len(data) // 2],
    }[damage]
    for damaged in (
        revouched(artifact, tmp_path, broken),
        replace(artifact, path=tmp_path / artifact.path.name),
    ):
        with pytest.raises(RuntimeFailure) as caught:
            open_runtime(damaged, case.spec)
        assert_one_line(caught.value, artifact.path.name)


def test_an_absent_file_is_one_line(case: Case, artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        open_runtime(replace(artifact, path=tmp_path / artifact.path.name), case.spec)
    assert_one_line(caught.value, artifact.path.name, "found nothing")


MISMATCHES: dict[str, tuple[str, dict[str, object], str]] = {
    "input size": ("input", {"shape": (1, 32, 32, 3)}, "expected shape (1, 32, 32, 3)"),
    "input layout": (
        "input",
        {"shape": (1, 3, SIZE, SIZE), "layout": "nchw"},
        f"found (1, {SIZE}, {SIZE}, 3)",
    ),
    "input dtype": ("input", {"dtype": "uint8"}, "expected dtype uint8"),
    "output shape": ("output", {"shape": (1, SIZE, SIZE, 2)}, f"expected shape (1, {SIZE}, {SIZE}, 2)"),
    "output dtype": ("output", {"dtype": "uint8"}, "expected dtype uint8"),
}


@pytest.mark.parametrize("mismatch", MISMATCHES)
def test_a_file_that_is_not_what_its_manifest_says_is_refused(
    case: Case, artifact: Artifact, mismatch: str
) -> None:
    side, update, message = MISMATCHES[mismatch]
    assert_mismatch(artifact, case.spec, side, update, message)


@pytest.mark.parametrize("side", ["input", "output"])
@pytest.mark.parametrize("update", [{"scale": 1 / 128}, {"zero_point": 3}], ids=["scale", "zero point"])
@pytest.mark.parametrize("spec", ["litert", "tflite-runtime", "tf-lite"])
def test_quantization_that_is_not_what_its_manifest_says_is_refused(
    artifacts: dict[str, Artifact], spec: str, update: dict[str, object], side: str
) -> None:
    obstacle = RUNTIMES[spec].obstacle()
    if obstacle is not None or INT8_TFLITE not in artifacts:
        pytest.skip(str(obstacle or "no TFLite writer is installed"))
    assert_mismatch(artifacts[INT8_TFLITE], spec, side, update, " by its manifest, found ")


def assert_mismatch(
    artifact: Artifact, spec: str, side: str, update: dict[str, object], message: str
) -> None:
    contract_of_side = getattr(artifact.record, side).model_copy(update=update)
    record = artifact.record.model_copy(update={side: contract_of_side})
    with pytest.raises(RuntimeFailure) as caught:
        open_runtime(replace(artifact, record=record), spec)
    assert_one_line(caught.value, artifact.path.name, side, message)


def test_no_thread_is_wrong_use(case: Case, artifact: Artifact) -> None:
    with pytest.raises(UsageError, match="expected at least 1, found 0"):
        open_runtime(artifact, case.spec, threads=0)


#: The memory of tflite-runtime is another process's, which ends with close.
IN_PROCESS = [case for case in CASES if not case.spec.startswith("tflite-runtime")]


@pytest.mark.parametrize("case", IN_PROCESS, indirect=True, ids=name_of)
def test_many_loads_do_not_pile_up(case: Case, artifact: Artifact) -> None:
    x = tensor(artifact)
    resident = [_resident_bytes()]
    for _ in range(5):
        for _ in range(8):
            with open_runtime(artifact, case.spec) as runtime:
                runtime.invoke(x)
        resident.append(_resident_bytes())
    # Allocators settle in jumps, at any time; only a leak grows with every batch.
    assert np.diff(resident).min() < 8 * x.nbytes / 4


def _resident_bytes() -> int:
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell the resident set")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_one_line(error: NanonetEdgeError, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 700
    for part in parts:
        assert part in text, text
