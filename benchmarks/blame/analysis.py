"""Blame: run an artifact's simulation with one layer after another switched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from nanonet_edge import masks
from nanonet_edge.benchmarks.agreement import Progress
from nanonet_edge.benchmarks.agreement_data import VerificationData
from nanonet_edge.benchmarks.blame.engine import EngineRun, run_engine
from nanonet_edge.benchmarks.blame.network import Layer
from nanonet_edge.benchmarks.blame.noise import NoiseMeter
from nanonet_edge.benchmarks.blame.result import BlameResult, LayerBlame
from nanonet_edge.benchmarks.blame.simulate import Model, Simulator
from nanonet_edge.benchmarks.blame.subject import Subject
from nanonet_edge.benchmarks.blame.threshold import fit_threshold
from nanonet_edge.contract import preprocess, to_mask, to_probability
from nanonet_edge.errors import MissingExtraError, UsageError
from nanonet_edge.machine import read_machine
from nanonet_edge.manifest import sha256_file
from nanonet_edge.metrics import Estimate, bootstrap_mean

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]

#: The unit of a probability in 8 bits.
_PROBABILITY_UNIT = 1 / 256


def blame(
    subject: Subject,
    data: VerificationData,
    *,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> BlameResult:
    """Find out what each layer's rounding costs in agreement.

    Every layer is switched by itself twice: kept in float in the integer network, and quantized in
    the float one. That takes two inferences per layer and frame.

    Args:
        subject: from `find_subject`.
        data: frames; masks are not needed.
        threads: of onnxruntime, which simulates; None for all processors.
        seed: of the bootstrap intervals.
        progress: called with ("blame", inferences done, of how many).

    Raises:
        UsageError: there are no frames.
        DatasetError: an image cannot be read.
        UnsupportedError: no mask can be made of the output.
        RuntimeFailure: the artifact's engine refused it.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    if len(data) == 0:
        raise UsageError("blame: expected at least one image, found none")
    simulator = Simulator(subject.network, threads or os.cpu_count() or 1)
    return _Blame(subject, data, simulator, seed, progress).run()


class _Blame:
    def __init__(
        self,
        subject: Subject,
        data: VerificationData,
        simulator: Simulator,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self.subject, self.data, self.simulator, self.seed = subject, data, simulator, seed
        self.layers = simulator.layers
        self.progress, self.done = progress, 0
        self.total = len(data) * (2 * len(self.layers) + 2 + 2 * subject.float_weights)
        self.tensors = [preprocess(item.frame, subject.takes).astype(np.float32) for item in data]
        self.gives = subject.gives(simulator.model()(self.tensors[0])[0].shape)
        self.references: list[Labels] = []
        self.missing: dict[str, str] = {}

    def run(self) -> BlameResult:
        subject, layers, artifact = self.subject, self.layers, self.subject.artifact
        noise = NoiseMeter(subject.network, layers)
        outputs = self._observe(noise)
        found = [to_mask(output, self.gives) for output in outputs]
        probabilities = [to_probability(output, self.gives) for output in outputs]
        integer = self._dice(found)
        engine = self._engine()
        if engine is not None:
            check = engine.check(found, probabilities, _PROBABILITY_UNIT)
            threshold = fit_threshold(engine.probabilities, self.references, "engine")
        else:
            check = None
            threshold = fit_threshold(probabilities, self.references, "simulation")
        if threshold is None:
            self.missing["threshold"] = "a cut-off is fitted for one class and at least two frames"
        weights_only, activations_only = self._halves()
        rows = [self._layer(layer, integer, noise) for layer in layers]
        rows.sort(key=lambda row: (-row.gain.mean, -row.loss.mean))
        return BlameResult(
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            artifact=subject.name,
            format=subject.format,
            file_sha256=sha256_file(subject.path),
            manifest_sha256=None if artifact is None else artifact.manifest_sha256,
            machine=read_machine(),
            data=self.data.record,
            float_weights=subject.float_weights,
            dice=self._estimate(integer),
            dice_weights_only=weights_only,
            dice_activations_only=activations_only,
            dice_engine=None if engine is None else float(self._dice(engine.labels).mean()),
            engine=check,
            threshold=threshold,
            layers=tuple(rows),
            missing=self.missing,
        )

    def _observe(self, noise: NoiseMeter) -> list[Floats]:
        """Run float and integer network side by side; sets the reference masks."""
        observed = [layer.tensor for layer in self.layers if layer.tensor is not None]
        exact = self.simulator.model(observed=observed)
        rounded = self.simulator.model(self.layers, observed=observed)
        outputs = []
        for tensor in self.tensors:
            reference, *real = exact(tensor)
            output, *stored = rounded(tensor)
            noise.add(real, stored)
            self.references.append(to_mask(reference, self.gives))
            outputs.append(output)
            self._report(2)
        return outputs

    def _engine(self) -> EngineRun | None:
        reason = "a file without a manifest runs in no engine here"
        if self.subject.artifact is not None:
            try:
                return run_engine(self.subject.artifact, self.data)
            except MissingExtraError as error:
                reason = str(error)
        self.missing["engine"] = self.missing["dice_engine"] = reason
        return None

    def _halves(self) -> tuple[float | None, float | None]:
        """Mean Dice with the weights alone rounded, and with the activations alone."""
        if not self.subject.float_weights:
            for figure in ("dice_weights_only", "dice_activations_only"):
                self.missing[figure] = "the weights before rounding are not known"
            return None, None
        weights, activations = ((), self.layers), (self.layers, ())
        first, second = (self._run(self.simulator.model(*which)) for which in (weights, activations))
        return float(first.mean()), float(second.mean())

    def _layer(self, layer: Layer, integer: Scores, noise: NoiseMeter) -> LayerBlame:
        others = [other for other in self.layers if other is not layer]
        gain = self._run(self.simulator.model(others)) - integer
        loss = 1.0 - self._run(self.simulator.model([layer]))
        figures = {
            "sqnr_db": noise.sqnr(layer),
            "rounding_db": noise.rounding(layer),
            "weights_db": noise.weights(layer),
        }
        return LayerBlame(
            layer=layer.name,
            op=layer.op,
            parameters=layer.parameters,
            gain=self._estimate(gain),
            loss=self._estimate(loss),
            missing={name: _why_not(name, layer) for name, value in figures.items() if value is None},
            **figures,
        )

    def _run(self, model: Model) -> Scores:
        found = []
        for tensor in self.tensors:
            found.append(to_mask(model(tensor)[0], self.gives))
            self._report(1)
        return self._dice(found)

    def _dice(self, found: Sequence[Labels]) -> Scores:
        pairs = zip(self.references, found, strict=True)
        return np.array([masks.overlap(reference, mask).dice for reference, mask in pairs])

    def _estimate(self, values: Scores) -> Estimate:
        return bootstrap_mean(values[:, np.newaxis], self.seed)[0]

    def _report(self, inferences: int) -> None:
        self.done += inferences
        if self.progress is not None:
            self.progress("blame", self.done, self.total)


def _why_not(figure: str, layer: Layer) -> str:
    if figure == "weights_db":
        return "no weights" if layer.kernel is None else "not known before rounding, or rounding changed none"
    return "not stored in integers" if layer.tensor is None else "no signal, or no noise"
