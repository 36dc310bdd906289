"""Artifacts of random networks, and devices, for the tests of predictions."""

from __future__ import annotations

import pytest

from nanonet_edge.devices import Catalogue, load_catalogue
from tests.export.networks import Shelf


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("prediction"))


@pytest.fixture(scope="session")
def devices() -> Catalogue:
    """The profiles that ship, whatever folder of their own the user has."""
    return load_catalogue(environment={})
