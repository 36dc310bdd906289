from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

import nanonet_edge.export
from nanonet_edge.benchmarks.bench import bench as run_bench
from nanonet_edge.bundle import Bundle
from nanonet_edge.cli.main import app
from nanonet_edge.errors import UsageError
from nanonet_edge.manifest import MANIFEST_NAME, Manifest
from nanonet_edge.results import BenchResult, load_result
from nanonet_edge.variants import Precision
from tests.benchmarks.bench_fakes import start_stand_in
from tests.tiny_bundle import make_tiny_bundle

ONNX = "tiny.fp32.onnx"
QUICK = ("--min-seconds", "0.02", "--min-count", "5")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "tiny")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def straighten(root: Path) -> None:
    """Say in the manifest that the graphs were not rewritten."""
    path = root / MANIFEST_NAME
    manifest = Manifest.model_validate_json(path.read_text())
    artifacts = tuple(
        record.model_copy(update={"graph": "straight", "name": f"straight.{record.name}"})
        for record in manifest.artifacts
    )
    path.write_text(manifest.model_copy(update={"artifacts": artifacts}).to_json())


def test_table_on_stdout_and_samples_beside_the_bundle(bundle: Path) -> None:
    before = sorted(path.name for path in bundle.iterdir())
    done = run(bundle, *QUICK, "--artifact", ONNX)
    assert done.exit_code == 0, done.output
    for word in (ONNX, "onnxruntime", "measured", "fp32", "invoke p50", "frame p50", "FPS", "640x480"):
        assert word in done.stdout
    path = bundle.with_name("tiny.results") / "bench.json"
    assert str(path) in done.stderr.replace("\n", "")
    assert load_result(path, BenchResult).rows[0].artifact == ONNX
    assert sorted(found.name for found in bundle.iterdir()) == before
    Bundle.open(bundle)


