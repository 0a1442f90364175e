"""What the hub does beside its requests: it removes what no server owns any more."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from jupyterhub.app import JupyterHub

from taccuino.engines import reconcile
from taccuino.errors import TaccuinoError
from taccuino.settings import Settings

__all__ = ["start_housekeeping"]

log = logging.getLogger(__name__)

_EVERY_SECONDS = 600.0
_WHILE_STARTING_SECONDS = 2.0

_running: set[asyncio.Task[None]] = set()


def start_housekeeping(settings: Settings) -> None:
    """Begin, if this is a hub: JupyterHub reads its configuration inside its event loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    task = loop.create_task(_keep_house(settings))
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _keep_house(settings: Settings) -> None:
    app = JupyterHub.instance()
    while True:
        # Soon after a start, which may follow a crash, and then from time to time.
        await asyncio.sleep(_EVERY_SECONDS if app.http_server else _WHILE_STARTING_SECONDS)
        if app.http_server is None:  # not all servers that run are known yet
            continue
        try:
            removed = await reconcile(settings, lambda: _live(app))
        except TaccuinoError as error:
            log.warning("What no server owns could not be looked for: %s", error)
        else:
            if removed:
                log.warning("Removed what no server owned: %s", ", ".join(removed))


def _live(app: Any) -> list[str]:
    """The containers of all servers that run, start, stop or are being looked at."""
    return [
        spawner.object_name
        for user in app.users.values()
        for spawner in user.spawners.values()
        if spawner.active
    ]
