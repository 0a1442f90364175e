"""Fixtures for all tests; nothing is started for those that do not ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.instance import Instance, running_instance
from support.storage_stack import Stack, missing_programs, running_stack


@pytest.fixture(scope="session")
def instance() -> Iterator[Instance]:
    """The whole service, running."""
    with running_instance() as running:
        yield running


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """An object storage with its IAM, and nothing else of the service."""
    if missing := missing_programs():
        pytest.skip(f"not installed: {', '.join(missing)}; install Debian's ceph and haproxy")
    with running_stack() as running:
        yield running
