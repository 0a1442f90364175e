"""A real JupyterHub whose proxy is the edge."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from edge_harness import Edge

from taccuino.edge import RuntimeAPI

pytestmark = pytest.mark.integration

CONFIG = """
import json, os
from taccuino.edge import configure
from taccuino.settings import Settings
settings = Settings.parse(json.loads(os.environ["EDGE_SETTINGS"]))
configure(c, settings)
c.JupyterHub.proxy_class = "taccuino.edge.routes.RouteTable"
c.JupyterHub.bind_url = settings.url
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{settings.hub.port}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.services = [{"name": "x", "url": os.environ["SERVICE_URL"]}]
c.JupyterHub.last_activity_interval = 1
c.JupyterHub.db_url = "sqlite:///:memory:"
"""


@asynccontextmanager
async def hub(running: Edge, directory: Path, service_url: str) -> AsyncIterator[None]:
    config = directory / "jupyterhub_config.py"
    config.write_text(CONFIG)
    environment = {
        **os.environ,
        "EDGE_SETTINGS": json.dumps(running.settings.model_dump(mode="json")),
        "SERVICE_URL": service_url,
        "JUPYTERHUB_CRYPT_KEY": "00" * 32,
    }
    process = subprocess.Popen(  # noqa: ASYNC220 -- returns at once
        [sys.executable, "-m", "jupyterhub", "-f", str(config)], cwd=directory, env=environment
    )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


async def test_a_hub_uses_the_edge(running: Edge, short: Path, http: ClientSession) -> None:
    await running.hub.stop()
    service = await running.upstream("x")
    routes = str(running.settings.edge.routes_file)
    runtime = RuntimeAPI(running.settings.edge.admin_socket)
    await runtime.put(routes, {"/user/gone/": "127.0.0.1:9"})

    async def until(wanted: dict[str, str]) -> None:
        async with asyncio.timeout(30):
            while await runtime.show_map(routes) != wanted:  # noqa: ASYNC110 -- no event tells
                await asyncio.sleep(0.1)

    async with hub(running, short, service.url):
        # The first request is held until the hub listens.
        async with http.get(f"{running.url}/hub/login") as answer:
            assert answer.status == 200
            assert "form" in await answer.text()
        address = f"127.0.0.1:{service.port}"
        await until({"/services/x/": address})
        async with http.get(f"{running.url}/services/x/y") as answer:
            assert (await answer.json())["name"] == "x"

        # The hub mends what has come to differ, here an entry that was lost.
        await runtime.remove(routes, ["/services/x/"])
        await runtime.put(routes, {"/user/stale/": "127.0.0.1:9"})
        await until({"/services/x/": address})
