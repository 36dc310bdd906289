"""What the tests of export share."""

from __future__ import annotations

import pytest

from tests.export.networks import Shelf


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Artifacts of random networks, each written once."""
    return Shelf(tmp_path_factory.mktemp("shelf"))
