"""Fixtures and rules for the whole suite."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.tiny_run import TinyRun

TEST_DATA_VARIABLE = "NANONET_EDGE_TEST_DATA"

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


# What lands is judged by the same examples each time; `HYPOTHESIS_PROFILE=explore` looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None)


def pytest_configure() -> None:
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
    folder = os.environ.get(TEST_DATA_VARIABLE)
    if folder and not Path(folder).is_dir():
        raise pytest.UsageError(f"{TEST_DATA_VARIABLE}: expected a folder, found nothing at {folder}")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images, checkpoints and fixtures; without it the test is skipped."""
    folder = os.environ.get(TEST_DATA_VARIABLE)
    if not folder:
        pytest.skip(f"needs real data: set {TEST_DATA_VARIABLE}")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A finished training run; leave its folder as it is."""
    from tests.tiny_run import make_tiny_run

    return make_tiny_run(tmp_path_factory.mktemp("tiny-run"))


def _fail_needless_skip(report: Report) -> Report:
    """A test that skips for want of test data, although there is some, has failed."""
    if report.skipped and os.environ.get(TEST_DATA_VARIABLE) and TEST_DATA_VARIABLE in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"{TEST_DATA_VARIABLE} is set, and yet: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _fail_needless_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _fail_needless_skip((yield))
