"""Real hubs for the tests of this folder."""

from __future__ import annotations

import pytest
from hub_trial import run_hub


@pytest.fixture(scope="module")
def hub():
    yield from run_hub({"enabled": False})


@pytest.fixture(scope="module")
def culling_hub():
    yield from run_hub({"idle_seconds": 10, "warn_seconds": 8, "every_seconds": 1})


@pytest.fixture(scope="module")
def small_hub():
    """A hub whose node has room for two servers."""
    yield from run_hub({"idle_seconds": 3600}, {"servers": 2})
