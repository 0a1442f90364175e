"""What a notebook server tells the hub and asks of it, and what the idle culler asks."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from typing import Any, Final

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.scopes import Scope
from jupyterhub.user import User
from tornado import web

from taccuino.hub.activity import Activity, ask_activity, epoch, started_at
from taccuino.hub.notices import Notice, ServerFacts, notices, seconds_until_culled
from taccuino.hub.storage import StorageBackend
from taccuino.naming import slug
from taccuino.settings import Settings
from taccuino.storage.admin_ops import BucketUsage
from taccuino.storage.mount_client import MountPlaneClient, MountPlaneError, MountStatus
from taccuino.storage.snapshots import SnapshotState

__all__ = ["CULLING_SCOPE", "server_handlers"]

log = logging.getLogger(__name__)

CULLING_SCOPE: Final = "custom:taccuino:culling"

_PHASES: Final = ("booting", "jupyter", "ready", "failed")
_LONGEST_MESSAGE: Final = 4000


class _ServersHandler(APIHandler):
    """Takes tokens only."""

    _accept_cookie_auth = False

    def initialize(self, settings: Settings, backend: StorageBackend) -> None:
        """Take what all requests share; ``self.settings`` are tornado's."""
        super().initialize()
        self.culling = settings.culling
        self.mount_plane = backend.mount_plane
        self.backend = backend

    def calling_server(self, name: object) -> Any:
        """The spawner of the server that asks, which must be the one it names.

        Raises
        ------
        tornado.web.HTTPError
            403 for every other token, also for the user's own.
        """
        token = self.get_auth_token() or ""
        user = self.current_user
        spawner = user.spawners.get(name) if isinstance(user, User) else None
        if spawner is None or not isinstance(name, str) or not spawner.api_token:
            raise web.HTTPError(403, "Only a notebook server may ask, with its own token")
        if not hmac.compare_digest(spawner.api_token.encode(), token.encode()):
            raise web.HTTPError(403, "Only this notebook server may ask, with its own token")
        return spawner

    async def activity(self, spawner: Any) -> Activity:
        """What a server does; busy, and active as far as JupyterHub knows, if it won't say."""
        return await ask_activity(spawner) or Activity(True, _last_report(spawner))


class EventsHandler(_ServersHandler):
    """``POST /servers/events``: a server that starts says how it gets on."""

    def post(self) -> None:
        """Take ``{"server", "phase", "message"}``; answers 204."""
        body = self.get_json_body()
        if not isinstance(body, dict):
            raise web.HTTPError(400, "The body must be a JSON object")
        spawner = self.calling_server(body.get("server", ""))
        phase, message = body.get("phase"), body.get("message", "")
        if phase not in _PHASES:
            raise web.HTTPError(400, f"phase must be one of {', '.join(_PHASES)}")
        if not isinstance(message, str):
            raise web.HTTPError(400, "message must be a text")
        if hasattr(spawner, "server_event"):
            spawner.server_event(phase, message[:_LONGEST_MESSAGE])
        self.set_status(204)


class NoticesHandler(_ServersHandler):
    """``GET /servers/notices?server=``: what the user should see in JupyterLab."""

    async def get(self) -> None:
        """Answer ``{"notices": [{"id", "level", "message"}], "storage": ...}``."""
        spawner = self.calling_server(self.get_argument("server", ""))
        activity, mount, usage, snapshots = await asyncio.gather(
            self.activity(spawner),
            mount_of(self.mount_plane, spawner.user.name),
            self.backend.usage(spawner.user.name),
            snapshots_of(self.backend, spawner.user.name),
        )
        facts = ServerFacts(
            now=time.time(),
            started=started_at(spawner),
            last_activity=activity.last_activity,
            busy=activity.busy,
            fault=mount.fault if mount else None,
            upload_errors=mount.upload_errors if mount else (),
            uploads_pending=mount.uploads_pending if mount else 0,
            usage=usage,
            snapshots=snapshots,
            last_failure=getattr(spawner, "last_failure", None),
            told=[
                *self.settings["taccuino_sites"].notices(spawner.user.name),
                *(Notice(**one) for one in getattr(spawner, "notices", list)()),
            ],
        )
        found = [notice.as_json() for notice in notices(facts, self.culling)]
        self.finish({"notices": found, "storage": usage_json(usage)})


