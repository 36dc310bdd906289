"""The rewrite: the same function, a better graph. See `Pass` for what a pass promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanonet_edge.graph import Graph
from nanonet_edge.passes.activation import FuseActivation
from nanonet_edge.passes.base import Pass, PassResult
from nanonet_edge.passes.batch_norm import FoldBatchNorm, FoldReleasedShortcut, NormAsConvolution
from nanonet_edge.passes.boundary import FoldInputScale, SetHead, SwapInputChannels
from nanonet_edge.passes.decoder import CommuteUpsample, SqueezeAsConvolution, TransposeAsConvolution
from nanonet_edge.passes.encoder import MergeStridedPadding

#: In the order in which they are applied.
DEFAULT_PASSES: tuple[Pass, ...] = (
    MergeStridedPadding(),
    FoldReleasedShortcut(),
    FoldBatchNorm(),
    NormAsConvolution(),
    TransposeAsConvolution(),
    SqueezeAsConvolution(),
    CommuteUpsample(),
    FuseActivation(),
)


@dataclass(frozen=True)
class Rewritten:
    """`graph` after the passes; `applied`, the names of those that changed something."""

    graph: Graph
    applied: tuple[str, ...]


def rewrite(graph: Graph, passes: Sequence[Pass] = DEFAULT_PASSES) -> Rewritten:
    """Apply passes in order.

    Raises:
        GraphError: a pass found its conditions broken.
    """
    applied = []
    for each in passes:
        result = each.run(graph)
        graph = result.graph
        if result.changes:
            applied.append(each.name)
    return Rewritten(graph, tuple(applied))


__all__ = [
    "DEFAULT_PASSES",
    "CommuteUpsample",
    "FoldBatchNorm",
    "FoldInputScale",
    "FoldReleasedShortcut",
    "FuseActivation",
    "MergeStridedPadding",
    "NormAsConvolution",
    "Pass",
    "PassResult",
    "Rewritten",
    "SetHead",
    "SqueezeAsConvolution",
    "SwapInputChannels",
    "TransposeAsConvolution",
    "rewrite",
]
