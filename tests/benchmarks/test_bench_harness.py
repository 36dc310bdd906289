from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nanonet_edge.benchmarks import harness_check
from nanonet_edge.benchmarks.harness_check import (
    CHECKS,
    MOST_ROUNDS,
    QUIET_ROUNDS,
    ROUND_SECONDS,
    HarnessCheck,
    benchmark_app,
    check_onnxruntime,
    check_openvino,
    main,
)
from nanonet_edge.benchmarks.worker_protocol import RoundRequest
from nanonet_edge.bundle import Artifact, Bundle
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.manifest import MANIFEST_NAME, Manifest, record_file
from nanonet_edge.variants import Format
from tests.tiny_bundle import INPUT_NAME, OUTPUT_NAME, make_tiny_bundle, write_tiny_openvino


@pytest.mark.parametrize(
    ("harness", "tool", "verdict"),
    [
        ((10.0, 10.1, 10.0, 14.0), (10.2, 10.2, 10.2, 11.0), "agrees"),
        ((10.4, 10.4, 10.4, 14.0), (10.0, 10.0, 10.0, 11.0), "differs"),
        ((9.6, 9.6, 9.6, 14.0), (10.0, 10.0, 10.0, 11.0), "differs"),
        ((10.0, 11.0, 12.0, 14.0), (10.0, 10.0, 10.0, 10.0), "undecided"),
    ],
)
def test_quietest_rounds_are_compared_within_three_percent(
    harness: tuple[float, ...], tool: tuple[float, ...], verdict: str
) -> None:
    check = HarnessCheck("a", "openvino", "benchmark_app", harness, tool)
    assert check.ratio == harness[0] / tool[0]
    assert check.verdict == verdict
    assert verdict in str(check)


@pytest.mark.parametrize(
    ("tool", "quiet"),
    [((10.0, 10.1, 10.1, 15.0), True), ((10.0, 10.1, 12.0, 12.0), False), ((10.0, 10.0), False)],
)
def test_side_is_quiet_when_its_best_round_was_no_stroke_of_luck(
    tool: tuple[float, ...], quiet: bool
) -> None:
    assert HarnessCheck("a", "openvino", "benchmark_app", (10.0,) * 3, tool).quiet is quiet


def test_busy_machine_decides_nothing_but_for_the_same_runs() -> None:
    sides = ("a", "openvino", "benchmark_app", (10.0, 14.0), (10.0, 15.0))
    assert str(HarnessCheck(*sides)).endswith("not quiet in 2 rounds: undecided")
    assert HarnessCheck(*sides, same_runs=True).verdict == "agrees"


def test_rounds_end_when_both_sides_are_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    artifact = bundle.artifact("tiny.fp32.openvino")
    ours, theirs = iter([5.0, 9.0, 5.01, 5.02, 5.0]), iter([8.0, 5.1, 7.0, 5.11, 5.1])
    monkeypatch.setattr(harness_check, "Worker", lambda request: FakeWorker(ours))
    monkeypatch.setattr(harness_check, "benchmark_app", lambda model, threads: next(theirs))
    check = check_openvino(bundle, artifact, threads=1, rounds=MOST_ROUNDS)
    assert check.harness_ms == (5.0, 9.0, 5.01, 5.02, 5.0)
    assert check.verdict == "agrees"


def test_rounds_end_when_quiet_though_the_sides_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    monkeypatch.setattr(harness_check, "Worker", lambda request: FakeWorker(itertools.repeat(6.0)))
    monkeypatch.setattr(harness_check, "benchmark_app", lambda model, threads: 5.0)
    check = check_openvino(bundle, bundle.artifact("tiny.fp32.openvino"), threads=1, rounds=MOST_ROUNDS)
    assert len(check.harness_ms) == len(check.tool_ms) == QUIET_ROUNDS
    assert check.verdict == "differs"


def test_rounds_that_agree_but_are_not_quiet_go_on_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    restless = itertools.count(5.0, -0.2)
    monkeypatch.setattr(harness_check, "Worker", lambda request: FakeWorker(restless))
    monkeypatch.setattr(harness_check, "benchmark_app", lambda model, threads: 5.0)
    check = check_openvino(bundle, bundle.artifact("tiny.fp32.openvino"), threads=1, rounds=6)
    assert len(check.harness_ms) == 6
    assert check.verdict == "undecided"


