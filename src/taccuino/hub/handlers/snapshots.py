"""Snapshots of the workarea: the page, and its calls ``<hub>/api/taccuino/snapshots``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.user import User
from tornado import web

from taccuino.hub.snapshots import HubSnapshots
from taccuino.hub.storage import StorageBackend
from taccuino.storage import StorageError
from taccuino.storage.mount_client import MountPlaneError
from taccuino.storage.snapshots import SnapshotOwner, is_snapshot_id

__all__ = ["SNAPSHOTS_SCOPE", "snapshot_handlers"]

SNAPSHOTS_SCOPE: Final = "custom:taccuino:snapshots"

_NO_ANSWER = "What keeps your files on this machine does not answer. Try again in a minute."


class _SnapshotsHandler(APIHandler):
    def initialize(self, backend: StorageBackend) -> None:
        """Take what all requests share."""
        super().initialize()
        self.backend = backend

    @property
    def snapshots(self) -> HubSnapshots:
        """The service's snapshots.

        Raises
        ------
        tornado.web.HTTPError
            404 where it makes none.
        """
        if self.backend.snapshots is None:
            raise web.HTTPError(404, "This service makes no snapshots")
        return self.backend.snapshots

    def owner(self) -> SnapshotOwner:
        """Whoever asks.

        Raises
        ------
        tornado.web.HTTPError
            403 for who is no user, or whose token does not have the scope.
        """
        user = self.current_user
        if not isinstance(user, User) or SNAPSHOTS_SCOPE not in self.parsed_scopes:
            raise web.HTTPError(403, f"Only a user may ask, with {SNAPSHOTS_SCOPE}")
        try:
            return self.snapshots.owner(user.name)
        except StorageError as error:
            raise web.HTTPError(404, "No bucket can have your name") from error

    async def answer(self, call: Callable[[], Awaitable[Any]], status: int = 200) -> None:
        """Answer with what the mount plane does, or with its refusal in words."""
        try:
            found = await call()
        except MountPlaneError as error:
            self.log.warning("Snapshots: %s", error)
            code = error.status if error.status and error.status != 500 else 503
            self.set_status(code)
            found = {"status": code, "message": error.said or _NO_ANSWER}
        else:
            self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(found))

    async def state(self, owner: SnapshotOwner) -> dict[str, Any]:
        """How the user's snapshots are on this node."""
        return asdict(await self.snapshots.client.state(owner.slug))


class SnapshotsHandler(_SnapshotsHandler):
    """``GET`` and ``POST /snapshots``."""

    async def get(self) -> None:
        """Answer ``{"snapshots": [...], "state": {...}}``; with ``?state`` the latter only."""
        owner = self.owner()

        async def all_of_it() -> dict[str, Any]:
            if self.get_argument("state", None) is not None:
                return {"state": await self.state(owner)}
            found = await self.snapshots.client.list(owner)
            return {
                "snapshots": [asdict(one) for one in found],
                "state": await self.state(owner),
            }

        await self.answer(all_of_it)

    async def post(self) -> None:
        """Begin to make one; answers 202 with the state."""
        owner = self.owner()

        async def make() -> dict[str, Any]:
            return {"state": asdict(await self.snapshots.client.make(owner))}

        await self.answer(make, 202)


class RestoreHandler(_SnapshotsHandler):
    """``POST /snapshots/<id>/restore``."""

    async def post(self, snapshot: str) -> None:
        """Begin to restore one into a folder of the workarea; answers 202 with the state."""
        owner = self.owner()
        if not is_snapshot_id(snapshot):
            raise web.HTTPError(404, "There is no such snapshot")

        async def restore() -> dict[str, Any]:
            return {"state": asdict(await self.snapshots.client.restore(owner, snapshot))}

        await self.answer(restore, 202)


class SnapshotsPage(BaseHandler):
    """``<hub>/snapshots``."""

    @web.authenticated
    async def get(self) -> None:
        """The page; a script asks for what is on it."""
        self.finish(await self.render_template("snapshots.html", user=self.current_user))


def snapshot_handlers(backend: StorageBackend) -> list[tuple[Any, ...]]:
    """For ``c.JupyterHub.extra_handlers``."""
    arguments = {"backend": backend}
    return [
        (r"/api/taccuino/snapshots", SnapshotsHandler, arguments),
        (r"/api/taccuino/snapshots/([^/]+)/restore", RestoreHandler, arguments),
        (r"/snapshots", SnapshotsPage),
    ]
