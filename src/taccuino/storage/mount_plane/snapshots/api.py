"""Snapshots in the mount plane's API."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from taccuino.storage.mount_client import MountRequestError
from taccuino.storage.mount_plane.requests import (
    body_of,
    mount_request_of,
    refuse_another,
    slug_of,
)
from taccuino.storage.snapshots import SnapshotOwner, SnapshotState, is_snapshot_id

from .restic import SnapshotError
from .service import Snapshots

__all__ = ["SNAPSHOTS", "routes"]

SNAPSHOTS: web.AppKey[Snapshots] = web.AppKey("snapshots", Snapshots)
_STATUS = {"missing": 404, "busy": 409, "quota": 507, "full": 507, "failed": 500}


def status_of(error: SnapshotError) -> int:
    """The HTTP status that goes with an error's reason."""
    return _STATUS.get(error.reason, 503)


def routes() -> list[web.RouteDef]:
    """What the API knows of snapshots."""
    return [
        web.get("/snapshots/{slug}", _state),
        web.post("/snapshots/{slug}", _make),
        web.post("/snapshots/{slug}/list", _list),
        web.post("/snapshots/{slug}/restore", _restore),
        web.put("/snapshots/{slug}/arrival", _arrive),
        web.put("/snapshots/{slug}/stop", _stop),
        web.delete("/snapshots/{slug}/job", _cancel),
    ]


def _answer(state: SnapshotState) -> web.Response:
    return web.json_response(asdict(state))


async def _owner(request: web.Request) -> tuple[SnapshotOwner, dict[str, object]]:
    body = await body_of(request)
    owner = SnapshotOwner.from_json(body)
    refuse_another(request, owner.slug)
    return owner, body


async def _state(request: web.Request) -> web.Response:
    return _answer(await request.app[SNAPSHOTS].state(slug_of(request)))


async def _make(request: web.Request) -> web.Response:
    owner, _ = await _owner(request)
    user = request.app[SNAPSHOTS].of(owner)
    user.make()
    return _answer(await user.state())


async def _list(request: web.Request) -> web.Response:
    owner, _ = await _owner(request)
    found = await request.app[SNAPSHOTS].of(owner).list()
    return web.json_response({"snapshots": [asdict(one) for one in found]})


async def _restore(request: web.Request) -> web.Response:
    owner, body = await _owner(request)
    snapshot = body.get("snapshot")
    if not is_snapshot_id(snapshot):
        raise MountRequestError(f"snapshot {str(snapshot)[:60]!r}: it is no snapshot's id")
    user = request.app[SNAPSHOTS].of(owner)
    await user.restore(str(snapshot))
    return _answer(await user.state())


async def _arrive(request: web.Request) -> web.Response:
    wanted = await mount_request_of(request)
    older = request.query.get("older")
    if older not in ("tell", "replace", "take"):
        raise MountRequestError(f"older {str(older)[:20]!r}: write tell, replace or take")
    user = request.app[SNAPSHOTS].of(SnapshotOwner.of(wanted))
    arrival = await user.arrive(wanted, older)  # type: ignore[arg-type]
    return web.json_response(asdict(arrival))


async def _stop(request: web.Request) -> web.Response:
    user = request.app[SNAPSHOTS].known(slug_of(request))
    return _answer(await user.stop() if user else SnapshotState())


async def _cancel(request: web.Request) -> web.Response:
    user = request.app[SNAPSHOTS].known(slug_of(request))
    if user:
        await user.cancel()
    return _answer(await user.state() if user else SnapshotState())
