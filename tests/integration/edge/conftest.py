"""Fixtures of the edge's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, CookieJar
from edge_harness import Edge, free_port, running_edge, started
from two_edges import QUICK, SECRET, SERVERS, Hub, Two

from taccuino.settings import Settings


@pytest.fixture
async def running(short: Path) -> AsyncIterator[Edge]:
    async with running_edge(short) as edge_:
        yield edge_


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def two(short: Path, request: pytest.FixtureRequest) -> AsyncIterator[Two]:
    checks = getattr(request, "param", QUICK)
    ports, edges = {"bari": free_port(), "cnaf": free_port()}, {}
    secret = short / "secret"
    secret.write_text(SECRET)
    try:
        for name, peer in (("bari", "cnaf"), ("cnaf", "bari")):
            hub = Hub(f"hub {name}")
            await hub.start()
            settings = Settings.parse(
                {
                    "site": name,
                    "state_dir": str(short / name),
                    "port": ports[name],
                    "hub": {"port": hub.port},
                    "engine": {"network_pool": str(SERVERS)},
                    "sites": {"secret_file": str(secret), **checks},
                    "peers": [{"name": peer, "url": f"http://127.0.0.1:{ports[peer]}"}],
                }
            )
            (short / name).mkdir(mode=0o711)
            edges[name] = Edge(settings, hub, await started(settings), [hub])
        await asyncio.sleep(1 + checks["check_seconds"])  # until each has seen the other
        yield Two(edges)
    finally:
        for edge in edges.values():
            edge.stop()
            for server in edge.upstreams:
                await server.stop()


@pytest.fixture
async def browser() -> AsyncIterator[ClientSession]:
    """Keeps cookies, also those of an address without a name."""
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        yield session
