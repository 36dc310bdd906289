from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonet_edge.data import download as module
from nanonet_edge.data.download import download
from nanonet_edge.errors import InputError, UsageError
from tests.nanonet_edge.data.unreliable_server import Behaviour, serve

CONTENT = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_arrives_whole(tmp_path: Path) -> None:
    seen = []
    with serve(Behaviour(CONTENT)) as url:
        done = download(f"{url}/file", tmp_path / "a.zip", progress=lambda *step: seen.append(step))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert done.bytes == len(CONTENT)
    assert done.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert done.resumed_from == 0
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert names(tmp_path) == {"a.zip"}


@pytest.mark.parametrize("drops", [[1000], [0, 5000, 1], [300_000, 300_000]])
def test_dropped_connections_are_gone_on_from(tmp_path: Path, drops: list[int | None]) -> None:
    plan = Behaviour(CONTENT, drop_after=list(drops))
    with serve(plan) as url:
        download(f"{url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    ranges, have = [None], 0
    for bytes_sent in drops:
        have += bytes_sent or 0
        ranges.append(f"bytes={have}-" if have else None)
    assert [asked for asked, _ in plan.requests] == ranges
    assert {condition for asked, condition in plan.requests if asked} <= {'"1"'}


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(tmp_path: Path) -> None:
    plan = Behaviour(CONTENT, drop_after=[1000, 0, 0, 0])
    with serve(plan) as url:
        with pytest.raises(
            InputError, match=r"ended after 1000 of 1024000 bytes; 1000 bytes are kept in .*a\.zip\.part: run"
        ):
            download(f"{url}/file", tmp_path / "a.zip", attempts=3)
        assert names(tmp_path) == {"a.zip.part", "a.zip.part.json"}
        plan.drop_after.clear()
        assert download(f"{url}/file", tmp_path / "a.zip").resumed_from == 1000
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert plan.requests[-1] == ("bytes=1000-", '"1"')


def test_a_file_that_changed_meanwhile_begins_again(tmp_path: Path) -> None:
    plan = Behaviour(CONTENT, drop_after=[1000, 0])
    with serve(plan) as url:
        with pytest.raises(InputError):
            download(f"{url}/file", tmp_path / "a.zip", attempts=1)
        plan.content, plan.etag, plan.drop_after = CONTENT[::-1], '"2"', []
        download(f"{url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    "plan",
    [
        Behaviour(CONTENT, ranges=False, drop_after=[1000]),
        Behaviour(CONTENT, etag=None, drop_after=[1000]),
        Behaviour(CONTENT, etag='W/"1"', drop_after=[1000]),
    ],
    ids=["no ranges", "no version", "weak version"],
)
def test_servers_that_cannot_go_on_send_it_all_again(tmp_path: Path, plan: Behaviour) -> None:
    with serve(plan) as url:
        download(f"{url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert len(plan.requests) == 2


def test_what_had_arrived_whole_is_not_fetched_again(tmp_path: Path) -> None:
    plan = Behaviour(CONTENT)
    with serve(plan) as url:
        (tmp_path / "a.zip.part").write_bytes(CONTENT)
        (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": f"{url}/file", "validator": '"1"'}))
        assert download(f"{url}/file", tmp_path / "a.zip").resumed_from == len(CONTENT)
        # More than there is: it is of another version, whatever the record says.
        (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
        (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": f"{url}/file", "validator": '"1"'}))
        download(f"{url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert names(tmp_path) == {"a.zip"}


@pytest.mark.parametrize("record", [None, "", "[]", '{"url": "http://other", "validator": "1"}'])
def test_parts_of_unknown_origin_are_not_gone_on_from(tmp_path: Path, record: str | None) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"something else")
    if record is not None:
        (tmp_path / "a.zip.part.json").write_text(record)
    with serve(Behaviour(CONTENT)) as url:
        download(f"{url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_of_unknown_length(tmp_path: Path) -> None:
    with serve(Behaviour(CONTENT, length=False)) as url:
        download(f"{url}/file", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_is_final(tmp_path: Path, status: int) -> None:
    plan = Behaviour(CONTENT, status=[status] * 9)
    with serve(plan) as url, pytest.raises(InputError, match=f"/file: the server answers {status}"):
        download(f"{url}/file", tmp_path / "a.zip")
    assert len(plan.requests) == 1
    assert names(tmp_path) == set()


def test_a_passing_failure_is_tried_again(tmp_path: Path) -> None:
    plan = Behaviour(CONTENT, status=[503, 502])
    with serve(plan) as url:
        download(f"{url}/file", tmp_path / "a.zip")
        plan.status = [503] * 9
        with pytest.raises(InputError, match="the server answers 503"):
            download(f"{url}/file", tmp_path / "b.zip", attempts=2)
    assert names(tmp_path) == {"a.zip"}


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file"
        with pytest.raises(InputError, match=r"cannot be reached: .*refused.*; 0 bytes are kept"):
            download(url, tmp_path / "a.zip", attempts=2)


def test_a_server_that_falls_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(InputError, match="the server fell silent"):
            download(url, tmp_path / "a.zip", attempts=1, timeout=0.1)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.zip", "kvasir-seg.zip", "data:,x"])
def test_other_schemes_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="expected an address that begins with https://"):
        download(url, tmp_path / "a.zip")


def test_redirections_are_followed_within_the_web_alone(tmp_path: Path) -> None:
    with serve(Behaviour(CONTENT, redirect="/file")) as url:
        download(f"{url}/elsewhere", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    away = Behaviour(CONTENT, redirect="ftp://127.0.0.1/x")
    with serve(away) as url, pytest.raises(InputError, match="refusing to be sent on to ftp://127"):
        download(f"{url}/elsewhere", tmp_path / "b.zip")


@pytest.mark.parametrize("length", [True, False])
def test_files_that_are_too_large_are_refused(tmp_path: Path, length: bool) -> None:
    plan = Behaviour(CONTENT, length=length)
    with serve(plan) as url, pytest.raises(InputError, match="expected at most 1000 bytes, found"):
        download(f"{url}/file", tmp_path / "a.zip", max_bytes=1000)
    assert not (tmp_path / "a.zip").exists()


def test_a_disk_without_room_is_seen_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with serve(Behaviour(CONTENT)) as url, pytest.raises(InputError, match="expected room for the 1024000 b"):
        download(f"{url}/file", tmp_path / "a.zip")
    assert names(tmp_path) == set()


_ON_A_SMALL_DISK = """
import resource, sys
from pathlib import Path
from nanonet_edge.data.download import download
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    download(sys.argv[1], Path(sys.argv[2]))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def test_a_disk_that_fills_up_keeps_what_has_arrived(tmp_path: Path) -> None:
    plan = Behaviour(CONTENT)
    with serve(plan) as url:
        arguments = [sys.executable, "-c", _ON_A_SMALL_DISK, f"{url}/file", str(tmp_path / "a.zip"), "600000"]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert done.stderr.startswith(f"InputError: {tmp_path}: no room left for {url}/file (")
        assert len(plan.requests) == 1
        kept = (tmp_path / "a.zip.part").stat().st_size
        assert 0 < kept <= 600000
        assert download(f"{url}/file", tmp_path / "a.zip").resumed_from == kept
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=4), st.booleans(), st.booleans())
def test_however_it_is_cut_the_bytes_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, drops: list[int], ranges: bool, versioned: bool
) -> None:
    folder = tmp_path_factory.mktemp("download")
    plan = Behaviour(content, ranges=ranges, drop_after=list(drops), etag='"v"' if versioned else None)
    with serve(plan) as url:
        download(f"{url}/file", folder / "a", attempts=6)
    assert (folder / "a").read_bytes() == content
    assert names(folder) == {"a"}
