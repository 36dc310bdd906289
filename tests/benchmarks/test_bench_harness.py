from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nanonet_edge.benchmarks.harness_check import (
    CHECKS,
    DEFAULT_ROUNDS,
    HarnessCheck,
    benchmark_app,
    check_onnxruntime,
    main,
)
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.manifest import MANIFEST_NAME, Manifest, record_file
from nanonet_edge.variants import Format
from tests.tiny_bundle import INPUT_NAME, OUTPUT_NAME, make_tiny_bundle, write_tiny_openvino


@pytest.mark.parametrize(
    ("harness", "tool", "agrees"),
    [
        ((10.0, 14.0), (10.2, 11.0), True),
        ((10.4, 14.0), (10.0, 11.0), False),
        ((9.6, 14.0), (10.0, 11.0), False),
    ],
)
def test_quietest_rounds_are_compared_within_three_percent(
    harness: tuple[float, ...], tool: tuple[float, ...], agrees: bool
) -> None:
    check = HarnessCheck("a", "openvino", "benchmark_app", harness, tool)
    assert check.ratio == harness[0] / tool[0]
    assert check.agrees is agrees
    assert ("agrees" in str(check)) is agrees


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
    check = CHECKS[file_format](bundle, artifact, threads=1, rounds=DEFAULT_ROUNDS)
    assert check.agrees, str(check)
