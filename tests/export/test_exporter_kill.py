"""A run that is killed leaves the old bundle or the new one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nanonet_edge.bundle import Bundle

KILLS = 30


def command(output: Path, size: int) -> list[str]:
    run = [sys.executable, "-m", "nanonet_edge", "export", "--untrained", "--format", "tflite"]
    return [*run, "--fp32", "--fp16", "--size", str(size), "--output", str(output)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigkill_at_any_moment_leaves_a_whole_bundle(tmp_path: Path) -> None:
    old, output = tmp_path / "old", tmp_path / "bundle"
    subprocess.run(command(old, 64), check=True, capture_output=True, timeout=120)
    old_digest = Bundle.open(old).manifest_sha256
    began = time.monotonic()
    subprocess.run(command(tmp_path / "timed", 96), check=True, capture_output=True, timeout=120)
    duration = time.monotonic() - began

    found = {"old": 0, "new": 0}
    for index in range(KILLS):
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(old, output)
        process = subprocess.Popen(command(output, 96), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Up to a tenth past the end, so that both outcomes are seen.
        time.sleep(duration * 1.1 * (index + 1) / KILLS)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        bundle = Bundle.open(output)
        is_old = bundle.manifest_sha256 == old_digest
        assert bundle.manifest.size == (64 if is_old else 96)
        found["old" if is_old else "new"] += 1
    assert found["old"] >= KILLS // 2

    subprocess.run(command(output, 96), check=True, capture_output=True, timeout=120)
    left = [path.name for path in tmp_path.iterdir() if path.name not in ("old", "timed", "bundle")]
    assert left == [], "the next run removes what killed ones left"
