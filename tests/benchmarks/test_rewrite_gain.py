from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanonet_edge.benchmarks.rewrite_gain import main, summarize_gain
from nanonet_edge.bundle import Bundle
from nanonet_edge.results import Duel, FailedDuel, Ratio, results_folder, save_result
from tests.benchmarks.bench_fakes import bench_result, runtime_record
from tests.tiny_bundle import make_tiny_bundle


def duel(contender: str, speedup: float, spec: str = "litert") -> Duel:
    return Duel(
        obtained="measured",
        contender=contender,
        baseline=f"straight.{contender}",
        spec=spec,
        runtime=runtime_record(spec),
        noise_floor=Ratio(value=1.0, low=0.99, high=1.01, confidence=0.95),
        speedup=Ratio(value=speedup, low=speedup - 0.1, high=speedup + 0.1, confidence=0.95),
        verdict="faster",
        rounds=2,
        contender_rounds_ns=((1,), (1,)),
        baseline_rounds_ns=((1,), (1,)),
    )


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    """Two bundles with the results of their duels: 2x and 8x, 4x on another runtime."""
    made = []
    for name, duels in (("a", [duel("a", 2.0), duel("a", 4.0, "openvino")]), ("b", [duel("b", 8.0)])):
        root = make_tiny_bundle(tmp_path / name)
        result = bench_result(Bundle.open(root), []).model_copy(update={"duels": tuple(duels)})
        save_result(result, results_folder(root) / "bench.json")
        made.append(root)
    return made


def test_gain_is_the_geometric_mean_and_the_smallest() -> None:
    gain = summarize_gain([duel("a", 2.0), duel("b", 8.0), duel("c", 4.0, "openvino")])
    assert gain.count == 3
    assert gain.geometric_mean == pytest.approx(4.0)
    assert (gain.smallest, gain.smallest_artifact, gain.smallest_spec) == (2.0, "a", "litert")
    assert str(gain) == "geometric mean of 3 speed-ups: 4.00x; smallest: 2.00x, a on litert"


def test_no_duel_has_no_mean() -> None:
    with pytest.raises(ValueError, match="found none"):
        summarize_gain([])


def test_bundles_are_joined(bundles: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*map(str, bundles), "--spec", "litert", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["count"], told["smallest"]) == (2, 2.0)
    assert told["geometric_mean"] == pytest.approx(4.0)
    assert [(one["contender"], one["speedup"]["value"]) for one in told["duels"]] == [("a", 2.0), ("b", 8.0)]


def test_every_duel_is_printed(bundles: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(results_folder(bundles[0]) / "bench.json"), str(bundles[1])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "a on openvino: 4.00x (3.90 to 4.10), faster"
    assert lines[-1] == "geometric mean of 3 speed-ups: 4.00x; smallest: 2.00x, a on litert"


def test_result_without_the_duels_is_bad_input(
    bundles: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*map(str, bundles), "--spec", "openvino"]) == 3
    assert "b.results/bench.json: expected duels on openvino, found none" in capsys.readouterr().err


def test_failed_duel_is_not_left_out_silently(
    bundles: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = results_folder(bundles[0]) / "bench.json"
    failed = FailedDuel(contender="a", baseline="straight.a", spec="litert", failure="it was refused")
    result = bench_result(Bundle.open(bundles[0]), [])
    save_result(result.model_copy(update={"duels": (duel("a", 2.0),), "failed_duels": (failed,)}), path)
    assert main([str(path)]) == 3
    assert "found it was refused" in capsys.readouterr().err


def test_artifact_without_a_counterpart_is_named(
    bundles: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = results_folder(bundles[0]) / "bench.json"
    reason = "a2: straight holds no straight tflite artifact in mixed"
    alone = FailedDuel(contender="a2", baseline=None, spec="litert", failure=reason)
    result = bench_result(Bundle.open(bundles[0]), [])
    save_result(result.model_copy(update={"duels": (duel("a", 2.0),), "failed_duels": (alone,)}), path)
    assert main([str(path)]) == 0
    assert capsys.readouterr().err == f"not compared: {reason}\n"
    assert main([str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["without_counterpart"] == [{"contender": "a2", "spec": "litert", "failure": reason}]


def test_bundle_that_was_not_benched_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(make_tiny_bundle(tmp_path / "c"))]) == 3
    assert "expected a result, found nothing" in capsys.readouterr().err