def test_json_is_the_result_and_output_chooses_the_file(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "b.json"
    done = run(bundle, *QUICK, "--artifact", ONNX, "--runtime", "onnxruntime", "--json", "--output", path)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(path.read_text())
    assert not bundle.with_name("tiny.results").exists()


def test_paced_and_sustained_get_tables_of_their_own(bundle: Path) -> None:
    done = run(bundle, *QUICK, "--artifact", ONNX, "--fps", "100", "--sustained", "0.005")
    assert done.exit_code == 0, done.output
    for word in ("100 FPS", "worst lateness", "minute", "shorter than two buckets"):
        assert word in done.stdout


def test_artifact_that_fails_is_named_the_rest_is_printed_and_the_exit_code_tells(bundle: Path) -> None:
    manifest = Manifest.model_validate_json((bundle / MANIFEST_NAME).read_text())
    wrong = manifest.artifacts[1].input.model_copy(update={"name": "x", "shape": (1, 32, 32, 3)})
    artifacts = (manifest.artifacts[0], manifest.artifacts[1].model_copy(update={"input": wrong}))
    (bundle / MANIFEST_NAME).write_text(manifest.model_copy(update={"artifacts": artifacts}).to_json())
    done = run(bundle, *QUICK)
    assert done.exit_code == 3
    assert ONNX in done.stdout
    assert "failed: tiny.fp16.onnx on onnxruntime" in done.stderr


def test_against_straight_exports_the_straight_graph(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = SimpleNamespace()

    def cached_straight(
        source: Bundle, output: Path, *, formats: object, precisions: object, report: Callable[[str], None]
    ) -> Bundle:
        report("it takes a minute")
        asked.source, asked.output, asked.formats, asked.precisions = source, output, formats, precisions
        make_tiny_bundle(output)
        straighten(output)
        return Bundle.open(output)

    monkeypatch.setattr("nanonet_edge.benchmarks.interleave.ROUND_SECONDS", 0.005)
    monkeypatch.setattr(nanonet_edge.export, "cached_straight", cached_straight)
    done = run(bundle, *QUICK, "--artifact", ONNX, "--against", "straight")
    assert done.exit_code == 0, done.output
    assert "it takes a minute" in done.stderr
    assert asked.output == bundle.with_name("tiny.results") / "straight"
    assert (asked.formats, asked.precisions) == (("onnx",), (Precision.FP32,))
    for word in ("speed-up", "95 % interval", "noise floor", "geometric mean of 1 speed-ups"):
        assert word in done.stdout
    (duel,) = load_result(bundle.with_name("tiny.results") / "bench.json", BenchResult).duels
    assert (duel.contender, duel.baseline) == (ONNX, f"straight.{ONNX}")


def test_reference_gets_a_row_and_every_artifact_its_ratio(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_bench.__kwdefaults__, "start", start_stand_in)
    monkeypatch.setattr("nanonet_edge.benchmarks.against_reference.ROUND_SECONDS", 0.005)
    done = run(bundle, *QUICK, "--artifact", ONNX, "--reference")
    assert done.exit_code == 0, done.output
    for word in ("reference", "keras:predict", "FPS ratio", "model.predict image by image"):
        assert word in done.stdout
    result = load_result(bundle.with_name("tiny.results") / "bench.json", BenchResult)
    ratio = result.rows[0].frame_speedup_over_reference.ratio
    assert ratio is not None
    assert f"{ratio.value:.1f}x [{ratio.low:.1f}, {ratio.high:.1f}]" in done.stdout


def test_reference_without_tensorflow_exits_2(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanonet_edge.runtimes.engine.is_installed", lambda module: module != "tensorflow")
    done = run(bundle, *QUICK, "--artifact", ONNX, "--reference")
    assert done.exit_code == 2
    assert "tensorflow is not installed: pip install 'nanonet-edge[export]'" in done.stderr


REFUSED = {
    "unknown device": (["--device", "raspberry"], 2, "device 'raspberry' is unknown: did you mean"),
    "two ways to a board": (["--host", "pi", "--hosts", "boards.toml"], 2, "expected one of the two"),
    "reference from afar": (["--host", "pi", "--reference"], 2, "--reference runs on this machine only"),
    "duel from afar": (["--hosts", "b.toml", "--against", "straight"], 2, "--against runs on this machine"),
    "another baseline": (["--against", "curved"], 2, "expected straight"),
    "no frames": (["--fps", "0"], 2, "--fps: expected a positive number"),
    "endless frames": (["--fps", "inf"], 2, "--fps: expected a positive number"),
    "no number of seconds": (["--min-seconds", "inf"], 2, "--min-seconds: expected a number"),
    "no minutes": (["--sustained", "-1"], 2, "--sustained: expected a positive number"),
    "unknown runtime": (["--runtime", "banana"], 2, "runtime 'banana' is unknown"),
    "unknown artifact": (["--artifact", "banana"], 3, "expected an artifact named 'banana'"),
    "unknown runtime against straight": (
        ["--runtime", "banana", "--against", "straight"],
        2,
        "runtime 'banana' is unknown",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_use_is_refused_in_one_line(case: str, bundle: Path) -> None:
    arguments, code, message = REFUSED[case]
    done = run(bundle, *arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert done.stdout == ""
    assert not bundle.with_name("tiny.results").exists()


def test_only_what_is_benched_is_exported_straight(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cached_straight(*_: object, formats: object, precisions: object, **__: object) -> Bundle:
        raise UsageError(f"{formats} {precisions}")

    monkeypatch.setattr(nanonet_edge.export, "cached_straight", cached_straight)
    done = run(
        bundle, "--runtime", "openvino:f32", "--artifact", "tiny.fp32.openvino", "--against", "straight"
    )
    assert done.exit_code == 2
    assert "openvino" in done.stderr
    assert "onnx" not in done.stderr


def test_nothing_to_compare_is_wrong_use(bundle: Path) -> None:
    straighten(bundle)
    done = run(bundle, "--against", "straight")
    assert done.exit_code == 2
    assert "expected a rewritten artifact to bench, found none" in done.stderr


@pytest.mark.parametrize("output", ["tiny", "tiny/manifest.json/bench.json"])
def test_output_that_cannot_be_written_is_found_first(
    output: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonet_edge.benchmarks.bench.bench", pytest.fail)
    done = run(bundle, "--output", tmp_path / output)
    assert done.exit_code == 2
    assert "to write the results" in done.stderr


def test_part_of_a_bundle_is_joined_to_what_is_there(bundle: Path) -> None:
    path = bundle.with_name("tiny.results") / "bench.json"
    assert run(bundle, *QUICK, "--artifact", ONNX).exit_code == 0
    (before,) = load_result(path, BenchResult).rows
    done = run(bundle, *QUICK, "--artifact", "tiny.fp16.onnx", "--json")
    assert done.exit_code == 0, done.output
    assert [row["artifact"] for row in json.loads(done.stdout)["rows"]] == ["tiny.fp16.onnx"]
    rows = load_result(path, BenchResult).rows
    assert [row.artifact for row in rows] == [ONNX, "tiny.fp16.onnx"]
    assert rows[0] == before
    done = run(bundle, "--min-seconds", "0.01", "--min-count", "5", "--artifact", ONNX)
    assert "bench.earlier.json: they are of another setting" in done.stderr.replace("\n", "")
    assert load_result(path.with_name("bench.earlier.json"), BenchResult).rows == rows
    assert [row.artifact for row in load_result(path, BenchResult).rows] == [ONNX]


def test_absent_bundle_is_bad_input(tmp_path: Path) -> None:
    done = run(tmp_path / "none")
    assert done.exit_code == 3
    assert "expected a bundle folder" in done.stderr


@pytest.mark.parametrize("origin", ["untrained (random, seed 0)", "made by the tests"])
def test_random_weights_are_mentioned(bundle: Path, origin: str) -> None:
    path = bundle / MANIFEST_NAME
    path.write_text(path.read_text().replace('"made by the tests"', json.dumps(origin)))
    done = run(bundle, *QUICK, "--artifact", ONNX)
    assert done.exit_code == 0, done.output
    said = f"weights: {origin}: times and sizes count, masks mean nothing" in done.stderr
    assert said is origin.startswith("untrained")
