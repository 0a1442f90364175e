"""Whether the servers that ran before the hub did still run: asked while the hub serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from jupyterhub.app import JupyterHub
from prometheus_client import Gauge

from taccuino.engines.readiness import answers

__all__ = ["Verification"]

log = logging.getLogger(__name__)

SILENT_SERVERS = Gauge(
    "taccuino_silent_servers",
    "servers that ran before the hub did and do not answer since; they are left as they are",
)

_AT_ONCE = 16
_SOON_SECONDS = 2.0
_AGAIN_SECONDS = 30.0
_NAMED = 10


class Verification:
    """Looks at servers that an earlier hub started.

    One whose spawner says that it ended is cleaned up after. One that runs, or may run (its
    engine does not answer), is watched from then on as any other. One that runs and does not
    answer is told of, and asked again until it answers or ends: why it is silent can't be
    known here, and a network that is cut for a while is no reason to end anybody's work. At
    first that is soon: an engine that starts with the hub knows what ended a moment later.
    """

    def __init__(self, app: JupyterHub) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._silent: list[tuple[Any, Any]] = []

    async def run(self, servers: Iterable[tuple[Any, Any]]) -> None:
        """Verify each of these users' spawners; returns once none of them is silent."""
        await asyncio.gather(*(self._verify(user, spawner) for user, spawner in servers))
        self._tell()
        pause = _SOON_SECONDS
        while self._silent:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _AGAIN_SECONDS)
            asked, self._silent = self._silent, []
            await asyncio.gather(*(self._look(user, spawner) for user, spawner in asked))
            if len(self._silent) != len(asked):
                self._tell()
        SILENT_SERVERS.set(0)

    async def _verify(self, user: Any, spawner: Any) -> None:
        async with self._turns:
            if not _is_running(user, spawner):
                return
            if user.name in self._app.authenticator.blocked_users:
                await self._stop(user, spawner)
                return
            spawner.add_poll_callback(self._ended, user, spawner.name)
            spawner.start_polling()
        await self._look(user, spawner)

    async def _stop(self, user: Any, spawner: Any) -> None:
        log.warning("Stopping the server of %s, who is blocked", user.name)
        try:
            await user.stop(spawner.name)
        except Exception:
            log.exception("The server of %s can't be stopped", user.name)

    async def _look(self, user: Any, spawner: Any) -> None:
        """Clean up after a server that ended; note one that runs and does not answer."""
        async with self._turns:
            if not _is_running(user, spawner):
                return
            try:
                if await spawner.poll_and_notify() is not None:
                    return
            except Exception:
                log.exception("Whether the server of %s runs is not known", user.name)
            if not _is_running(user, spawner):
                return
            server = spawner.server
            path = f"{server.base_url}api"
            if not await answers(server.ip, server.port, path) and _is_running(user, spawner):
                self._silent.append((user, spawner))

    async def _ended(self, user: Any, name: str) -> None:
        """Clean up after a server that ended, as JupyterHub does whenever it finds one."""
        status = await user.spawners[name].poll()
        log.warning("The server of %s ended with %s while the hub was away", user.name, status)
        await self._app.proxy.delete_user(user, name)
        await user.stop(name)

    def _tell(self) -> None:
        SILENT_SERVERS.set(len(self._silent))
        if not self._silent:
            log.info("All servers that ran before were looked at, and those that run answer")
            return
        names = [user.name for user, _ in self._silent[:_NAMED]]
        more = len(self._silent) - len(names)
        log.warning(
            "%d of the servers that ran do not answer the hub; they are left as they are. Is "
            "the network to them cut? They are: %s%s",
            len(self._silent),
            ", ".join(names),
            f" and {more} more" if more else "",
        )


def _is_running(user: Any, spawner: Any) -> bool:
    """Whether this is still the user's server, and not about to be another."""
    return bool(user.spawners.get(spawner.name) is spawner and spawner.ready)
