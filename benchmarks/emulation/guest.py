"""Runs in the emulated machine: one model on prepared tensors, outputs to a file.

Needs Python >= 3.9, NumPy and the engine; nothing of nanonet_edge is imported, since the guest
has none of it. Start it as ``python3 guest.py JOB.json`` with PYTHONSAFEPATH=1, so that this
folder hides no module. The job:

    engine      "litert", "tflite-runtime" or "onnxruntime"
    model       path of the file
    threads     of the engine
    inputs      .npy, (n, ...): n tensors, each with the batch of 1
    outputs     .npy to write: (n, ...), what the engine gave for each
    marked      invokes on the first tensor, each between two marks, instead of all this; else 0

stdout carries one JSON object a line: {"engine": version, "numpy", "python", "machine",
"delegated"} once the model is loaded, {"done": i} after each tensor, {"finished": true} at the
end. Anything that a library prints there is sent to stderr.

A mark is a system call that a counting emulator recognises and that changes nothing:
getpgid(MARK + k), which fails, as no process has so high a number. An invoke that was not
marked comes first: engines pack their weights and touch their memory then.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

#: Beyond Linux's largest process number, 4194304.
MARK = 0x4E4E0000


def mark(number: int) -> None:
    """Make the system call of a mark."""
    with contextlib.suppress(OSError):
        os.getpgid(MARK + number)


class TfliteEngine:
    """LiteRT, or the old tflite_runtime: the same interface under two names."""

    def __init__(self, interpreter_class: Any, version: str, model: str, threads: int) -> None:
        self.version = version
        self.interpreter = interpreter_class(model_path=model, num_threads=threads)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]["index"]
        self.output = self.interpreter.get_output_details()[0]["index"]
        operators = self.interpreter._get_ops_details()
        self.delegated = any(operator["op_name"] == "DELEGATE" for operator in operators)

    def feed(self, tensor: Any) -> None:
        """Copy the input in."""
        self.interpreter.set_tensor(self.input, tensor)

    def invoke(self) -> None:
        """Run once."""
        self.interpreter.invoke()

    def result(self) -> Any:
        """A copy of the output."""
        return self.interpreter.get_tensor(self.output)


class OnnxEngine:
    """onnxruntime on the CPU."""

    delegated = False

    def __init__(self, model: str, threads: int) -> None:
        import onnxruntime

        self.version = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name
        self.outputs = [self.session.get_outputs()[0].name]

    def feed(self, tensor: Any) -> None:
        """Keep the input for `invoke`."""
        self.feeds = {self.name: tensor}

    def invoke(self) -> None:
        """Run once."""
        self.last = self.session.run(self.outputs, self.feeds)[0]

    def result(self) -> Any:
        """The output of the last run."""
        return self.last


def load(job: dict[str, Any]) -> TfliteEngine | OnnxEngine:
    """Load the model into its engine."""
    name, model, threads = job["engine"], job["model"], int(job["threads"])
    if name == "onnxruntime":
        return OnnxEngine(model, threads)
    if name == "litert":
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

        return TfliteEngine(Interpreter, ai_edge_litert.__version__, model, threads)
    import tflite_runtime
    from tflite_runtime.interpreter import Interpreter

    return TfliteEngine(Interpreter, tflite_runtime.__version__, model, threads)


def main() -> None:
    """Do the job that the only argument names."""
    import numpy as np

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    inputs = np.load(job["inputs"], allow_pickle=False)
    engine = load(job)
    say(
        engine=engine.version,
        numpy=np.__version__,
        python=platform.python_version(),
        machine=platform.machine(),
        delegated=engine.delegated,
    )
    if job["marked"]:
        engine.feed(inputs[0])
        engine.invoke()
        for number in range(job["marked"]):
            mark(2 * number)
            engine.invoke()
            mark(2 * number + 1)
    else:
        results = []
        for number, tensor in enumerate(inputs):
            engine.feed(tensor)
            engine.invoke()
            results.append(engine.result())
            say(done=number + 1)
        np.save(job["outputs"], np.stack(results), allow_pickle=False)
    say(finished=True)


if __name__ == "__main__":
    main()
