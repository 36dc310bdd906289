"""The weights that ship with the package."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from nanonet_edge.checkpoint import load_checkpoint
from nanonet_edge.errors import UsageError
from nanonet_edge.image_header import read_header
from nanonet_edge.interpreter import evaluate
from nanonet_edge.manifest import sha256_file
from nanonet_edge.variants import VARIANTS, Topology
from nanonet_edge.weights import BundledWeights, all_bundled_weights, bundled_weights
from nanonet_edge.weights.card import render_card
from nanonet_edge.weights.facts import read_facts
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
    shipped = ", ".join(files.checkpoint.name.removesuffix(".weights.h5") for files in all_bundled_weights())
    with pytest.raises(UsageError, match=rf"NanoNet-C \(described\), only for {shipped}$"):
        bundled_weights(VARIANTS["c"], Topology.DESCRIBED)


WITH_FACTS = [files for files in all_bundled_weights() if files.facts.is_file()]


def test_all_that_ship_have_facts_or_none_has_yet() -> None:
    assert WITH_FACTS in ([], list(all_bundled_weights()))


@pytest.mark.parametrize("files", WITH_FACTS, ids=lambda files: str(files.checkpoint.name))
def test_the_facts_of_what_ships_are_true(files: BundledWeights) -> None:
    facts, found = read_facts(files.facts), load_checkpoint(files.checkpoint)
    assert (found.variant, found.topology) == (files.variant, files.topology)
    assert (facts.variant, facts.topology) == (files.variant.name, files.topology)
    assert facts.sha256 == found.sha256 == sha256_file(files.checkpoint)
    assert facts.bytes == files.checkpoint.stat().st_size
    assert facts.parameters == found.graph.parameters == files.variant.expected_parameters(files.topology)
    assert facts.settings["variant"] == facts.variant
    assert facts.settings["validation"]["images"] == facts.images
    assert files.card.read_text(encoding="utf-8") == render_card(facts)
    header = read_header(files.curves.read_bytes())
    assert header is not None
    with np.load(files.calibration, allow_pickle=False) as calibration:
        recorded = json.loads(bytes(calibration["header"]))
    assert (recorded["weights_sha256"], recorded["size"]) == (facts.sha256, facts.size)
    # The card says of how many images the ranges are.
    count = re.search(r"ranges of ([0-9]+) training images", render_card(facts))
    assert count is not None
    assert recorded["record"]["count"] == int(count[1])
    # Nothing of the machine that trained them.
    assert not re.search(r"/(home|root|tmp|work|Users)/", files.facts.read_text() + render_card(facts))
