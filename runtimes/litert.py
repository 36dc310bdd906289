"""LiteRT, the current TFLite engine: package ai-edge-litert."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from nanonet_edge.edgetpu.compiler import CUSTOM_OPERATOR
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.extras import require
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes import _edgetpu as edgetpu
from nanonet_edge.runtimes._tflite_interpreter import Interpreter, InterpreterRuntime

_EDGETPU = "edgetpu"


class LiteRt(InterpreterRuntime):
    """ai_edge_litert's interpreter, with XNNPACK unless told otherwise."""

    name = "litert"
    module = "ai_edge_litert"
    known_options: ClassVar[Mapping[str, str]] = {
        **InterpreterRuntime.known_options,
        _EDGETPU: "run a file that edgetpu_compiler compiled on a Coral Edge TPU",
    }

    @classmethod
    def unavailable_options(cls) -> Mapping[str, str]:
        """Without its library the Edge TPU cannot be used."""
        return {} if edgetpu.find_library() else {_EDGETPU: edgetpu.why_absent()}

    @classmethod
    def check_options(cls, options: tuple[str, ...]) -> None:
        """Accept one of the options.

        Raises:
            UsageError: something else, or both.
        """
        super().check_options(options)
        if len(options) > 1:
            raise UsageError(f"{cls.name}: expected one option, found {', '.join(options)}")

    def _start(self) -> None:
        require("ai_edge_litert.interpreter")
        compiled = edgetpu.is_compiled(self.artifact.path)
        if _EDGETPU not in self.options:
            if compiled:
                raise UnsupportedError(
                    f"{self.source}: compiled for the Edge TPU: expected {self.name}:{_EDGETPU}"
                )
            return
        if edgetpu.find_library() is None:
            raise UnsupportedError(f"{self.source}: {edgetpu.why_absent()}")
        if not compiled:
            raise UnsupportedError(
                f"{self.source}: not compiled for the Edge TPU, so all of it would run on the CPU: "
                "compile it with edgetpu_compiler (export --target coral)"
            )

    def _make(self, path: Path, xnnpack: bool) -> Interpreter:
        engine = require("ai_edge_litert.interpreter")
        kinds = engine.OpResolverType
        delegates = None
        if _EDGETPU in self.options:
            try:
                delegates = [engine.load_delegate(edgetpu.find_library())]
            except (ValueError, OSError) as error:
                why = (
                    " ".join(str(error).split())
                    or "it gives no reason: is one plugged in, and may you use it?"
                )
                raise RuntimeFailure(f"{self.source}: the Edge TPU's delegate refused: {why}") from error
        interpreter: Interpreter = engine.Interpreter(
            model_path=str(path),
            num_threads=self.threads,
            experimental_op_resolver_type=(
                kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
            experimental_delegates=delegates,
        )
        return interpreter

    def _describe(self) -> RuntimeInfo:
        info = super()._describe()
        if _EDGETPU not in self.options:
            return info
        names = [str(details["op_name"]) for details in self._opened._get_ops_details()]
        others = sum(name not in (CUSTOM_OPERATOR, "DELEGATE") for name in names)
        on_cpu = set(info.computed_precision.split("+")) - {"none"}
        return info.model_copy(
            update={
                "delegate": "Edge TPU" if not others else f"Edge TPU (and the CPU for {others} operators)",
                "device": "Edge TPU",
                "computed_precision": "+".join(sorted({"int8", *on_cpu})),
                "options": {"library": edgetpu.find_library() or "", "operators_on_cpu": str(others)},
            }
        )
