"""tf.lite.Interpreter, in the TensorFlow releases that still have it."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

from nanonet_edge.errors import UnsupportedError, UsageError
from nanonet_edge.extras import require
from nanonet_edge.runtimes._tflite_interpreter import Interpreter, InterpreterRuntime


class TfLite(InterpreterRuntime):
    """TensorFlow's own interpreter, with XNNPACK unless told otherwise."""

    name = "tf-lite"
    module = "tensorflow"

    @classmethod
    def obstacle(cls) -> UsageError | None:
        """TensorFlow is absent, or is a release without tf.lite."""
        if (absent := super().obstacle()) is not None:
            return absent
        # Importing TensorFlow takes seconds; its files tell as much.
        spec = importlib.util.find_spec("tensorflow")
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
        if any((Path(folder) / "lite" / "python" / "interpreter.py").is_file() for folder in folders):
            return None
        return UnsupportedError(f"tensorflow {cls.version()} has no tf.lite: use the runtime litert")

    def _start(self) -> None:
        # An attribute of TensorFlow is a module that loads on first use.
        _ = require("tensorflow").lite.Interpreter

    def _make(self, path: Path, xnnpack: bool) -> Interpreter:
        lite = require("tensorflow").lite
        kinds = lite.experimental.OpResolverType
        with warnings.catch_warnings():
            # It announces its own removal each time; `obstacle` says so once it is gone.
            warnings.simplefilter("ignore")
            interpreter: Interpreter = lite.Interpreter(
                model_path=str(path),
                num_threads=self.threads,
                experimental_op_resolver_type=(
                    kinds.AUTO if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
        return interpreter
