"""Stand-ins for the parts of the hub that logins and tokens don't depend on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jupyterhub.proxy import Proxy
from jupyterhub.spawner import Spawner
from traitlets import Dict

TOKENS = Path("server-tokens")


class NoProxy(Proxy):
    """Keeps routes in memory; the tests talk to the hub itself."""

    should_start = False
    extra_routes = Dict()

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        self.extra_routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.extra_routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, Any]:
        return dict(self.extra_routes)


class ServerOfTests(Spawner):
    """A "server" that answers 200 to everything and writes its token where tests find it."""

    listener: asyncio.Server | None = None

    async def start(self) -> tuple[str, int]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        self.listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        TOKENS.mkdir(exist_ok=True)
        (TOKENS / self.user.name).write_text(self.get_env()["JUPYTERHUB_API_TOKEN"])
        return self.listener.sockets[0].getsockname()[:2]

    async def poll(self) -> int | None:
        return None if self.listener else 0

    async def stop(self, now: bool = False) -> None:
        if self.listener:
            self.listener.close()
            self.listener = None


class CredentialsOfTests:
    """Storage credentials that tell whose they are."""

    async def credentials(self, user: Any) -> CredentialsOfTests:
        self.name = user.name
        return self

    def as_container_json(self) -> dict[str, str]:
        return {
            "AccessKeyId": self.name,
            "SecretAccessKey": "secret",
            "Token": "session",
            "Expiration": "2040-01-01T00:00:00Z",
        }
