"""A program that takes trtexec's options and behaves as it does, with onnxruntime in TensorRT's place.

It prints what trtexec 8.5.2 prints on a Jetson Orin, as far as anybody reads it, and keeps a journal
of how it was called. An engine is a small text that names its model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nanonet_edge.runtimes import _trtexec
from nanonet_edge.runtimes._nvidia import Gpu

ORIN = Gpu("Orin", (8, 7))

_PROGRAM = """#!{python}
import json, pathlib, sys
arguments = sys.argv[1:]
with open("{journal}", "a") as journal:
    journal.write(json.dumps(arguments) + "\\n")
options = dict((a[2:].split("=", 1) + [""])[:2] for a in arguments)
banner = "TensorRT.trtexec [TensorRT v{version}] # trtexec " + " ".join(arguments)
print("&&&& RUNNING", banner)
if "help" in options:
    sys.exit(0)
print("[01/08/2024-15:39:39] [I] === Device Information ===")
print("[01/08/2024-15:39:39] [I] Selected Device: Orin")
print("[01/08/2024-15:39:39] [I] Compute Capability: 8.7")
{fault}
if "onnx" in options:
    pathlib.Path(options["saveEngine"]).write_text("engine of " + options["onnx"])
    engine = options["onnx"]
    tensor = {{"Name": "x", "Dimensions": [1, 3, 64, 64], "Format/Datatype": "{datatype}"}}
    layer = {{"Name": "logit", "LayerType": "CaskConvolution", "Inputs": [tensor], "Outputs": [tensor],
             "ParameterType": "Convolution", "TacticName": "{tactic}"}}
    reformat = {{"Name": "r", "LayerType": "Reformat", "Inputs": [tensor], "Outputs": [tensor]}}
    layers = {{"Layers": [reformat, layer, "name only"]}}
    pathlib.Path(options["exportLayerInfo"]).write_text(json.dumps(layers))
else:
    engine = pathlib.Path(options["loadEngine"]).read_text().removeprefix("engine of ")
print("[01/08/2024-15:39:41] [I] Engine deserialized in 0.0125 sec.")
if "exportOutput" in options:
    import numpy, onnxruntime
    name, path = options["loadInputs"].split(":", 1)
    session = onnxruntime.InferenceSession(engine, providers=["CPUExecutionProvider"])
    x = numpy.fromfile(path, numpy.float32).reshape(session.get_inputs()[0].shape)
    (y,) = session.run(None, {{name: x}})
    shape = "x".join(map(str, y.shape))
    values = ", ".join("%.6g" % value for value in y.ravel())
    with open(options["exportOutput"], "w") as out:
        out.write('[\\n  {{ "name" : "%s"\\n  , "dimensions" : "%s"\\n  , "values" : [ %s ]\\n  }}\\n]\\n'
                  % (session.get_outputs()[0].name, shape, values))
if "exportTimes" in options:
    count = max(int(options["iterations"]), 10)
    with open(options["exportTimes"], "w") as out:
        out.write("[\\n")
        for index in range(count):
            out.write(", " if index else "  ")
            out.write('{{ "h2dMs" : 0.1, "computeMs" : %.2f, "d2hMs" : 0.1, "latencyMs" : %.2f }}\\n'
                      % (1 + index / 100, 1.2 + index / 100))
        out.write("]\\n")
    median = ({printed} or 1.2 + (count - 1) / 200)
    print("[01/08/2024-15:39:44] [I] === Performance summary ===")
    print("[01/08/2024-15:39:44] [I] Latency: min = 1.2 ms, max = 9 ms, mean = 2 ms, median = %g ms" % median)
print("&&&& PASSED", banner)
"""


def install(
    folder: Path,
    *,
    version: int = 8502,
    datatype: str = "Channel major FP16 format where channel % 4 == 0",
    tactic: str = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16",
    fault: str = "",
    printed_median: float | None = None,
) -> Path:
    """Write the program into `folder`.

    `fault` is a statement that it runs before it does anything, `printed_median` what it prints
    instead of the median of the times that it exports.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program, fresh = folder / "trtexec", folder / "trtexec.new"
    fresh.write_text(
        _PROGRAM.format(
            python=sys.executable,
            journal=folder / "journal",
            version=version,
            datatype=datatype,
            tactic=tactic,
            fault=fault,
            printed=printed_median,
        )
    )
    fresh.chmod(0o755)
    # A new file: one that was just written to cannot always be run.
    fresh.replace(program)
    _trtexec.version_of.cache_clear()
    return program


def calls(folder: Path) -> list[list[str]]:
    """How the program was called, except for its version."""
    journal = folder / "journal"
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [call for call in map(json.loads, lines) if call != ["--help"]]
