"""The peers' routes in HAProxy: a path and the name of the site that serves it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from taccuino.private_files import write_private

from .routemap import route_key
from .runtime import EdgeError, EdgeUnreachableError, RuntimeAPI

__all__ = ["PeerMap"]

log = logging.getLogger(__name__)

_HEADER = "# The routes of Taccuino's other sites. The hub writes this file.\n"


class PeerMap:
    """What the edge knows of servers at other sites, in its memory and in its file.

    Parameters
    ----------
    file
        The map file, as HAProxy's configuration names it.
    socket
        HAProxy's admin socket.
    """

    def __init__(self, file: Path, socket: Path) -> None:
        self._file = file
        self._runtime = RuntimeAPI(socket)
        self._held: dict[str, str] | None = None
        self._worker = 0

    async def reread(self) -> None:
        """Give HAProxy what its file says, of which it may have missed the latest.

        Raises
        ------
        EdgeError
            If the file can't be read, or HAProxy refuses.
        """
        try:
            text = await asyncio.to_thread(self._file.read_text, encoding="utf-8")
        except OSError as error:
            raise EdgeError(f"{self._file}: {error.strerror}") from error
        words = [line.split(" ") for line in text.splitlines() if not line.startswith("#")]
        await self._tell(dict(pair for pair in words if len(pair) == 2))

    async def set(self, routes: Mapping[str, str]) -> None:
        """Make these the routes, by JupyterHub's routespec, with the site of each.

        An HAProxy that does not run is no error: it starts with the file. Nor is a full disk:
        it is told all the same.

        Raises
        ------
        EdgeError
            If HAProxy refuses.
        """
        wanted = {route_key(route): site for route, site in routes.items()}
        text = _HEADER + "".join(f"{key} {site}\n" for key, site in sorted(wanted.items()))
        try:
            await asyncio.to_thread(write_private, self._file, text)
        except OSError as error:
            log.warning("%s could not be written: %s", self._file, error.strerror)
        try:
            await self._tell(wanted)
        except EdgeUnreachableError:
            return

    async def _tell(self, wanted: dict[str, str]) -> None:
        worker = await self._runtime.worker_pid()
        if self._held is None or worker != self._worker:  # it began with the file
            self._held = await self._runtime.show_map(str(self._file))
            self._worker = worker
        held, self._held = self._held, None  # until both changes are made
        if changed := {key: site for key, site in wanted.items() if held.get(key) != site}:
            await self._runtime.put(str(self._file), changed)
        if gone := [key for key in held if key not in wanted]:
            await self._runtime.remove(str(self._file), gone)
        self._held = wanted
