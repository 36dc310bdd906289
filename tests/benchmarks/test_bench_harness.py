from __future__ import annotations

from pathlib import Path

import pytest

from nanonet_edge.benchmarks.harness_check import (
    CHECKS,
    HarnessCheck,
    benchmark_app,
    check_onnxruntime,
    main,
)
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import RuntimeFailure
from nanonet_edge.variants import Format
from tests.tiny_bundle import make_tiny_bundle


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
    with pytest.raises(RuntimeFailure, match="no.xml: benchmark_app gave no median"):
        benchmark_app(tmp_path / "no.xml", 1)


def test_command_reports_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 3
    assert "expected a bundle folder" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("file_format", list(CHECKS))
def test_p50_is_within_three_percent_of_the_engines_own_tool(file_format: Format, tmp_path: Path) -> None:
    # Large, so that an invocation takes milliseconds and copying its input is a small part.
    bundle = Bundle.open(make_tiny_bundle(tmp_path / "tiny", size=1024))
    artifact = next(one for one in bundle.artifacts if one.record.format is file_format)
    check = CHECKS[file_format](bundle, artifact, threads=1, rounds=7)
    assert check.agrees, str(check)