class StorageHandler(APIHandler):
    """``GET /storage``: how the storage of whoever asks is, for the hub's pages."""

    def initialize(self, backend: StorageBackend) -> None:
        """Take what answers."""
        super().initialize()
        self.backend = backend

    async def get(self) -> None:
        """Answer soon with what is known; ``null`` for nothing.

        That is ``used_bytes``, ``quota_bytes`` and ``objects``, and ``uploads_pending`` where
        uploads go on after the last server has stopped.
        """
        if not isinstance(self.current_user, User):
            raise web.HTTPError(403, "Only users have a bucket")
        name = self.current_user.name
        usage, mount = await asyncio.gather(
            self.backend.usage(name), mount_of(self.backend.mount_plane, name)
        )
        told: dict[str, int | None] = {}
        if usage:
            told |= {**(usage_json(usage) or {}), "objects": usage.objects}
        if mount and mount.state == "draining" and mount.uploads_pending:
            told["uploads_pending"] = mount.uploads_pending
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(told or None))


class IdleHandler(_ServersHandler):
    """``GET /servers/<user>/idle?server=``: whether the idle culler may stop a server."""

    async def get(self, username: str) -> None:
        """Answer ``{"may_be_culled": ..., "busy": ..., "last_activity": ...}``."""
        if self.parsed_scopes.get(CULLING_SCOPE) is not Scope.ALL:
            raise web.HTTPError(403, f"Only a service with the scope {CULLING_SCOPE} may ask")
        user = self.find_user(username)
        spawner = user.spawners.get(self.get_argument("server", "")) if user else None
        if spawner is None or not spawner.ready:
            raise web.HTTPError(404, "No such server runs")
        activity = await self.activity(spawner)
        left = seconds_until_culled(
            self.culling,
            now=time.time(),
            started=started_at(spawner),
            last_activity=activity.last_activity,
            busy=activity.busy,
        )
        self.finish(
            {
                "may_be_culled": left is not None and left <= 0,
                "busy": activity.busy,
                "last_activity": activity.last_activity,
            }
        )


async def mount_of(plane: MountPlaneClient, username: str) -> MountStatus | None:
    """How a user's mounts are; None if the mount plane does not say."""
    try:
        return await plane.status(slug(username))
    except MountPlaneError as error:
        log.warning("Nothing is known of %s's mounts: %s", username, error)
        return None


async def snapshots_of(backend: StorageBackend, username: str) -> SnapshotState | None:
    """How a user's snapshots are; None if there are none, or the mount plane does not say."""
    if backend.snapshots is None:
        return None
    try:
        return await backend.snapshots.client.state(slug(username))
    except MountPlaneError as error:
        log.warning("Nothing is known of %s's snapshots: %s", username, error)
        return None


def usage_json(usage: BucketUsage | None) -> dict[str, int | None] | None:
    """How full a bucket is, as the API answers it."""
    if usage is None:
        return None
    return {"used_bytes": usage.bytes, "quota_bytes": usage.quota_bytes}


def _last_report(spawner: Any) -> float:
    reported = spawner.orm_spawner.last_activity
    return epoch(reported) if reported else started_at(spawner)


def server_handlers(
    settings: Settings, backend: StorageBackend
) -> list[tuple[str, type[APIHandler], dict[str, Any]]]:
    """For ``c.JupyterHub.extra_handlers``."""
    arguments = {"settings": settings, "backend": backend}
    return [
        (r"/api/taccuino/servers/events", EventsHandler, arguments),
        (r"/api/taccuino/servers/notices", NoticesHandler, arguments),
        (r"/api/taccuino/storage", StorageHandler, {"backend": backend}),
        (r"/api/taccuino/servers/([^/]+)/idle", IdleHandler, arguments),
    ]
