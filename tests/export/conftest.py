"""What the tests of export share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits

from tests.export.networks import Shelf


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread() -> Iterator[None]:
    """Keep NumPy's matrix products on one thread.

    OpenBLAS's threads wait by spinning. Beside OpenVINO's, on two cores, the interpreter is ten
    times slower with them than without, and sometimes does not come back at all.
    """
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """Artifacts of random networks, each written once."""
    return Shelf(tmp_path_factory.mktemp("shelf"))
