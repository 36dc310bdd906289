"""All or nothing: whatever happens while writing, the old content is there or the new one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanonet_edge import atomic
from nanonet_edge.errors import UsageError

#: Fills a folder with four files that say which round wrote them, again and again.
WRITER = """
import itertools, sys
from pathlib import Path
from nanonet_edge.atomic import replaced_folder, write_text

destination = Path(sys.argv[1])
for round in itertools.count():
    with replaced_folder(destination) as folder:
        for index in range(4):
            (folder / f"part{index}").write_text(str(round) * 2000)
        (folder / "sub").mkdir()
        (folder / "sub" / "deep").write_text(str(round))
    write_text(destination.with_suffix(".json"), str(round) * 2000)
    if not round:
        print("first round done", flush=True)
"""


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def live_pid() -> Iterator[int]:
    """The id of another process that runs."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


# Folders --------------------------------------------------------------------------------------


def test_a_new_folder_appears_with_its_parents(tmp_path: Path) -> None:
    destination = tmp_path / "a" / "b"
    with atomic.replaced_folder(destination) as folder:
        (folder / "x").write_text("new")
        assert not destination.exists()
    assert content(destination) == {"x": "new"}
    assert list(destination.parent.iterdir()) == [destination]
    assert destination.stat().st_mode & 0o777 == 0o755


def test_an_old_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    destination.mkdir()
    (destination / "old").write_text("old")
    with atomic.replaced_folder(destination) as folder:
        (folder / "x").write_text("new")
        assert content(destination) == {"old": "old"}
    assert content(destination) == {"x": "new"}
    assert list(tmp_path.iterdir()) == [destination]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    destination = tmp_path / "bundle"
    destination.mkdir()
    (destination / "old").write_text("old")

    def fail() -> None:
        with atomic.replaced_folder(destination) as folder:
            (folder / "x").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert content(destination) == {"old": "old"}
    assert list(tmp_path.iterdir()) == [destination]


def test_an_exception_leaves_nothing_where_there_was_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic.replaced_folder(tmp_path / "bundle"):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (raised above)
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_destination_survives_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with atomic.replaced_folder(Path("bundle")) as folder:
        (folder / "x").write_text("new")
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert content(tmp_path / "bundle") == {"x": "new"}


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    destination.write_text("a file of the user's")
    with (
        pytest.raises(UsageError, match="bundle: expected a folder to replace, found a file"),
        atomic.replaced_folder(destination),
    ):
        pytest.fail("refused before any work is done")
    assert destination.read_text() == "a file of the user's"


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "bundle", tmp_path / "link"
    real.mkdir(parents=True)
    link.symlink_to(real)
    with atomic.replaced_folder(link) as folder:
        (folder / "x").write_text("new")
    assert link.is_symlink()
    assert content(real) == {"x": "new"}
    assert temporaries(tmp_path) == temporaries(real.parent) == []


# Files ----------------------------------------------------------------------------------------


def test_a_file_is_written_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "x.json"
    atomic.write_text(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    atomic.write_bytes(path, b"")
    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o777 == 0o644
    assert temporaries(path.parent) == []


def test_a_file_that_cannot_be_placed_leaves_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    with pytest.raises(OSError, match="x"):
        atomic.write_bytes(tmp_path / "x", b"data")
    assert temporaries(tmp_path) == []


# Leftovers ------------------------------------------------------------------------------------


def leave(folder: Path, pid: int, rest: str) -> Path:
    path = folder / f".nanonet-edge-tmp-{pid}-{rest}"
    path.mkdir()
    (path / "x").write_text("half")
    return path


@pytest.mark.parametrize("write", ["folder", "file"])
def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(
    tmp_path: Path, dead_pid: int, live_pid: int, write: str
) -> None:
    living = [leave(tmp_path, live_pid, "bundle-abcdef12")]
    # In a container every run is process 1: what bears our number and is not ours is a dead one's.
    leave(tmp_path, os.getpid(), "bundle-abcdef12")
    leave(tmp_path, dead_pid, "bundle-abcdef12")
    leave(tmp_path, dead_pid, "other-bundle-a_c_e_12")
    (tmp_path / f".nanonet-edge-tmp-{dead_pid}-abcdef12").write_text("half")
    others = [tmp_path / ".nanonet-edge-tmp-mine", tmp_path / f".other-{dead_pid}-abcdef12"]
    for path in others:
        path.write_text("not ours")
    if write == "folder":
        with atomic.replaced_folder(tmp_path / "bundle"):
            pass
    else:
        atomic.write_text(tmp_path / "bundle", "new")
    assert sorted(temporaries(tmp_path)) == sorted([*living, *others])


def test_a_folder_in_the_making_survives_another_write_beside_it(tmp_path: Path) -> None:
    with atomic.replaced_folder(tmp_path / "bundle") as staging:
        (staging / "x").write_text("half")
        atomic.write_text(tmp_path / "other", "done")
        assert (staging / "x").read_text() == "half"
    assert (tmp_path / "bundle" / "x").read_text() == "half"


def test_old_content_that_a_dead_run_had_moved_aside_comes_back(tmp_path: Path, dead_pid: int) -> None:
    """Where the system cannot exchange two folders, a run may die between two renames."""
    leave(tmp_path, dead_pid, "my-bundle-abcdef12-old")
    leave(tmp_path, dead_pid, "my-bundle-abcdef12")
    atomic.write_text(tmp_path / "anything", "")
    assert content(tmp_path / "my-bundle") == {"x": "half"}
    assert temporaries(tmp_path) == []


def test_old_content_that_was_replaced_goes(tmp_path: Path, dead_pid: int) -> None:
    (tmp_path / "bundle").mkdir()
    leave(tmp_path, dead_pid, "bundle-abcdef12-old")
    atomic.write_text(tmp_path / "anything", "")
    assert content(tmp_path / "bundle") == {}
    assert temporaries(tmp_path) == []


# Killed ---------------------------------------------------------------------------------------


KILLS = 30


def kill_somewhere(destination: Path, delay: float) -> None:
    """Run the writer, let it finish once, and kill it `delay` seconds later."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(destination)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "first round done\n"
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL


def test_a_kill_at_any_moment_leaves_one_whole_folder(tmp_path: Path) -> None:
    destination = tmp_path / "bundle"
    leftovers = 0
    for seed in range(KILLS):
        kill_somewhere(destination, random.Random(seed).uniform(0, 0.05))
        found = content(destination)
        written = found.pop("sub/deep")
        assert found == {f"part{index}": written * 2000 for index in range(4)}
        text = destination.with_suffix(".json").read_text()
        assert text in {str(round_) * 2000 for round_ in (int(written), int(written) - 1)}
        leftovers += len(temporaries(tmp_path))
    assert leftovers, "no kill came in the middle of a round: the test shows nothing"
    with atomic.replaced_folder(destination):
        pass
    assert temporaries(tmp_path) == []
