"""JupyterHub's application, which serves first and looks at the servers that ran afterwards.

JupyterHub asks for each server before it serves, and stops one that it can't reach in time: a
hub that restarts while a network or an engine is away removes servers that work (of ten, ten).
Here a server that ran counts as running until it is known to have ended, as its spawner's
``poll`` tells; one that does not answer stays, and the operators are told (`Verification`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.metrics import RUNNING_SERVERS
from jupyterhub.user import UserDict
from sqlalchemy.orm import selectinload
from traitlets import default

from taccuino.edge.routes import RouteTable

from .verification import Verification

__all__ = ["HubApplication", "HubRouteTable", "all_servers_known"]

_AT_ONCE = 10
"""Servers that are loaded between two looks at requests; each takes some 2 ms."""


class HubApplication(JupyterHub):
    """What ``taccuino hub`` runs; configured as ``c.JupyterHub``."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.servers_known = asyncio.Event()
        """Set once all servers that ran before are among ``users``."""
        self._background: list[asyncio.Task[None]] = []

    @default("users")
    def _users_default(self) -> UserDict:
        assert self.tornado_settings
        return _Users(db_factory=lambda: self.db, settings=self.tornado_settings)

    def init_logging(self) -> None:
        """Set up JupyterHub's log, with ours as a part of it."""
        super().init_logging()
        logging.getLogger("taccuino").parent = self.log

    async def start(self) -> None:
        """Serve; a site among others asks its peers first, whose users may be there."""
        # What is there now stays for the hub's life: collections need not look at it.
        gc.freeze()
        gc.enable()
        self.tornado_settings["taccuino_sites"].begin(self)
        await super().start()

    async def init_spawners(self) -> int:
        """Begin to take up the servers that ran; returns how many there are, at once."""
        rows = self.db.query(orm.Spawner.id, orm.Server.ip).join(orm.Spawner.server).all()
        # What was starting as the last hub ended has a row, and no address yet. Until it is
        # cleaned up after, which is soon, nobody can start it anew.
        lost = [id_ for id_, address in rows if not address]
        for _, spawner in self._load(lost):
            spawner._check_pending = True  # noqa: SLF001 - as JupyterHub's own does
        ran = [id_ for id_, address in rows if address]
        self._background.append(asyncio.create_task(self._take_up(lost, ran)))
        return len(rows)

    def cleanup_oauth_clients(self) -> None:
        """Delete the OAuth clients of servers that are gone, once those that run are known."""
        if self.servers_known.is_set():
            super().cleanup_oauth_clients()

    async def _take_up(self, lost: list[int], ran: list[int]) -> None:
        try:
            for user, spawner in list(self._load(lost)):
                await self._clean_up_after(user, spawner)
            servers: list[tuple[Any, Any]] = []
            for first in range(0, len(ran), _AT_ONCE):
                servers += self._load(ran[first : first + _AT_ONCE])
                await asyncio.sleep(0)
        except Exception:
            self.log.exception("The servers that ran before can't be taken up")
            self.exit(1)  # the supervisor starts another hub
        RUNNING_SERVERS.set(self.users.count_active_users()["active"])
        self.servers_known.set()
        self.cleanup_oauth_clients()
        await Verification(self).run(servers)

    async def _clean_up_after(self, user: Any, spawner: Any) -> None:
        """Clean up after a start that the last hub did not finish."""
        self.log.warning("%s was starting as the last hub ended", spawner._log_name)  # noqa: SLF001
        try:
            await user.stop(spawner.name)
        except Exception:
            self.log.exception("What is left of that start can't be cleaned up")

    def _load(self, ids: Sequence[int]) -> Iterator[tuple[Any, Any]]:
        """The user and the spawner of each of these that still has a server."""
        for first in range(0, len(ids), _AT_ONCE):
            rows = (
                self.db.query(orm.Spawner)
                .filter(
                    orm.Spawner.id.in_(ids[first : first + _AT_ONCE]),
                    orm.Spawner.server_id.is_not(None),
                )
                .options(
                    selectinload(orm.Spawner.server),
                    selectinload(orm.Spawner.user, orm.User._orm_spawners),  # noqa: SLF001
                )
            )
            for row in rows.all():
                user = self.users[row.user]
                yield user, user.spawners[row.name]


async def all_servers_known(app: JupyterHub) -> None:
    """Return once the application's users have all servers that run."""
    if isinstance(app, HubApplication):
        await app.servers_known.wait()


class HubRouteTable(RouteTable):
    """The routes of this application."""

    async def check_routes(self, *arguments: Any, **options: Any) -> None:
        """Mend the routes; those of servers that are not known yet are no stale ones."""
        await all_servers_known(self.app)
        await super().check_routes(*arguments, **options)


class _Users(UserDict):
    """Users who come with the servers that they have.

    JupyterHub's own get them before the first request, from ``init_spawners``; a request may
    ask for a user earlier here.
    """

    def __setitem__(self, key: int, user: Any) -> None:
        super().__setitem__(key, user)
        for name, row in user.orm_spawners.items():
            if row.server is not None:
                user.spawners[name]  # made when it is asked for
