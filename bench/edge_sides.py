"""The proxies of ``bench edge``, with the classes by which JupyterHub changes their routes."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests
from jupyterhub.proxy import ConfigurableHTTPProxy, Proxy

from taccuino import edge
from taccuino.edge.routes import RouteTable
from taccuino.errors import ServiceError
from taccuino.settings import Settings

from .plain_hub import free_port, proxy_program
from .stand_in import address

START_SECONDS = 30.0


@dataclass
class EdgeSide:
    """A proxy that runs without a hub."""

    name: str
    port: int
    process: psutil.Process
    proxy: Proxy

    def cpu(self) -> float:
        """Seconds of CPU that it and its workers took until now."""
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    async def fill(self, first: int, last: int, server: int) -> None:
        """Add the routes of users ``bench<first>`` up to, and without, ``bench<last>``."""
        adding = (
            self._add(f"bench{number}", address(server, number))
            for number in range(first, last)
        )
        await asyncio.gather(*adding)

    async def time_additions(self, count: int, server: int) -> list[float]:
        """Add routes one after the other, then remove them: the seconds of each addition."""
        seconds = []
        names = [f"one-more{number}" for number in range(count)]
        for name in names:
            began = time.perf_counter()
            await self._add(name, address(server))
            seconds.append(time.perf_counter() - began)
        for name in names:
            await self.proxy.delete_route(f"/user/{name}/")
        return seconds

    async def _add(self, name: str, target: str) -> None:
        # What JupyterHub adds for a user's server.
        data = {"user": name, "server_name": ""}
        await self.proxy.add_route(f"/user/{name}/", target, data)

    def check(self, number: int) -> None:
        """Fail unless a request takes the route of ``bench<number>``."""
        path = f"/user/bench{number}/api"
        answer = requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10)
        if answer.status_code != 200 or answer.json()["path"] != path:
            raise ServiceError(f"{self.name}: {path} answered {answer.status_code}")


@asynccontextmanager
async def taccuino(name: str, directory: Path) -> AsyncIterator[EdgeSide]:
    """The edge, configured and run as ``taccuino up`` does it."""
    directory.mkdir(mode=0o711)
    settings = Settings.parse(
        {
            "state_dir": str(directory),
            "port": free_port(),
            "hub": {"port": free_port()},  # nobody listens: no request may go there
            "iam": {"issuer": "http://127.0.0.1:1", "client_id": "bench"},
        }
    )
    edge.prepare(settings)
    async with _process(edge.edge_command(settings), directory / "edge.log", {}) as process:
        table = RouteTable(
            admin_socket=str(settings.edge.admin_socket),
            routes_file=str(settings.edge.routes_file),
            patience=START_SECONDS,
        )
        await table.get_all_routes()
        yield EdgeSide(name, settings.port, process, table)


@asynccontextmanager
async def configurable_http_proxy(name: str, directory: Path) -> AsyncIterator[EdgeSide]:
    """configurable-http-proxy, as JupyterHub runs it."""
    directory.mkdir()
    port, api_port, token = free_port(), free_port(), secrets.token_hex(16)
    words = [
        *(str(proxy_program()), "--ip", "127.0.0.1", "--port", str(port)),
        *("--api-ip", "127.0.0.1", "--api-port", str(api_port)),
        *("--error-target", f"http://127.0.0.1:{free_port()}/hub/error", "--log-level", "info"),
    ]
    environment = {"CONFIGPROXY_AUTH_TOKEN": token}
    async with _process(words, directory / "proxy.log", environment) as process:
        proxy = ConfigurableHTTPProxy(
            api_url=f"http://127.0.0.1:{api_port}", auth_token=token, should_start=False
        )
        await proxy.get_all_routes()  # asks again until it is there
        yield EdgeSide(name, port, process, proxy)


@asynccontextmanager
async def _process(
    words: list[str], log: Path, environment: dict[str, str]
) -> AsyncIterator[psutil.Process]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 -- returns at once
            words, env=os.environ | environment, stdout=output, stderr=output
        )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)
