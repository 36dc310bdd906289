"""Running Google's `edgetpu_compiler`, where it is installed."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from nanonet_edge.edgetpu.log import CompilerLog, excerpt, parse_log
from nanonet_edge.edgetpu.rules import MAPPED
from nanonet_edge.errors import CompilerError, InputError
from nanonet_edge.tflite_file import read_tflite

PROGRAM = "edgetpu_compiler"
#: What stands in a compiled model for the operators that were mapped.
CUSTOM_OPERATOR = "edgetpu-custom-op"
HOW_TO_GET_IT = (
    f"{PROGRAM} is not on PATH: it is in the package edgetpu-compiler of Google's repository, for Debian on "
    "x86-64 only; see https://coral.ai/docs/edgetpu/compiler"
)
#: The compiler gives up by itself after 180 s.
TIMEOUT_S = 240.0
_OUTPUT_LIMIT = 4 << 20
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Compiled:
    """`path` of the compiled model, and what the compiler said."""

    path: Path
    log: CompilerLog


def find_compiler() -> Path | None:
    """The compiler on PATH, or None."""
    found = shutil.which(PROGRAM)
    return Path(found).resolve() if found else None


def compile_model(program: Path, model: Path, folder: Path, timeout_s: float = TIMEOUT_S) -> Compiled:
    """Compile a `.tflite` file for the Edge TPU.

    Args:
        program: the compiler.
        model: the file, which is only read.
        folder: an existing one; the compiler writes ``STEM_edgetpu.tflite`` and a log there.
        timeout_s: seconds after which it is killed.

    Raises:
        CompilerError: it could not be started, failed, took too long, printed without end or
            something else than a log, or left no compiled model.
    """
    model, folder = model.resolve(), folder.resolve()
    output = _run([str(program), "-s", "-o", str(folder), str(model)], folder, timeout_s)
    log = parse_log(output)
    path = folder / f"{model.stem}_edgetpu.tflite"
    try:
        compiled = read_tflite(path)
    except InputError as error:
        wrong = str(error).removeprefix(f"{path}: ")
        raise CompilerError(f"{PROGRAM}: its result {path.name} is of no use: {wrong}") from None
    is_mapped = any(count.status == MAPPED for count in log.counts)
    if is_mapped and all(operator.name != CUSTOM_OPERATOR for operator in compiled.operators):
        raise CompilerError(
            f"{PROGRAM}: its log has mapped operators, but {path.name} holds no {CUSTOM_OPERATOR}"
        )
    return Compiled(path, log)


def _run(command: list[str], folder: Path, timeout_s: float) -> str:
    """What a command printed on stdout and stderr.

    Raises:
        CompilerError: see `compile_model`.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise CompilerError(f"{command[0]}: cannot be started: {error.strerror}") from None
    deadline = time.monotonic() + timeout_s
    try:
        output = _read(process, deadline)
        code = process.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise CompilerError(f"{PROGRAM}: took longer than {timeout_s:g} s and was stopped") from None
    finally:
        # It works in a child process of its own, which must not outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if code != 0:
        raise CompilerError(f"{PROGRAM}: failed with return code {code}: {excerpt(output)}")
    return output


def _read(process: subprocess.Popen[bytes], deadline: float) -> str:
    """All that a process prints until it closes its output.

    Raises:
        TimeoutError: the deadline has come.
        CompilerError: it prints without end.
    """
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    data = bytearray()
    while len(data) <= _OUTPUT_LIMIT:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        chunk = os.read(process.stdout.fileno(), _CHUNK)
        if not chunk:
            return data.decode("utf-8", "replace")
        data += chunk
    raise CompilerError(f"{PROGRAM}: expected a log, found more than {_OUTPUT_LIMIT >> 20} MiB of output")
