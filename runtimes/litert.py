"""LiteRT, the current TFLite engine: package ai-edge-litert."""

from __future__ import annotations

from pathlib import Path

from nanonet_edge.extras import require
from nanonet_edge.runtimes._tflite_interpreter import Interpreter, InterpreterRuntime


class LiteRt(InterpreterRuntime):
    """ai_edge_litert's interpreter, with XNNPACK unless told otherwise."""

    name = "litert"
    module = "ai_edge_litert"

    def _start(self) -> None:
        require("ai_edge_litert.interpreter")

    def _make(self, path: Path, xnnpack: bool) -> Interpreter:
        engine = require("ai_edge_litert.interpreter")
        kinds = engine.OpResolverType
        interpreter: Interpreter = engine.Interpreter(
            model_path=str(path),
            num_threads=self.threads,
            experimental_op_resolver_type=(
                kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
        )
        return interpreter
