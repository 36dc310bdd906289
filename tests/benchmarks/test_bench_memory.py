from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nanonet_edge.benchmarks import memory
from nanonet_edge.benchmarks.memory import Baseline, memory_above, memory_of
from nanonet_edge.results import MIB, Figure
from tests.tiny_bundle import make_tiny_bundle

FRESH_PROCESS = """
from nanonet_edge.benchmarks.memory import memory_above, take_baseline
before = bytearray({before} << 20)
del before
baseline = take_baseline()
engine = bytearray({engine} << 20)
del engine
print(memory_above(baseline).model_dump_json())
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is reset on Linux only"
)
@pytest.mark.parametrize("before", [0, 256])
def test_peak_of_the_engine_is_seen_whatever_was_used_before(before: int) -> None:
    code = FRESH_PROCESS.format(before=before, engine=96)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    figure = Figure.model_validate_json(done.stdout)
    assert figure.unit == "MiB"
    assert figure.value == pytest.approx(96, abs=8)


def test_no_engine_is_imported_before_the_baseline(tmp_path: Path) -> None:
    """What an engine's import takes is the engine's, whichever it is."""
    root = make_tiny_bundle(tmp_path / "tiny")
    code = f"""
import sys
from nanonet_edge.benchmarks import worker
from nanonet_edge.benchmarks.worker_protocol import LoadRequest

def take_baseline():
    engines = {{"onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime", "tensorflow"}}
    print("numpy" in sys.modules, sorted(engines & set(sys.modules)))
    return real()

real, worker.take_baseline = worker.take_baseline, take_baseline
request = LoadRequest(bundle={str(root)!r}, artifact="tiny.fp32.onnx", spec="onnxruntime", threads=1)
worker.Session(request).close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


def test_peak_hidden_by_an_earlier_one_is_missing_not_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_reset_peak", lambda: False)
    monkeypatch.setattr(memory, "_peak_bytes", lambda: 500)
    figure = memory_above(memory.take_baseline())
    assert figure.value is None
    assert "before the engine was loaded" in (figure.reason or "")


def test_engine_in_another_process_gives_its_own_marks() -> None:
    assert memory_of((10 << 20, 14 << 20)).value == 4.0
    assert "does not tell" in (memory_of(None).reason or "")


def test_without_a_reset_growth_counts_from_the_resident_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_peak_bytes", lambda: round(30 * MIB))
    baseline = Baseline(resident=round(10 * MIB), peak=round(20 * MIB))
    assert memory_above(baseline).value == pytest.approx(20.0)
