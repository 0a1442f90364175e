"""Fixtures for all tests; nothing is started for those that do not ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.instance import Instance, running_instance


@pytest.fixture(scope="session")
def instance() -> Iterator[Instance]:
    """The whole service, running."""
    with running_instance() as running:
        yield running
