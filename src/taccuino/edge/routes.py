"""JupyterHub's proxy over the edge: each route is an entry in HAProxy's map."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyterhub.proxy import Proxy
from traitlets import Bool, Float, Unicode

from .routemap import Route, parse_target, route_key, route_of
from .routes_file import RoutesFile
from .runtime import EdgeError, EdgeUnreachableError, RuntimeAPI

__all__ = ["RouteTable"]


@dataclass
class _Change:
    """A route to set, or with None to remove, and what became of it."""

    key: str
    route: Route | None
    done: bool = False
    error: EdgeError | None = None


class RouteTable(Proxy):
    """The routes, in HAProxy's memory and in the file that HAProxy starts with.

    The file is written first, then the running HAProxy is told. If either side dies in
    between, they converge: an HAProxy that restarts loads the file; what a crash of the hub
    left half done shows in :meth:`get_all_routes`, which tells what HAProxy really holds, and
    the hub's ``check_routes`` mends it.

    The hub's own route ``/`` is not in the map: the edge sends there whatever no route matches.
    """

    should_start = Bool(False, help="The edge is supervised beside the hub, not started by it.")
    admin_socket = Unicode(config=True, help="Path of HAProxy's admin socket.")
    routes_file = Unicode(
        config=True, help="Path of the map file, as HAProxy's configuration names it."
    )
    patience = Float(
        5.0,
        config=True,
        help="Seconds to wait for an HAProxy that is not there (it may be restarting).",
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._runtime = RuntimeAPI(Path(self.admin_socket))
        self._file = RoutesFile(Path(self.routes_file), self.log.warning)
        self.version = 0
        """Counts the changes of the routes."""
        self.changed = asyncio.Event()
        """Set, and replaced, at each of them."""
        self._default: dict[str, Any] | None = None
        self._changing = asyncio.Lock()
        self._waiting: list[_Change] = []

    @property
    def servers(self) -> list[tuple[str, str, str]]:
        """User, name and routespec of each notebook server that the edge leads to."""
        return [
            (route.data["user"], route.data.get("server_name", ""), route.routespec)
            for route in self._file.known
            if "user" in route.data
        ]

    async def add_route(self, routespec: str, target: str, data: dict[str, Any]) -> None:
        """Send requests below ``routespec`` to ``target``; replaces the route if it is there.

        Raises
        ------
        EdgeError
            If the route is none the edge can serve, or HAProxy can't be told; then nothing
            has changed.
        """
        routespec = self.validate_routespec(routespec)
        if data.get("hub") and routespec == "/":
            self._default = {"routespec": routespec, "target": target, "data": data}
            return
        route = Route(routespec, target, await _address(target), data)
        await self._change(route.key, route)

    async def delete_route(self, routespec: str) -> None:
        """Remove a route if it exists.

        An HAProxy that does not run is no error: it starts without the route.
        """
        routespec = self.validate_routespec(routespec)
        if routespec == "/" and self._default:
            self._default = None
            return
        await self._change(route_key(routespec), None)

    async def get_all_routes(self) -> dict[str, dict[str, Any]]:
        """What HAProxy holds, with the data that belongs to it, and the hub's own route."""
        async with self._changing:
            held = await self._patiently(lambda: self._runtime.show_map(self.routes_file))
            known = await asyncio.to_thread(self._file.routes)
        routes = {}
        for key, address in held.items():
            route = known.get(key)
            if route is None or route.address != address:
                route = route_of(key, address)
            if route is None:
                self.log.warning("The edge holds no route in %s %s", key, address)
                continue
            routes[route.routespec] = {
                "routespec": route.routespec,
                "target": route.target,
                "data": route.data,
            }
        if self._default:
            routes["/"] = self._default
        return routes

    async def _change(self, key: str, route: Route | None) -> None:
        """Set or remove one route.

        Changes that come while others are being made wait, and are then made together: one
        writing of the file and one exchange with HAProxy for all of them.
        """
        change = _Change(key, route)
        self._waiting.append(change)
        async with self._changing:
            if not change.done:
                await self._make_changes()
        if change.error is not None:
            raise change.error

    async def _make_changes(self) -> None:
        """Make all changes that wait: first in the file, then in HAProxy."""
        changes, self._waiting = self._waiting, []
        error: EdgeError | None = None
        try:
            await self._make(changes)
        except EdgeError as refused:
            error = refused
        except BaseException:
            # Cancelled: whoever waits next makes them, from the beginning.
            self._waiting = changes + self._waiting
            raise
        for change in changes:
            change.done, change.error = True, error

    async def _make(self, changes: list[_Change]) -> None:
        wanted = {change.key: change.route for change in changes}
        undo = await self._write(wanted)
        added = {key: route.address for key, route in wanted.items() if route is not None}
        removed = [key for key, route in wanted.items() if route is None]
        try:
            if added:
                await self._patiently(lambda: self._runtime.put(self.routes_file, added))
            if removed:
                await self._runtime.remove(self.routes_file, removed)
        except EdgeUnreachableError as error:
            if added:
                await self._write(undo)
                raise
            self.log.warning("Removed routes (%s) from the file only: %s", removed, error)
        except EdgeError:
            await self._write(undo)
            raise

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Call HAProxy; if it is not there, again until ``patience`` is over."""
        limit = time.monotonic() + self.patience
        while True:
            try:
                return await call()
            except EdgeUnreachableError:
                if time.monotonic() > limit:
                    raise
            await asyncio.sleep(0.1)

    async def _write(self, changes: dict[str, Route | None]) -> dict[str, Route | None]:
        """Change the file, and wake who waits for a change; the changes that undo it."""
        undo = await asyncio.to_thread(self._file.change, changes)
        if undo:
            self.version += 1
            self.changed.set()
            self.changed = asyncio.Event()
        return undo


async def _address(target: str) -> str:
    """The ``address:port`` of a target; HAProxy takes no names, so they are looked up here."""
    where = parse_target(target)
    if where.is_address:
        return f"{where.host}:{where.port}"
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EdgeError(f"target {target}: {where.host} is no known host: {error}") from error
    # IPv4 first: notebook servers listen there, and a name may have both.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return f"{found[0][4][0]}:{where.port}"
