"""A board on loopback: OpenSSH's own server, unprivileged, with keys and files made for one test run."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from nanonet_edge.benchmarks.remote.boards import Board
from nanonet_edge.bundle import Bundle
from tests.tiny_bundle import make_tiny_bundle

_SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv TMPDIR={temporary}
"""
_CLIENT_CONFIG = """
Host loopback
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
"""


@dataclass
class Server:
    """The server, and what belongs to it.

    Attributes:
        temporary: the board's folder for temporary files.
        programs: a folder for the board's programs.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    def board(self, **fields: object) -> Board:
        """This board, with an environment that has the engines: the tests'."""
        given = {"host": "loopback", "python": sys.executable, "ssh_config": self.folder / "config"}
        return Board.model_validate(given | fields)

    def know(self, key: str) -> None:
        """Write the client's known_hosts: "host_key" is the server's, "" is none."""
        text = (self.folder / f"{key}.pub").read_text() if key else ""
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {text}" if text else "")

    def sessions(self) -> list[psutil.Process]:
        """The processes that serve connections."""
        return psutil.Process(self.process.pid).children(recursive=False)

    def drop_connections(self) -> int:
        """End the connections that there are; how many."""
        sessions = self.sessions()
        for session in sessions:
            for child in [*session.children(recursive=False), session]:
                if "sshd" in child.name():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.send_signal(signal.SIGKILL)
        return len(sessions)

    def left_behind(self) -> list[Path]:
        """Private folders that are still on the board."""
        return list(self.temporary.glob("nanonet-edge-*"))

    def agents(self) -> list[psutil.Process]:
        """This board's agents that run."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                words = process.cmdline()
                # run, the folder's name, where it is
                if len(words) > 3 and words[-3] == "run" and words[-2].startswith("nanonet-edge-"):
                    found.append(process)
        return found

    def kill_agent(self) -> None:
        """Kill this board's agent, as a board short of memory does."""
        for process in self.agents():
            process.kill()

    def fake_program(self, name: str, script: str) -> Path:
        """A shell script on the board."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(100):
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text(errors='replace')[-300:]}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if _SSHD is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    pytest.importorskip("asyncssh", reason="asyncssh is not installed: pip install 'nanonet-edge[remote]'")
    folder = tmp_path_factory.mktemp("board")
    for name in ("host_key", "other_key", "user_key"):
        _make_key(folder / name)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    for name in ("tmp", "bin"):
        (folder / name).mkdir()
    port = _free_port()
    values = {
        "folder": folder,
        "port": port,
        "user": getpass.getuser(),
        "temporary": folder / "tmp",
    }
    (folder / "sshd_config").write_text(_CONFIG.format(**values))
    (folder / "config").write_text(_CLIENT_CONFIG.format(**values))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen([_SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=sink)
    try:
        _wait_until_it_listens(process, port, log)
        yield Server(folder, port, process)
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def _no_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test downloads wheels, or finds those of an earlier run."""
    monkeypatch.setenv("NANONET_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def server(running_server: Server) -> Iterator[Server]:
    """The server as it was at first; whatever a test leaves on the board is a fault."""
    running_server.know("host_key")
    yield running_server
    for program in running_server.programs.iterdir():
        program.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode(errors='replace').strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two ONNX artifacts that any board of these tests runs, and one for OpenVINO."""
    return Bundle.open(make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny"))