@pytest.mark.parametrize("verdict", ["agrees", "differs", "undecided"])
def test_exit_code_is_0_only_for_agreement(
    verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = {"agrees": (5.0,) * 3, "differs": (6.0,) * 3, "undecided": (5.0, 6.0, 7.0)}[verdict]

    def check(_: Bundle, artifact: Artifact, **__: int) -> HarnessCheck:
        return HarnessCheck(artifact.name, "openvino:f32", "benchmark_app", rounds, (5.0,) * 3)

    monkeypatch.setattr(harness_check, "CHECKS", {Format.OPENVINO: check})
    assert main([str(make_tiny_bundle(tmp_path / "tiny"))]) == (0 if verdict == "agrees" else 1)
    assert verdict in capsys.readouterr().out


WRONG = {
    "unknown artifact": (["--artifact", "banana"], 3, "expected an artifact named 'banana'"),
    "no tool": (["--artifact", "tiny.fp32.openvino"], 2, "no engine of openvino brings a tool"),
    "no rounds": (["--rounds", "0"], 2, "--rounds: expected at least 1, found 0"),
    "no threads": (["--threads", "-1"], 2, "--threads: expected at least 1, found -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_checks_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, code, message = WRONG[case]
    monkeypatch.setattr(harness_check, "CHECKS", {Format.ONNX: pytest.fail})
    assert main([str(make_tiny_bundle(tmp_path / "tiny")), *arguments]) == code
    assert message in capsys.readouterr().err


def test_bundle_in_which_nothing_can_be_checked_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness_check, "CHECKS", {Format.TFLITE: pytest.fail})
    assert main([str(make_tiny_bundle(tmp_path / "tiny"))]) == 2
    assert "expected artifacts in tflite, found none: nothing to check" in capsys.readouterr().err


class FakeWorker:
    """Answers each round but the warm-up with a latency in milliseconds."""

    def __init__(self, latencies_ms: Iterator[float]) -> None:
        self._latencies_ms = latencies_ms

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def load(self) -> None:
        pass

    def round(self, request: RoundRequest) -> tuple[int, ...]:
        if request.min_seconds < ROUND_SECONDS:
            return (1,)
        return (round(next(self._latencies_ms) * 1e6),)


def test_profiler_sees_every_run_of_the_harness(tmp_path: Path) -> None:
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny"))
    check = check_onnxruntime(bundle, bundle.artifact("tiny.fp32.onnx"), threads=1, rounds=1)
    # From outside a run takes at least as long as from inside, whatever the machine does.
    assert check.harness_ms[0] >= check.tool_ms[0] > 0


def test_benchmark_app_that_fails_is_reported(tmp_path: Path) -> None:
    (tmp_path / "no.xml").write_text("<net/>")
    with pytest.raises(RuntimeFailure, match=r"no\.xml: benchmark_app gave no median"):
        benchmark_app(tmp_path / "no.xml", 1)


def test_command_reports_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 3
    assert "expected a bundle folder" in capsys.readouterr().err


def make_busy_bundle(root: Path, size: int = 128, width: int = 32, layers: int = 3) -> Path:
    """The tiny bundle with a network that computes for milliseconds on little data, as NanoNet does.

    On a network that mostly moves memory, the two tools differ by where their arrays lie.
    """
    make_tiny_bundle(root, size)
    generator = np.random.default_rng(0)
    channels = [3, *[width] * layers, 1]
    nodes = [helper.make_node("Transpose", [INPUT_NAME], ["x0"], perm=[0, 3, 1, 2])]
    weights = []
    for index, (taken, given) in enumerate(itertools.pairwise(channels)):
        kernel = generator.normal(0, 0.1, (given, taken, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{index}"))
        inputs, outputs = [f"x{index}", f"kernel{index}"], [f"x{index + 1}"]
        nodes.append(helper.make_node("Conv", inputs, outputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Sigmoid", [f"x{len(channels) - 1}"], [OUTPUT_NAME]))
    takes = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, size, size, 3])
    gives = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, 1, size, size])
    graph = helper.make_graph(nodes, "busy", [takes], [gives], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(root / "tiny.fp32.onnx"))
    write_tiny_openvino(root / "tiny.fp32.xml", root / "tiny.fp32.onnx")
    path = root / MANIFEST_NAME
    manifest = Manifest.model_validate_json(path.read_text())
    artifacts = tuple(
        record.model_copy(
            update={"files": tuple(record_file(root / file.path, root) for file in record.files)}
        )
        for record in manifest.artifacts
    )
    path.write_text(manifest.model_copy(update={"artifacts": artifacts}).to_json())
    return root


@pytest.mark.slow
@pytest.mark.parametrize("file_format", list(CHECKS))
def test_p50_is_within_three_percent_of_the_engines_own_tool(file_format: Format, tmp_path: Path) -> None:
    bundle = Bundle.open(make_busy_bundle(tmp_path / "busy"))
    artifact = next(one for one in bundle.artifacts if one.record.format is file_format)
    check = CHECKS[file_format](bundle, artifact, threads=1, rounds=MOST_ROUNDS)
    if check.verdict == "undecided":
        pytest.skip(str(check))
    assert check.verdict == "agrees", str(check)
