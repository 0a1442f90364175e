"""The mount plane's HTTP API on its unix socket.

The socket's mode (0600) is the access control: only root talks to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from taccuino.storage.mount_client import MountRequestError

from . import idmap
from .credentials import CredentialError
from .plane import MountPlane
from .requests import body_of, mount_request_of, slug_of
from .snapshots import api as snapshots
from .snapshots.restic import SnapshotError

__all__ = ["application"]

log = logging.getLogger(__name__)

_PLANE: web.AppKey[MountPlane] = web.AppKey("plane", MountPlane)
_LONGEST_DRAIN = 3600.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(plane: MountPlane) -> web.Application:
    """The API over a mount plane that was started."""
    app = web.Application(middlewares=[_errors])
    app[_PLANE] = plane
    app[snapshots.SNAPSHOTS] = plane.snapshots
    app.add_routes(
        [
            web.get("/health", _health),
            web.get("/mounts", _list),
            web.put("/mounts/{slug}", _mount),
            web.get("/mounts/{slug}", _status),
            web.delete("/mounts/{slug}", _release),
            web.post("/mounts/{slug}/drain", _drain),
            web.get("/credentials/{slug}", _credentials),
            *snapshots.routes(),
        ]
    )
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Wait for the plane, and tell errors as the hub's API does: ``{"status", "message"}``."""
    plane = request.app[_PLANE]
    try:
        if not request.path.startswith("/credentials/"):
            # Before that, what is mounted is not known, and would be mounted twice.
            await plane.started.wait()
        return await handler(request)
    except MountRequestError as error:
        return _refuse(400, str(error))
    except CredentialError as error:
        return _refuse(503, str(error))
    except SnapshotError as error:
        return _refuse(snapshots.status_of(error), str(error))
    except web.HTTPException as error:
        return _refuse(error.status, error.reason)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _refuse(500, "the mount plane met an error; see its log")


def _refuse(status: int, message: str) -> web.Response:
    return web.json_response({"status": status, "message": message}, status=status)


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    value = request.query.get(name, str(int(default)))
    if value not in ("0", "1"):
        raise MountRequestError(f"{name} {value[:20]!r}: write 0 or 1")
    return value == "1"


async def _health(request: web.Request) -> web.Response:
    users = request.app[_PLANE].users
    answer = {"status": "ok", "users": users, "idmapped": idmap.is_supported()}
    return web.json_response(answer)


async def _list(request: web.Request) -> web.Response:
    mounts = await request.app[_PLANE].list()
    return web.json_response({"mounts": [status.as_json() for status in mounts]})


async def _mount(request: web.Request) -> web.Response:
    wanted = await mount_request_of(request)
    status = await request.app[_PLANE].mount(
        wanted,
        workarea_only=_flag(request, "workarea_only", default=False),
        ahead=_flag(request, "ahead", default=False),
    )
    return web.json_response(status.as_json())


async def _status(request: web.Request) -> web.Response:
    status = await request.app[_PLANE].status(slug_of(request))
    return web.json_response(status.as_json())


async def _release(request: web.Request) -> web.Response:
    drain = _flag(request, "drain", default=True)
    status = await request.app[_PLANE].release(slug_of(request), drain=drain)
    return web.json_response(status.as_json())


async def _drain(request: web.Request) -> web.Response:
    timeout = (await body_of(request)).get("timeout")
    if type(timeout) not in (int, float) or not 0 <= timeout <= _LONGEST_DRAIN:  # type: ignore[operator]
        raise MountRequestError(f"timeout {timeout!r}: give seconds, 0 to {_LONGEST_DRAIN:g}")
    status = await request.app[_PLANE].drain(slug_of(request), float(timeout))  # type: ignore[arg-type]
    return web.json_response(status.as_json())


async def _credentials(request: web.Request) -> web.Response:
    credentials = await request.app[_PLANE].credentials(slug_of(request))
    if credentials is None:
        return _refuse(404, "this user has no mounts")
    return web.json_response(credentials)
