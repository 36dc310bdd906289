"""A stand-in for `edgetpu_compiler`: takes its arguments, prints what it prints, writes what it writes.

The logs follow those of compiler 16 in google-coral/edgetpu's issues #490, #512 and #671.
"""

from __future__ import annotations

import stat
import sys
import textwrap
from pathlib import Path

import flatbuffers

from tests.nanonet_edge.tflite_models import Drawing

BEGINNING = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
"""
SUCCESS = (
    BEGINNING
    + """
Model compiled successfully in 2653 ms.

Input model: {model}
Input size: 7.31MiB
Output model: {output}
Output size: 8.14MiB
On-chip memory used for caching model parameters: 6.84MiB
On-chip memory remaining for caching model parameters: 7.75KiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: {total}
Operation log: {log}
{advice}
Operator                       Count      Status

{table}
Compilation child process completed within timeout period.
Compilation succeeded!
"""
)
ADVICE = """
Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model \
will instead run on the CPU, which is slower. If possible, consider updating your model to use only \
operations supported by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: {mapped}
Number of operations that will run on CPU: {cpu}
"""
TOO_LARGE = (
    BEGINNING
    + """ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
"""
)
MAPPED = "Mapped to Edge TPU"
Row = tuple[str, int, str]


def log(*rows: Row, model: str = "net.tflite") -> str:
    """What the compiler prints of a model with such a table."""
    total = sum(count for _, count, _ in rows)
    mapped = sum(count for _, count, status in rows if status == MAPPED)
    output = model.replace(".tflite", "_edgetpu.tflite")
    return SUCCESS.format(
        model=model,
        output=output,
        log=output.replace(".tflite", ".log"),
        total=total,
        advice="" if mapped == total else ADVICE.format(mapped=mapped, cpu=total - mapped),
        table="\n".join(f"{name:<30} {count:<10} {status}" for name, count, status in rows) + "\n",
    )


def compiled_model() -> bytes:
    """A model of one operator, the compiler's own."""
    drawing = Drawing()
    drawing.op("CUSTOM", [drawing.input(1, 8, 8, 4)], (1, 8, 8, 4))
    schema = drawing.writer.schema
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(drawing.build(), 0))
    model.operatorCodes[0].customCode = b"edgetpu-custom-op"
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def install(
    folder: Path,
    printed: str = "",
    *,
    code: int = 0,
    result: bytes | None = None,
    before: str = "",
    after: str = "",
) -> Path:
    """Write the program into a folder that a test puts on PATH; its arguments go to `arguments.txt` there.

    Args:
        folder: an existing one.
        printed: on stdout.
        code: what it returns.
        result: the compiled model; none is written if None.
        before, after: statements of Python to run before and after the printing.
    """
    folder = folder.resolve()
    (folder / "printed.txt").write_text(printed)
    if result is not None:
        (folder / "result.bin").write_bytes(result)
    program = folder / "edgetpu_compiler"
    script = f"""\
        #!{sys.executable} -S
        import os, pathlib, shutil, sys, time
        here = pathlib.Path({str(folder)!r})
        (here / "arguments.txt").write_text("\\n".join(sys.argv[1:]))
        model = pathlib.Path(sys.argv[-1])
        out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
        """
    script = textwrap.dedent(script) + before + "\n"
    script += 'sys.stdout.write((here / "printed.txt").read_text())\nsys.stdout.flush()\n' + after + "\n"
    if result is not None:
        script += 'shutil.copy(here / "result.bin", out / f"{model.stem}_edgetpu.tflite")\n'
        script += '(out / f"{model.stem}_edgetpu.log").write_text("its log")\n'
    program.write_text(script + f"sys.exit({code})\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program
