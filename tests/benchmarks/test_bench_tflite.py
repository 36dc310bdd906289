from __future__ import annotations

import pytest

from nanonet_edge.benchmarks.bench import bench
from nanonet_edge.benchmarks.plan import make_plan
from nanonet_edge.benchmarks.scopes import COMPOSED
from nanonet_edge.bundle import Bundle
from nanonet_edge.manifest import MANIFEST_NAME, Manifest
from nanonet_edge.results import BenchSettings
from nanonet_edge.runtimes import runtimes_for
from nanonet_edge.variants import Format, Precision
from tests.runtimes.tiny_tflite import make_tiny_tflite
from tests.tiny_bundle import make_tiny_bundle

QUICK = BenchSettings(min_seconds=0.02, min_count=5)

needs_litert = pytest.mark.skipif(
    "litert" not in runtimes_for(Format.TFLITE), reason="ai-edge-litert is not installed"
)
needs_tflite_runtime = pytest.mark.skipif(
    "tflite-runtime" not in runtimes_for(Format.TFLITE), reason="there is no environment with tflite-runtime"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle, with an int8 TFLite artifact only."""
    root = make_tiny_bundle(tmp_path_factory.mktemp("tflite") / "tiny")
    record = make_tiny_tflite(root, Precision.STATIC_WI8_AI8).record
    path = root / MANIFEST_NAME
    manifest = Manifest.model_validate_json(path.read_text())
    path.write_text(manifest.model_copy(update={"artifacts": (record,)}).to_json())
    return Bundle.open(root)


@needs_litert
def test_litert_is_the_default_and_runs_with_and_without_xnnpack(bundle: Bundle) -> None:
    assert [job.spec for job in make_plan(bundle, None, None).jobs] == ["litert"]
    result = bench(bundle, QUICK, runtimes=["litert", "litert:no-xnnpack"])
    assert result.failures == ()
    delegates = [row.measurement.runtime.delegate for row in result.rows if row.measurement]
    assert len(set(delegates)) == 2


@needs_tflite_runtime
def test_tflite_runtime_is_timed_in_its_own_process(bundle: Bundle) -> None:
    (row,) = bench(bundle, QUICK, runtimes=["tflite-runtime"]).rows
    found = row.measurement
    assert found is not None, row.failure
    assert found.frame.note == COMPOSED
    assert found.invoke.note is None
    assert found.frame.summary.p50_ms > found.invoke.summary.min_ms
    # The memory is the engine's process's, not that of the one that waits for it.
    assert found.memory.value is not None
    assert found.memory.value > 0


@needs_tflite_runtime
def test_tflite_runtime_is_not_paced_through_a_pipe_but_measured(bundle: Bundle) -> None:
    settings = BenchSettings(min_seconds=0.02, min_count=5, fps=100)
    (row,) = bench(bundle, settings, runtimes=["tflite-runtime"]).rows
    assert row.measurement is not None, row.failure
    assert row.measurement.invoke.summary.n >= 5
    assert row.measurement.pacing is None
    assert "would time the pipe" in row.measurement.missing["pacing"]
    assert row.measurement.missing["sustained"] == "not asked for"
