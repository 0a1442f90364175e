"""What the hub does beside its requests: it removes what no server owns any more.

Containers, networks and mounts are left when a hub is killed while a server starts or stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from jupyterhub.app import JupyterHub

from taccuino.engines import SharedStorage, reconcile
from taccuino.engines.warm import WarmPool
from taccuino.errors import TaccuinoError
from taccuino.settings import Settings

from .application import all_servers_known
from .revocation import Revocations
from .storage import HubStorage, StorageBackend

__all__ = ["active_spawners", "start_housekeeping"]

log = logging.getLogger(__name__)

_EVERY_SECONDS = 600.0
_WHILE_STARTING_SECONDS = 2.0
_WANTED = {"mounted", "failed"}  # the mount plane looks after the others by itself

_running: set[asyncio.Task[None]] = set()


def start_housekeeping(settings: Settings, backend: StorageBackend, pool: WarmPool) -> None:
    """Begin, if this is a hub: JupyterHub reads its configuration inside its event loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    Revocations(lambda: JupyterHub.instance().users).watch()
    task = loop.create_task(_keep_house(settings, backend, pool))
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _keep_house(settings: Settings, backend: StorageBackend, pool: WarmPool) -> None:
    app = JupyterHub.instance()
    warming: asyncio.Task[None] | None = None
    while True:
        # Soon after a start, which may follow a crash, and then from time to time.
        await asyncio.sleep(_EVERY_SECONDS if app.http_server else _WHILE_STARTING_SECONDS)
        if app.http_server is None:
            continue
        await all_servers_known(app)
        try:
            live = lambda: [*_live(app), *(server.name for server in pool.held)]  # noqa: E731
            if removed := await reconcile(settings, live):
                log.warning("Removed what no server owned: %s", ", ".join(removed))
            # Only now: a container that nobody owned had the mounts.
            if released := await release_mounts(backend, lambda name: _has_server(app, name)):
                log.warning(
                    "Let go of the storage of %s, without a server", ", ".join(released)
                )
            if warming is None or warming.done():  # what an earlier hub left is gone by now
                warming = asyncio.create_task(pool.run())
        except TaccuinoError as error:
            log.warning("What no server owns could not be looked for: %s", error)
        except Exception:
            log.exception("What no server owns could not be looked for")


async def release_mounts(
    backend: StorageBackend, has_server: Callable[[str], bool]
) -> list[str]:
    """Upload and unmount what is mounted for users without a server; their names.

    ``has_server`` is asked again once nobody else can attach or detach the user's storage: a
    server that starts meanwhile keeps it.

    Raises
    ------
    MountPlaneError
        If the mount plane can't be asked.
    """
    wanted = [s.username for s in await backend.mount_plane.list() if s.state in _WANTED]
    idle = [name for name in wanted if name and not has_server(name)]

    async def release(name: str) -> None:
        def report(message: str) -> None:
            log.info("%s: %s", name, message)

        storage = HubStorage(backend, None)  # to let go, it needs no user
        await SharedStorage(name).detach(storage, lambda: has_server(name), report)

    await asyncio.gather(*(release(name) for name in idle))
    return idle


def _has_server(app: Any, username: str) -> bool:
    """Whether a server of the user runs, starts or stops, or has their storage still."""
    return any(
        spawner.active or getattr(spawner, "holds_storage", False)
        for user in app.users.values()
        if user.name == username
        for spawner in user.spawners.values()
    )


def _live(app: Any) -> list[str]:
    """The containers of all servers that run, start, stop or are being looked at."""
    return [name for spawner in active_spawners(app) for name in spawner.engine_names]


def active_spawners(app: Any) -> list[Any]:
    """The spawners of all servers that run, start, stop or are being looked at."""
    return [
        spawner
        for user in app.users.values()
        for spawner in user.spawners.values()
        if spawner.active
    ]
