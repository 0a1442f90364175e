"""Fixtures of the edge's tests."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession
from edge_harness import Edge, running_edge


@pytest.fixture
def short() -> Iterator[Path]:
    """A short state directory: a unix socket's path has 107 characters at most."""
    with tempfile.TemporaryDirectory(prefix="tc-", dir="/tmp") as directory:
        path = Path(directory)
        path.chmod(0o711)
        yield path


@pytest.fixture
async def running(short: Path) -> AsyncIterator[Edge]:
    async with running_edge(short) as edge_:
        yield edge_


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session
