"""TensorRT through trtexec: an engine built on the device it runs on, kept until something differs.

An engine built for one GPU or by one version does not load elsewhere, so the cache is keyed by
both, by the model's digest and by the options. trtexec times its own inferences (copy in, compute,
copy out, one after the other; the host's share is not in it), and each call of `invoke` starts it
anew: right for checking masks, slow for many.

Tested with a program that behaves as trtexec does and with recordings, on no NVIDIA hardware.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from nanonet_edge.atomic import write_text
from nanonet_edge.errors import RuntimeFailure, UnsupportedError, UsageError
from nanonet_edge.manifest import sha256_file
from nanonet_edge.results import RuntimeInfo
from nanonet_edge.runtimes import _trtexec as trtexec
from nanonet_edge.runtimes._nvidia import Gpu, find_gpu
from nanonet_edge.runtimes._tensorrt_cache import engine_folder
from nanonet_edge.runtimes._tensorrt_calibration import cache_text, ranges_for, require_symmetric
from nanonet_edge.runtimes.artifact import ArtifactRuntime, Declared
from nanonet_edge.runtimes.base import Array
from nanonet_edge.variants import Format

#: A Jetson Nano takes its time to try kernels.
_BUILD_SECONDS = 3600.0
_RUN_SECONDS = 120.0
#: How far the median of the exported times may be from the one that trtexec prints itself.
_TOLERANCE = 0.05
#: One inference, without warming up: for its result.
_ONCE = ("--iterations=1", "--duration=0", "--warmUp=0")


class TensorRt(ArtifactRuntime):
    """An engine of TensorRT, run by trtexec.

    Without options float32 is computed as TensorRT likes, which is TF32 on Ampere and later.
    """

    name = "tensorrt"
    module = "tensorrt"
    formats = frozenset({Format.ONNX})
    known_options: ClassVar[Mapping[str, str]] = {
        "fp16": "let TensorRT compute in float16 where that is faster",
        "int8": "int8 on the float file, with the ranges of the bundle's int8 one, else float16",
        "fp32": "forbid TF32",
    }
    is_spawned = True

    _engine: Path | None = None
    _layers: Path | None = None

    @classmethod
    def obstacle(cls) -> UsageError | None:
        """No GPU, or no trtexec that tells its version."""
        if isinstance(gpu := find_gpu(), str):
            return UnsupportedError(f"tensorrt: {gpu}")
        program = trtexec.find_trtexec()
        if program is None:
            return UnsupportedError(
                "tensorrt: expected trtexec on the PATH or in /usr/src/tensorrt/bin, found none: it is in "
                "JetPack's package libnvinfer-bin"
            )
        try:
            trtexec.version_of(program)
        except UnsupportedError as error:
            return error
        return None

    @classmethod
    def version(cls) -> str | None:
        """TensorRT's version as trtexec tells it, None where there is none."""
        program = trtexec.find_trtexec()
        if program is None:
            return None
        try:
            return trtexec.version_text(trtexec.version_of(program))
        except UnsupportedError:
            return None

    @classmethod
    def check_options(cls, options: tuple[str, ...]) -> None:
        """Accept at most one precision.

        Raises:
            UsageError: something else.
        """
        super().check_options(options)
        if len(options) > 1:
            raise UsageError(f"{cls.name}: expected one of {', '.join(cls.known_options)}, found several")

    @property
    def _precision(self) -> str:
        return self.options[0] if self.options else "default"

    def _start(self) -> None:
        gpu, program = find_gpu(), trtexec.find_trtexec()
        if isinstance(gpu, str) or program is None:
            raise UnsupportedError(f"{self.source}: the GPU or trtexec is gone")
        self._gpu: Gpu = gpu
        self._program = program

    def _load(self, path: Path) -> None:
        version = trtexec.version_of(self._program)
        calibration = None
        if self._precision == "int8":
            calibration = cache_text(ranges_for(self.artifact), version)
        else:
            require_symmetric(self.artifact)
        facts = {
            "gpu": str(self._gpu),
            "tensorrt": version,
            "model_sha256": self.artifact.record.files[0].sha256,
            "precision": self._precision,
            "calibration_sha256": hashlib.sha256((calibration or "").encode()).hexdigest(),
        }
        engine = engine_folder(facts) / "model.engine"
        if not _is_built(engine, facts):
            self._build(path, engine, calibration, facts)
        self._layers = engine.with_suffix(".layers.json")
        log = self._run(f"--loadEngine={engine}", *_ONCE)
        self._engine = engine
        self.load_ns = round((log.load_seconds or 0.0) * 1e9)

    def _build(self, path: Path, engine: Path, calibration: str | None, facts: Mapping[str, Any]) -> None:
        flags = {
            "default": (),
            "fp32": ("--noTF32",),
            "fp16": ("--fp16",),
            "int8": ("--int8", "--fp16"),
        }[self._precision]
        with tempfile.TemporaryDirectory(dir=engine.parent, prefix="build-") as scratch:
            built, layers = Path(scratch) / "engine", Path(scratch) / "layers.json"
            if calibration is not None:
                table = Path(scratch) / "calibration.cache"
                table.write_text(calibration, encoding="ascii")
                flags += (f"--calib={table}",)
            trtexec.run_trtexec(
                self._program,
                [
                    f"--onnx={path.resolve()}",
                    f"--saveEngine={built}",
                    "--profilingVerbosity=detailed",
                    f"--exportLayerInfo={layers}",
                    *flags,
                    *_ONCE,
                ],
                source=self.source,
                timeout_s=_BUILD_SECONDS,
            )
            if not built.is_file() or not built.stat().st_size:
                raise RuntimeFailure(f"{self.source}: trtexec says that it passed and saved no engine")
            if layers.is_file():
                layers.replace(engine.with_suffix(".layers.json"))
            built.replace(engine)
        # Last: without it the engine does not count as built.
        record = {**facts, "engine_sha256": sha256_file(engine)}
        write_text(engine.with_suffix(".json"), json.dumps(record, indent=1) + "\n")

    def _run(self, *arguments: str, timeout_s: float = _RUN_SECONDS) -> trtexec.Log:
        return trtexec.run_trtexec(self._program, arguments, source=self.source, timeout_s=timeout_s)

    def _declared(self) -> tuple[Declared, Declared]:
        # trtexec tells its tensors differently in every version. The file is the recorded one by its
        # digest, and the shape of what comes out is checked each time.
        return (
            Declared(self.input.shape, np.dtype(self.input.dtype).name),
            Declared(self.output.shape, np.dtype(self.output.dtype).name),
        )

    def _invoke(self, x: Array) -> Array:
        with tempfile.TemporaryDirectory(prefix="nanonet-edge-") as scratch:
            given, result = Path(scratch) / "input.bin", Path(scratch) / "output.json"
            given.write_bytes(x.tobytes())
            self._run(
                f"--loadEngine={self._engine}",
                f"--loadInputs={self.input.name}:{given}",
                f"--exportOutput={result}",
                *_ONCE,
            )
            return trtexec.read_output(result, self.output.name).astype(self.output.dtype)

    def _time(self, x: Array, min_runs: int, min_seconds: float, max_seconds: float) -> npt.NDArray[np.int64]:
        seconds = math.ceil(min(min_seconds, max_seconds))
        with tempfile.TemporaryDirectory(prefix="nanonet-edge-") as scratch:
            given, times = Path(scratch) / "input.bin", Path(scratch) / "times.json"
            given.write_bytes(x.tobytes())
            log = self._run(
                f"--loadEngine={self._engine}",
                f"--loadInputs={self.input.name}:{given}",
                f"--exportTimes={times}",
                f"--iterations={min_runs}",
                f"--duration={seconds}",
                "--warmUp=200",
                "--exposeDMA",
                timeout_s=_RUN_SECONDS + max_seconds,
            )
            samples = trtexec.read_times(times)
        told = log.summary.get("Latency", {}).get("median")
        found = float(np.median(samples)) / 1e6
        if told is not None and abs(found - told) > _TOLERANCE * told:
            raise RuntimeFailure(
                f"{self.source}: trtexec printed a median of {told:g} ms and exported one of {found:g} ms"
            )
        return samples

    def _describe(self) -> RuntimeInfo:
        layers = self._layers
        tf32 = self._gpu.has_tf32 and self._precision != "fp32"
        told = layers is not None and layers.is_file()
        return RuntimeInfo(
            name=self.name,
            version=self.version() or "unknown",
            delegate="TensorRT",
            device=str(self._gpu),
            threads=self.threads,
            computed_precision=trtexec.read_precision(layers, tf32=tf32) if told and layers else "not told",
            options={
                "asked_precision": self._precision,
                "timed_by": "trtexec: copy in, compute, copy out; the host's share is not in it",
            },
        )

    def _release(self) -> None:
        self._engine = None


def _is_built(engine: Path, facts: Mapping[str, Any]) -> bool:
    """Whether the engine is there, was built under these facts, and is the one that was built."""
    try:
        record = json.loads(engine.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(record, dict) or {**record, **facts} != record:
        return False
    return engine.is_file() and record.get("engine_sha256") == sha256_file(engine)
