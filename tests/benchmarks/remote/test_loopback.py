"""A bundle measured on a board behind a real OpenSSH server on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nanonet_edge.benchmarks.remote.bench import bench_many, bench_remote
from nanonet_edge.benchmarks.remote.boards import Board
from nanonet_edge.benchmarks.remote.journal import Journal
from nanonet_edge.benchmarks.statistics import summarize
from nanonet_edge.bundle import Bundle
from nanonet_edge.errors import EXIT_DEVICE, DeviceError
from nanonet_edge.results import BenchResult, BenchSettings
from tests.benchmarks.remote.conftest import Server
from tests.nanonet_edge.devices.trees import BOARDS, plant

QUICK = BenchSettings(min_seconds=0.0, min_count=5)
ARTIFACTS = ["tiny.fp32.onnx", "tiny.fp16.onnx"]


def test_end_to_end(server: Server, bundle: Bundle, tmp_path: Path) -> None:
    said: list[str] = []
    journal = tmp_path / "journal.jsonl"
    result = bench_remote(bundle, server.board(), QUICK, journal=journal, report=said.append)
    assert [(row.artifact, row.spec) for row in result.rows] == [(name, "onnxruntime") for name in ARTIFACTS]
    assert [one.artifact for one in result.skipped] == ["tiny.fp32.openvino"]
    for row in result.rows:
        assert row.measurement is not None, row.failure
        for scope in (row.measurement.invoke, row.measurement.frame):
            assert scope.obtained == "measured"
            assert len(scope.samples_ns) >= QUICK.min_count
            assert scope.summary == summarize(scope.samples_ns)
        assert row.measurement.runtime.delegate == "CPUExecutionProvider"
        assert row.measurement.runtime.computed_precision == "fp32"  # fp16 too, on a CPU
        assert row.watched is not None
        assert row.watched.before.monotonic_ns < row.watched.after.monotonic_ns
    assert result.machine.memory_bytes > 0
    assert result.settings.device in result.detected
    assert not journal.exists()
    assert list(server.temporary.iterdir()) == []
