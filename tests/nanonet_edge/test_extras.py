"""Optional dependencies: present, absent, or broken inside."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanonet_edge.errors import MissingExtraError
from nanonet_edge.extras import OPTIONAL, is_installed, require, version_of

ABSENT = "tf2onnx"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that cannot be imported, whatever is installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == ABSENT]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, ABSENT, None)
    return ABSENT


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A module that is there but imports another one that is not."""
    (tmp_path / "nncf.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.delitem(sys.modules, "nncf", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return "nncf"


def test_a_module_that_is_there_is_returned() -> None:
    assert require("onnxruntime") is sys.modules["onnxruntime"]
    assert require("ai_edge_litert.interpreter") is sys.modules["ai_edge_litert.interpreter"]


def test_a_module_that_is_absent_is_one_line_with_its_extra(absent: str) -> None:
    with pytest.raises(
        MissingExtraError, match=r"^tf2onnx is not installed: pip install 'nanonet-edge\[export\]'$"
    ):
        require(absent)
    with pytest.raises(MissingExtraError, match="tf2onnx"):
        require(f"{absent}.convert")
    assert not is_installed(absent)


def test_a_module_that_is_broken_inside_is_not_called_absent(broken: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        require(broken)
    sys.modules.pop(broken, None)


def test_keras_gets_the_tensorflow_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert require("keras").backend.backend() == "tensorflow"
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_asking_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "flatbuffers", raising=False)
    assert is_installed("flatbuffers")
    assert "flatbuffers" not in sys.modules


def test_versions_are_those_of_the_distributions() -> None:
    assert version_of("onnxruntime") == importlib.metadata.version("onnxruntime")


def test_a_distribution_that_is_absent_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIONAL, "keras", ("export", ("a-distribution-that-nobody-has",)))
    assert version_of("keras") is None


def test_every_extra_that_is_named_exists() -> None:
    offered = importlib.metadata.metadata("nanonet-edge").get_all("Provides-Extra") or []
    assert {extra for extra, _ in OPTIONAL.values()} <= set(offered)


def test_converting_sends_no_usage_data() -> None:
    code = (
        "import sys\n"
        "from nanonet_edge.extras import require\n"
        "require('openvino'); require('nncf')\n"
        "import openvino.tools.ovc.telemetry_utils as ovc, nncf.telemetry.wrapper as wrapper\n"
        "print(ovc.tm.__name__, sys.modules['openvino_telemetry'],"
        " type(wrapper.telemetry).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ovc, module, nncf = done.stdout.split()
    assert (ovc, module) == ("openvino.tools.ovc.telemetry_stub", "None")
    assert nncf != "NNCFTelemetry"
