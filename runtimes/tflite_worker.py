"""The old TFLite runtime in a process of its own: a script that serves one model on a pipe.

It needs only Python >= 3.9, NumPy and tflite_runtime; nothing of nanonet_edge is imported,
so that it runs in an environment where that is not installed. Start it as ``python -I
tflite_worker.py``: without -I this script's folder comes first in the search path and
hides the real tflite_runtime behind a module of ours.

Protocol. Requests come on stdin, answers go to stdout, one answer per request, in order.
Both are frames:

    4 bytes   magic, b"NNW1"
    4 bytes   length of the header, unsigned, little endian; at most 1 MiB
    8 bytes   length of the payload, unsigned, little endian; at most 256 MiB
    header    a JSON object in UTF-8
    payload   raw bytes of one C-contiguous little-endian array

Requests (``op``):

    hello                                  -> version, python, numpy
    load {path, threads, xnnpack}          -> input, output, operators, load_ns, baseline_bytes
    invoke, payload: the input             -> payload: the output
    time {min_runs, min_seconds, max_seconds}, payload: the input
                                           -> payload: int64 nanoseconds of each invoke
    memory                                 -> baseline_bytes, peak_bytes (null where not told)

The baseline of the memory is that of a process that has NumPy but not yet the engine, as
nanonet_edge.benchmarks takes it for the engines that run in its own process.

`input` and `output` are {shape, dtype, scale, zero_point}; `operators` are {op_name, inputs,
outputs, operand_types}. Every answer has ``ok``; a failed one also ``error``, one line. A
request that is no frame ends the worker with exit code 2; the end of stdin ends it with 0.
What libraries print on stdout is sent to stderr, so that it cannot damage a frame.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import IO, Any

MAGIC = b"NNW1"
HEADER_LIMIT = 1 << 20
PAYLOAD_LIMIT = 256 << 20
_PREFIX = struct.Struct("<4sIQ")

Header = dict[str, Any]


class ProtocolError(Exception):
    """Bytes that are no frame: wrong magic, too long, cut short, or not a JSON object."""


def write_frame(stream: IO[bytes], header: Header, payload: bytes = b"") -> None:
    """Write one frame and flush it.

    Raises:
        ProtocolError: it would exceed a limit.
    """
    text = json.dumps(header).encode("utf-8")
    if len(text) > HEADER_LIMIT:
        raise ProtocolError(f"header of {len(text)} bytes, at most {HEADER_LIMIT} are allowed")
    if len(payload) > PAYLOAD_LIMIT:
        raise ProtocolError(f"payload of {len(payload)} bytes, at most {PAYLOAD_LIMIT} are allowed")
    stream.write(_PREFIX.pack(MAGIC, len(text), len(payload)))
    stream.write(text)
    stream.write(payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[Header, bytes] | None:
    """Read one frame, or None at a clean end of the stream.

    Raises:
        ProtocolError: the bytes are no frame; nothing is allocated beyond the limits.
    """
    prefix = stream.read(_PREFIX.size)
    if not prefix:
        return None
    if len(prefix) < _PREFIX.size:
        raise ProtocolError(f"expected {_PREFIX.size} bytes of prefix, found {len(prefix)}")
    magic, header_length, payload_length = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ProtocolError(f"expected magic {MAGIC!r}, found {magic!r}")
    if header_length > HEADER_LIMIT:
        raise ProtocolError(f"header of {header_length} bytes, at most {HEADER_LIMIT} are allowed")
    if payload_length > PAYLOAD_LIMIT:
        raise ProtocolError(f"payload of {payload_length} bytes, at most {PAYLOAD_LIMIT} are allowed")
    text = _read_exactly(stream, header_length)
    payload = _read_exactly(stream, payload_length)
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ProtocolError("expected a JSON header, found something else") from None
    if not isinstance(header, dict):
        raise ProtocolError(f"expected a JSON object as header, found {type(header).__name__}")
    return header, payload


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ProtocolError(f"expected {length} bytes, found {len(data)}")
    return data


def _memory(field: str) -> int | None:
    """A field of /proc/self/status in bytes; ru_maxrss would count the parent's memory too."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line for line in lines if line.startswith(field + ":")]
    return int(found[0].split()[1]) * 1024 if found else None


