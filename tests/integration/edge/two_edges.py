"""Two edges that know each other, with their hubs."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

import psutil
from aiohttp import ClientSession, web
from edge_harness import Edge, Upstream

from taccuino.edge import PeerMap, RuntimeAPI

__all__ = ["QUICK", "SECRET", "SERVERS", "Hub", "Two", "stop_all", "who"]

SECRET = "s" * 40
SERVERS = ip_network("127.0.1.0/24")
"""The addresses of notebook servers."""
QUICK = {"check_seconds": 0.2, "fall": 3, "rise": 1}


class Hub(Upstream):
    """A hub that knows the tokens with its name in them, and no others; health can be told."""

    healthy = True
    refused = 0
    """Requests of a program that is known and may not."""

    async def _tell(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "")
        if request.path == "/hub/api/not-yours" and self.name in token:
            self.refused += 1
            return web.json_response({"name": f"no, says {self.name}"}, status=403)
        if request.path == "/hub/api/no-such-call":
            return web.Response(status=404)
        if request.path == "/hub/ready":
            return web.Response(status=200 if self.healthy else 503)
        if request.path.startswith("/user/") and request.method != "GET":
            return web.Response(status=403, text="XSRF cookie does not match")
        known = self.name in token or request.path == "/hub/api/"  # its version
        if request.path.startswith("/hub/api/") and token and not known:
            return web.json_response({"name": self.name}, status=403)
        return await super()._tell(request)


@dataclass
class Two:
    """The edges of two sites that know each other, by name."""

    edges: dict[str, Edge]

    async def run_server(self, site: str, user: str) -> Upstream:
        """A server of the user at a site; the other site was told."""
        server = await self.edges[site].upstream(f"{user} at {site}")
        await self.edges[site].routes().add_route(f"/user/{user}/", server.url, {"user": user})
        other = self.edges["cnaf" if site == "bari" else "bari"].settings.edge
        await PeerMap(other.peers_file, other.admin_socket).set({f"/user/{user}/": site})
        return server

    def runtime(self, site: str) -> RuntimeAPI:
        return RuntimeAPI(self.edges[site].settings.edge.admin_socket)

    async def peers(self, site: str) -> dict[str, str]:
        """What a site's edge knows of the others' servers."""
        return await self.runtime(site).show_map(str(self.edges[site].settings.edge.peers_file))

    def url(self, site: str) -> str:
        return self.edges[site].url


async def who(http: ClientSession, url: str, status: int = 200, **request: object) -> str:
    async with http.get(url, **request) as answer:
        assert answer.status == status, await answer.text()
        return str((await answer.json())["name"])


async def stop_all(edge: Edge) -> None:
    """A site is lost: its edge and its hub."""
    master = psutil.Process(edge.process.pid)
    for process in [*master.children(), master]:
        process.kill()
    await edge.hub.stop()
