"""Emulated machines without an emulator: planted trees, and programs that behave as they are told."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nanonet_edge.benchmarks.emulation.cache import Place
from nanonet_edge.benchmarks.emulation.machines import AARCH64, GuestMachine

#: Runs the guest's script as it is, with this Python: an emulator of a machine like this one.
HONEST = "os.execv(sys.executable, [sys.executable, guest, job])"
#: The same, after which every output is a little off.
SHIFTED = """
import subprocess
import numpy as np
done = subprocess.run([sys.executable, guest, job], capture_output=True, check=True)
path = json.load(open(job))["outputs"]
np.save(path, np.load(path) + np.float32(0.001))
sys.stdout.buffer.write(done.stdout)
"""
HELLO = 'print(json.dumps(dict(engine="1", numpy="1", python="3", machine="m", delegated=False)), flush=True)'
FINISHED = "print(json.dumps(dict(finished=True)), flush=True)"


def program(folder: Path, name: str, body: str) -> Path:
    """An executable; it knows `guest` and `job` if it is called as QEMU is."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(
        f"#!{sys.executable}\nimport json, os, signal, sys, time\n"
        f"if sys.argv[1:] == ['--version']:\n    print('{name} version 7.2.22 (fake)')\n    sys.exit()\n"
        f"guest, job = sys.argv[-2:]\n{body}\n"
    )
    path.chmod(0o755)
    return path


def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Find the programs in a folder before all others."""
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def plant(cache: Path, machine: GuestMachine = AARCH64) -> Place:
    """A machine that is set up, as far as its records tell."""
    place = Place(machine, cache)
    python = place.tree("root") / "usr/bin/python3"
    python.parent.mkdir(parents=True)
    python.write_text("no real one")
    place.tree("site").mkdir()
    place.write("root", {"python3": "3.11.2-1+b1"})
    place.write("site", {"onnxruntime": "1.32.0"})
    return place


#: Writes three sections, as the plugin does: the FMLA that an inference runs, and 20 branches.
COUNTING = f"""
plugin = sys.argv[sys.argv.index("-plugin") + 1]
with open(plugin.partition("out=")[2], "w") as file:
    for number in range(3):
        file.write(f"section {{number}}\\n4e22cc20 {{1000 + number}}\\n54000041 20\\nend\\n")
{HELLO}
{FINISHED}
"""
