"""A real HAProxy on free ports, and web servers behind it that say what they received."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from taccuino import edge
from taccuino.settings import Settings


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Upstream:
    """A web server that answers with what it received; it can be stopped and started."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/{path:.*}ws", self._websocket)
        app.router.add_get("/{path:.*}large", self._large)
        app.router.add_put("/{path:.*}", self._count)
        app.router.add_route("*", "/{path:.*}", self._tell)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _tell(self, request: web.Request) -> web.Response:
        received = {
            "name": self.name,
            "connection": request.transport.get_extra_info("peername")[1],
            "method": request.method,
            "path": request.raw_path,
            "headers": [[key.lower(), value] for key, value in request.headers.items()],
        }
        status = 403 if request.path.endswith("/refused") else 200
        return web.json_response(received, status=status, headers={"Server": "secret/1.0"})

    async def _large(self, request: web.Request) -> web.Response:
        media = request.query["type"]
        return web.Response(body=b"notebook " * 20_000, content_type=media)

    async def _count(self, request: web.Request) -> web.Response:
        size = 0
        async for chunk in request.content.iter_chunked(2**20):
            size += len(chunk)
        return web.json_response({"name": self.name, "size": size})

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        connection = web.WebSocketResponse()
        await connection.prepare(request)
        async for message in connection:
            if message.type == WSMsgType.TEXT:
                await connection.send_str(f"{self.name}: {message.data}")
        return connection


@dataclass
class Edge:
    """A running edge."""

    settings: Settings
    hub: Upstream
    process: subprocess.Popen[bytes]
    upstreams: list[Upstream] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.settings.url

    def routes(self, **traits: Any) -> Any:
        from taccuino.edge.routes import RouteTable

        return RouteTable(
            admin_socket=str(self.settings.edge.admin_socket),
            routes_file=str(self.settings.edge.routes_file),
            **traits,
        )

    async def upstream(self, name: str) -> Upstream:
        server = Upstream(name)
        self.upstreams.append(server)
        await server.start()
        return server

    async def restart(self) -> None:
        self.stop()
        self.process = await started(self.settings)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


async def started(settings: Settings) -> subprocess.Popen[bytes]:
    edge.prepare(settings)
    process = subprocess.Popen(edge.edge_command(settings))  # noqa: ASYNC220 -- returns at once
    for _ in range(200):
        try:
            await edge.check(settings)
        except edge.EdgeUnreachableError:
            assert process.poll() is None, "HAProxy ended; see its words above"
            await asyncio.sleep(0.05)
        else:
            return process
    raise AssertionError("HAProxy was not ready in 10 s")


@asynccontextmanager
async def running_edge(directory: Path, **changes: Any) -> AsyncIterator[Edge]:
    hub = Upstream("hub")
    await hub.start()
    settings = Settings.parse(
        {"state_dir": str(directory), "port": free_port(), "hub": {"port": hub.port}, **changes}
    )
    running = Edge(settings, hub, await started(settings), [hub])
    try:
        yield running
    finally:
        running.stop()
        for server in running.upstreams:
            await server.stop()
