"""Signal over quantization noise, tensor by tensor, in decibels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nanonet_edge.benchmarks.blame.network import Layer, Network

Tensors = Sequence[npt.NDArray[np.float32]]


class NoiseMeter:
    """Adds up powers of signal and noise over frames."""

    def __init__(self, network: Network, layers: Sequence[Layer]) -> None:
        self._network = network
        self._tensors = [layer.tensor for layer in layers if layer.tensor is not None]
        self._signal, self._noise, self._rounding = (dict.fromkeys(self._tensors, 0.0) for _ in range(3))

    def add(self, real: Tensors, stored: Tensors) -> None:
        """Take in one frame: the tensors of all layers that are rounded, without rounding and with it."""
        for name, exact, rounded in zip(self._tensors, real, stored, strict=True):
            self._signal[name] += _power(exact)
            self._noise[name] += _power(rounded - exact)
            self._rounding[name] += _power(self._network.points[name].round(exact) - exact)

    def sqnr(self, layer: Layer) -> float | None:
        """Of a layer's tensor, with the noise of all layers before it; None where there is none."""
        return self._ratio(layer, self._noise)

    def rounding(self, layer: Layer) -> float | None:
        """Of a layer's tensor with the noise of its own rounding alone."""
        return self._ratio(layer, self._rounding)

    def weights(self, layer: Layer) -> float | None:
        """Of a layer's kernel; None where it has none, or it is not known before rounding."""
        if layer.kernel is None or layer.kernel not in self._network.floats:
            return None
        exact = self._network.floats[layer.kernel]
        return _decibels(_power(exact), _power(self._network.constants[layer.kernel] - exact))

    def _ratio(self, layer: Layer, noise: dict[str, float]) -> float | None:
        if layer.tensor is None:
            return None
        return _decibels(self._signal[layer.tensor], noise[layer.tensor])


def _power(values: npt.NDArray[np.float32]) -> float:
    return float(np.sum(np.square(values, dtype=np.float64)))


def _decibels(signal: float, noise: float) -> float | None:
    """None where there is no signal or no noise."""
    return float(10 * np.log10(signal / noise)) if signal > 0 and noise > 0 else None
