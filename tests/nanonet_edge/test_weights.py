"""The weights that ship with the package."""

from __future__ import annotations

import pytest

from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.errors import UsageError
from nanonet_edge.interpreter import evaluate
from nanonet_edge.variants import VARIANTS, Topology
from nanonet_edge.weights import bundled_weights
from tests.nanonet_edge.graphs import image


def test_a_trained_nanonet_c_ships() -> None:
    found = load_checkpoint(bundled_weights(VARIANTS["c"], Topology.RELEASED).checkpoint, size=64)
    assert (found.variant.name, found.topology, found.classes) == ("c", Topology.RELEASED, 1)
    assert found.graph.parameters == 36_561
    assert evaluate(found.graph, image(64)).std() > 0


def test_a_card_and_a_calibration_ship_with_it() -> None:
    found = bundled_weights(VARIANTS["c"], Topology.RELEASED)
    assert found.card.is_file()
    assert found.calibration.is_file()


def test_what_does_not_ship_is_answered_with_what_does() -> None:
    with pytest.raises(
        UsageError, match=r"NanoNet-C \(described\): give --weights FILE \(shipped: nanonet-c\.released"
    ):
        bundled_weights(VARIANTS["c"], Topology.DESCRIBED)
