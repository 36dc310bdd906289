"""Holding back what native libraries write: tried on file descriptors, as they do it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nanonet_edge import extras
from nanonet_edge.quiet import STDERR, STDOUT, captured_output, quiet


def test_native_output_is_held_back_and_can_be_read(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_output(STDOUT, STDERR) as said:
        os.write(STDERR, b"INFO: created\n\n")
        os.write(STDOUT, b"  a delegate \xff\n")
        assert said.text == ""
    os.write(STDERR, b"afterwards\n")
    assert said.lines == ("INFO: created", "a delegate \N{REPLACEMENT CHARACTER}")
    assert capfd.readouterr() == ("", "afterwards\n")


def test_stdout_is_left_alone_unless_named(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(STDOUT, b"data")
        os.write(STDERR, b"chatter")
    assert capfd.readouterr() == ("data", "")


def test_what_a_failing_block_said_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    @quiet()
    def fail() -> None:
        os.write(STDERR, b"the library's own words\n")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert capfd.readouterr().err == "the library's own words\n"


def test_blocks_nest(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_output() as outer:
        os.write(STDERR, b"1")
        with captured_output() as inner:
            os.write(STDERR, b"2")
        os.write(STDERR, b"3")
    assert (outer.text, inner.text) == ("13", "2")
    assert capfd.readouterr().err == ""


def test_threads_take_turns_and_the_stream_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    texts: list[str] = []

    def work(name: str) -> None:
        for _ in range(20):
            with captured_output() as said:
                os.write(STDERR, name.encode())
            texts.append(said.text)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(STDERR, b"still here")
    assert sorted(texts) == sorted("abcd" * 20)
    assert capfd.readouterr().err == "still here"


def test_a_process_without_stderr_is_not_disturbed() -> None:
    code = (
        "import os; from nanonet_edge.quiet import captured_output\n"
        "os.close(2)\n"
        "with captured_output() as said: pass\n"
        "print(repr(said.text))"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "''\n"


def _stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A module called tensorflow that talks as the real one does while it is imported."""
    (folder / "tensorflow.py").write_text(f"import os\nos.write(2, b'cuda was not found\\n')\n{code}\n")
    monkeypatch.syspath_prepend(folder)
    # Set first, so that what is there now comes back at the end, be it nothing.
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    del sys.modules["tensorflow"]
    importlib.invalidate_caches()


def test_tensorflow_is_imported_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _stand_in(tmp_path, monkeypatch, "answer = 42")
    assert extras.require("tensorflow").answer == 42
    assert capfd.readouterr().err == ""


def test_a_broken_tensorflow_is_not_silenced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _stand_in(tmp_path, monkeypatch, "raise ImportError('libcudart is broken')")
    with pytest.raises(ImportError, match="libcudart is broken"):
        extras.require("tensorflow")
    assert capfd.readouterr().err == "cuda was not found\n"