def _take_baseline() -> int | None:
    """Resident bytes now, with the high-water mark reset to it; None where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _memory("VmRSS")


class Server:
    """Holds one interpreter and answers requests."""

    def __init__(self) -> None:
        self._interpreter: Any = None
        self._baseline: int | None = None

    def answer(self, header: Header, payload: bytes) -> tuple[Header, bytes]:
        """Answer one request; whatever goes wrong becomes an answer with ``ok`` false."""
        handlers = {
            "hello": self._hello,
            "load": lambda: self._load(header),
            "invoke": lambda: self._invoke(payload),
            "time": lambda: self._time(header, payload),
            "memory": self._report_memory,
        }
        name = header.get("op")
        if not isinstance(name, str) or name not in handlers:
            return {"ok": False, "error": f"unknown op: expected one of {', '.join(handlers)}"}, b""
        try:
            fields, data = handlers[name]()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is the answer
            return {"ok": False, "error": " ".join(str(error).split())[:2000] or type(error).__name__}, b""
        return dict(fields, ok=True), data

    def _hello(self) -> tuple[Header, bytes]:
        import numpy as np
        import tflite_runtime

        return {
            "version": tflite_runtime.__version__,
            "python": sys.version.split()[0],
            "numpy": np.__version__,
        }, b""

    def _load(self, header: Header) -> tuple[Header, bytes]:
        import numpy  # noqa: F401 - before the baseline: it is not the engine's

        self._baseline = _take_baseline()
        from tflite_runtime import interpreter as engine

        start = time.perf_counter_ns()
        interpreter = make_interpreter(
            engine, str(header["path"]), int(header["threads"]), bool(header["xnnpack"])
        )
        elapsed = time.perf_counter_ns() - start
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"expected one input and one output, found {len(inputs)} and {len(outputs)}")
        self._input, self._output = inputs[0], outputs[0]
        self._interpreter = interpreter
        return {
            "input": _tensor(self._input),
            "output": _tensor(self._output),
            "operators": describe_operators(interpreter),
            "load_ns": elapsed,
            "baseline_bytes": self._baseline,
        }, b""

    def _array(self, payload: bytes) -> Any:
        import numpy as np

        if self._interpreter is None:
            raise ValueError("no model is loaded")
        return np.frombuffer(payload, self._input["dtype"]).reshape(self._input["shape"])

    def _run(self, x: Any) -> Any:
        interpreter = self._interpreter
        interpreter.set_tensor(self._input["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(self._output["index"])

    def _invoke(self, payload: bytes) -> tuple[Header, bytes]:
        return {}, self._run(self._array(payload)).tobytes()

    def _time(self, header: Header, payload: bytes) -> tuple[Header, bytes]:
        import numpy as np

        x = self._array(payload)
        clock = time.perf_counter_ns
        samples: list[int] = []
        now = clock()
        least = now + int(float(header["min_seconds"]) * 1e9)
        most = now + int(float(header["max_seconds"]) * 1e9)
        while not samples or (now < most and (len(samples) < int(header["min_runs"]) or now < least)):
            start = clock()
            self._run(x)
            now = clock()
            samples.append(now - start)
        return {}, np.array(samples, "<i8").tobytes()

    def _report_memory(self) -> tuple[Header, bytes]:
        return {"baseline_bytes": self._baseline, "peak_bytes": _memory("VmHWM")}, b""


def _tensor(details: Any) -> Header:
    import numpy as np

    scale, zero_point = details["quantization"]
    return {
        "shape": [int(size) for size in details["shape"]],
        "dtype": np.dtype(details["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero_point),
    }


def make_interpreter(engine: Any, path: str, threads: int, xnnpack: bool) -> Any:
    """An interpreter with its tensors allocated; `engine` is the module that has Interpreter."""
    kinds = engine.OpResolverType
    interpreter = engine.Interpreter(
        model_path=path,
        num_threads=threads,
        experimental_op_resolver_type=(kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES),
    )
    interpreter.allocate_tensors()
    return interpreter


def describe_operators(interpreter: Any) -> list[Header]:
    """The operators as the interpreter lists them, in a form that JSON holds."""
    import numpy as np

    dtypes = {
        int(details["index"]): np.dtype(details["dtype"]).name for details in interpreter.get_tensor_details()
    }
    return [
        {
            "op_name": str(details["op_name"]),
            "inputs": [int(index) for index in details["inputs"]],
            "outputs": [int(index) for index in details["outputs"]],
            # This release does not give them with the operator; -1 is an optional input left out.
            "operand_types": [dtypes.get(int(index), "void") for index in details["inputs"] if index != -1],
        }
        for details in interpreter._get_ops_details()
    ]


def serve(requests: IO[bytes], answers: IO[bytes]) -> int:
    """Answer requests until the stream ends; return the exit code."""
    server = Server()
    while True:
        try:
            frame = read_frame(requests)
        except ProtocolError as error:
            print(f"tflite_worker: {error}", file=sys.stderr)
            return 2
        if frame is None:
            return 0
        write_frame(answers, *server.answer(*frame))


def main() -> int:
    """Serve on stdin and stdout."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    sys.exit(main())
