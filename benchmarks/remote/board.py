"""What is run on a board to place files there, start the agent, and clear up: plain Python >= 3.9.

Its text is handed to the board's ``python3 -I -c``, so it imports nothing but the standard library; the
agent has it as a module.
Arguments: what to do, the name of the private folder, and below which folder it is made (empty: the
system's for temporary files). The name is the caller's; nothing the board says is used as a path.

    place   makes the folder (mode 0700, or takes the one it made before), reads a line of JSON from
            stdin, [[name, bytes, sha256], ...], answers with the indices of the files that are not
            there yet, reads those files' bytes one after the other, and answers "placed"
    run     runs the agent from the folder
    remove  ends an agent that still runs from the folder, and removes it

Whatever goes wrong in the first and the last is answered as {"error": ...}.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

PID_NAME = "agent.pid"
_CHUNK = 1 << 16
_END_SECONDS = 5.0


def private_folder(name: str, base: str) -> Path:
    """The folder's absolute path; it need not exist."""
    return Path(os.path.abspath(base or tempfile.gettempdir())) / name


def make_private(folder: Path) -> None:
    """Make the folder, or take the one that this user made before."""
    os.umask(0o077)
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError("the private folder exists and is not ours alone") from None


def is_there(path: Path, size: int, digest: str) -> bool:
    """Whether an earlier call placed the whole file."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    found = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_CHUNK), b""):
            found.update(block)
    return found.hexdigest() == digest


def receive(source: IO[bytes], path: Path, size: int, digest: str) -> None:
    """Write `size` bytes of `source` to a file, and check them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found, left = hashlib.sha256(), size
    with path.open("wb") as file:
        while left:
            block = source.read(min(left, _CHUNK))
            if not block:
                raise EOFError("the connection ended in the middle of a file")
            file.write(block)
            found.update(block)
            left -= len(block)
    if found.hexdigest() != digest:
        raise ValueError("a file arrived damaged")


def end_agent(folder: Path) -> None:
    """End the agent that runs from the folder, if one still does, and wait until it has."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / PID_NAME).read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline")
        if pid == os.getpid() or folder.name.encode() not in command.read_bytes():
            return  # it is gone, and the number is another's
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _END_SECONDS
        while folder.name.encode() in command.read_bytes():
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)


def answer(value: dict[str, Any]) -> None:
    """One line of JSON to the caller."""
    print(json.dumps(value), flush=True)


def place(folder: Path) -> None:
    """See above."""
    make_private(folder)
    end_agent(folder)
    source = sys.stdin.buffer
    files = json.loads(source.readline())
    missing = [
        index for index, (name, size, digest) in enumerate(files) if not is_there(folder / name, size, digest)
    ]
    answer({"missing": missing})
    for index in missing:
        name, size, digest = files[index]
        receive(source, folder / name, size, digest)
    answer({"placed": len(missing)})


def run(folder: Path) -> int:
    """Become the agent."""
    sys.path.insert(0, str(folder))
    from nanonet_edge.benchmarks.remote.agent import serve

    return serve(str(folder))


def main(what: str, name: str, base: str) -> int:
    """Do what was asked."""
    folder = private_folder(name, base)
    if what == "run":
        return run(folder)
    try:
        if what == "place":
            place(folder)
        else:
            end_agent(folder)
            if folder.exists():
                shutil.rmtree(folder)
            answer({"removed": True})
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is the answer
        answer({"error": getattr(error, "strerror", None) or str(error) or type(error).__name__})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
