"""What is done to a float graph before any quantizer sees it, from calibration frames.

Eight bits with one scale per tensor give a channel of a tenth of the largest range a tenth of the
levels. Convolutions around a tensor take up any factor per channel, so its channels are brought
to like ranges, as far as the kernels that read them bear it: what is gained in activations is lost
in weights, whose largest value per output channel grows (SmoothQuant: Xiao et al., 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from nanonet_edge.errors import CalibrationError
from nanonet_edge.export.observe import Observer, Tensor
from nanonet_edge.graph import CONVOLUTIONS, Graph
from nanonet_edge.passes.channels import channel_groups

Array = npt.NDArray[np.float64]

#: How much of the difference between channels goes from activations into weights: 0 none, 1 all.
_MIGRATION = 0.75
#: A channel is as large as this quantile of its absolute values: a highlight reaches ten times as far.
_QUANTILE = 0.999
#: Positions that are looked at in each tensor of each frame.
_POSITIONS = 512
#: A channel smaller than this part of its tensor's largest is scaled as if it were this large.
_NEGLIGIBLE = 1e-3


def linear_groups(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """The groups of `channel_groups` behind no activation: bottlenecks and their residual sums.

    Their channels differ most. Channels behind a ReLU can be scaled too, but on trained NanoNets
    that gained nothing.
    """
    linear = CONVOLUTIONS | {"add"}
    return tuple(
        group
        for group in channel_groups(graph)
        if all(graph[name].op in linear and graph[name].activation == "none" for name in group)
    )


def channel_sizes(
    graph: Graph, tensors: Iterable[Tensor], names: Sequence[str], seed: int = 0
) -> dict[str, Array]:
    """How large the channels of some tensors are, (channels,): a high quantile of absolute values.

    Args:
        graph: the network.
        tensors: inputs, (1, H, W, 3) float32 in [0, 1]; a sample of positions is kept of each.
        names: of the tensors.
        seed: of the sample.

    Raises:
        CalibrationError: a tensor is not finite.
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    random = np.random.default_rng(seed)
    samples: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}
    for values in Observer(graph)(tensors):
        for name in names:
            if not np.isfinite(values[name]).all():
                raise CalibrationError(f"tensor '{name}': expected finite values, found NaN or infinity")
            samples[name].append(np.abs(_sample(values[name], random)))
    return {name: np.quantile(np.concatenate(parts, 1), _QUANTILE, axis=1) for name, parts in samples.items()}


def choose_factors(graph: Graph, sizes: Mapping[str, Array]) -> dict[str, Array]:
    """Factors for `ScaleChannels`: size ** -m * (largest weight that reads it) ** (1 - m).

    Args:
        graph: rewritten.
        sizes: of the channels of the tensors of all `linear_groups`; see `channel_sizes`.

    Returns:
        Tensor -> (channels,), the same for all of a group; the largest of size times factor stays what
        it was.
    """
    factors: dict[str, Array] = {}
    readers = graph.consumers()
    for group in linear_groups(graph):
        size = _floored(np.maximum.reduce([sizes[name] for name in group]))
        kernels = [
            np.abs(graph[reader].weights["kernel"]).max(axis=(0, 1, 3))
            for name in group
            for reader in readers[name]
            if graph[reader].op in CONVOLUTIONS
        ]
        weight = _floored(np.maximum.reduce(kernels))
        wanted = weight ** (1 - _MIGRATION) / size**_MIGRATION
        factors.update(dict.fromkeys(group, wanted * size.max() / (wanted * size).max()))
    return factors


def _sample(value: Tensor, random: np.random.Generator) -> Tensor:
    """Random positions of a tensor (1, channels, H, W), all of a small one: (channels, positions)."""
    flat = value.reshape(value.shape[1], -1)
    if flat.shape[1] <= _POSITIONS:
        return flat
    return flat[:, random.integers(0, flat.shape[1], _POSITIONS)]


def _floored(values: npt.NDArray[np.floating]) -> Array:
    floor = _NEGLIGIBLE * float(values.max()) or 1.0
    return np.maximum(values.astype(np.float64), floor)
