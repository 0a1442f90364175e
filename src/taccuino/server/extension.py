"""Jupyter's side: notices, sharing, what counts as activity, and telling that it listens."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
from functools import cache
from pathlib import Path
from typing import Any

import tornado.web
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join

from . import front_end
from .activity import ignore_background_requests
from .contract import Contract
from .file_calls import FileCalls, NoAnswer
from .launcher import NOTIFY_VARIABLE
from .notices import NoticeBoard
from .sharing import Copy, NotShared, link, scratch_directory, source

__all__ = ["load_jupyter_server_extension"]

_KEPT_COPIES = 100
_READ_SECONDS = 15.0


class _NoticesHandler(APIHandler):
    # A browser that shows this page and does nothing else is idle.
    _track_activity = False

    @tornado.web.authenticated
    async def get(self) -> None:
        # Tornado answers 304 when it is what the browser has.
        self.set_header("Cache-Control", "no-cache")
        self.finish(await _notice_board().page())


@cache
def _notice_board() -> NoticeBoard:
    """Made when Jupyter listens: what it reads may come only with the user's files.

    Not later: from then on it counts what was killed for memory.
    """
    return NoticeBoard(Contract(os.environ), os.environ.get("TACCUINO_WORKAREA_FAULTS", ""))


class _KeepaliveHandler(APIHandler):
    # Answering is what makes the activity.

    @tornado.web.authenticated
    async def post(self) -> None:
        self.set_status(204)
        self.finish()


class _RevokedHandler(tornado.web.RequestHandler):
    # Not of Jupyter's kind: those ask the hub who is there, which may be about to end.
    hub_auth: Any

    def initialize(self, hub_auth: Any) -> None:
        self.hub_auth = hub_auth

    @allow_unauthenticated
    def post(self) -> None:
        """Refuse ``{"tokens": [id]}`` from now on: the hub says so, with the server's token."""
        token = self.request.headers.get("Authorization", "").removeprefix("token ")
        if not hmac.compare_digest(token.encode(), self.hub_auth.api_token.encode()):
            raise tornado.web.HTTPError(403)
        try:
            ids = json.loads(self.request.body)["tokens"]
        except (ValueError, TypeError, KeyError):
            ids = None
        if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
            raise tornado.web.HTTPError(400)
        self.hub_auth.forget(ids)
        self.set_status(204)


class _Copies:
    """The copies to scratch of this server's life."""

    def __init__(self, contract: Contract, base_url: str) -> None:
        self.workarea = Path(contract.workarea)
        self.username = contract.username
        self.base_url = base_url
        self.files = FileCalls()
        self._copies: dict[str, Copy] = {}

    async def start(self, path: str) -> str:
        """Copy what lies at an API path; the copy's id."""
        try:
            original = await self.files.run(lambda: source(self.workarea, path), _READ_SECONDS)
        except NoAnswer:
            raise NotShared(f"{path} can't be read: it does not answer.", 503) from None
        copy = Copy(original, scratch_directory(self.workarea, self.username))
        copy.start()
        name = secrets.token_hex(8)
        self._copies[name] = copy
        for old in list(self._copies)[:-_KEPT_COPIES]:
            if self._copies[old].ended.is_set():
                del self._copies[old]
        return name

    def __getitem__(self, name: str) -> Copy:
        try:
            return self._copies[name]
        except KeyError:
            raise tornado.web.HTTPError(404, "There is no such copy") from None

    def as_json(self, name: str) -> dict[str, Any]:
        copy = self[name]
        told = {"id": name, **copy.as_json()}
        if copy.state == "done":
            path = f"cloud_storage/scratch/{self.username}/{copy.name}"
            told |= {"path": path, "link": link(self.base_url, path)}
        return told


class _SharingHandler(APIHandler):
    copies: _Copies

    def initialize(self, copies: _Copies) -> None:
        self.copies = copies

    @tornado.web.authenticated
    async def post(self) -> None:
        """Begin to copy ``{"path"}``; answers how far it is, small ones being done already."""
        body = self.get_json_body()
        path = body.get("path") if isinstance(body, dict) else None
        if not isinstance(path, str):
            raise tornado.web.HTTPError(400, "path must be a text")
        try:
            name = await self.copies.start(path)
        except NotShared as problem:
            raise tornado.web.HTTPError(problem.status, str(problem)) from problem
        await asyncio.to_thread(self.copies[name].ended.wait, 0.5)
        self.set_status(201)
        self.finish(self.copies.as_json(name))


class _SharedHandler(_SharingHandler):
    @tornado.web.authenticated
    async def get(self, name: str) -> None:
        """How far a copy is."""
        self.finish(self.copies.as_json(name))

    @tornado.web.authenticated
    async def delete(self, name: str) -> None:
        """Cancel it."""
        self.copies[name].cancel()
        self.set_status(204)
        self.finish()


def load_jupyter_server_extension(serverapp: Any) -> None:
    """Called by Jupyter Server: add the handlers."""
    base = url_path_join(serverapp.web_app.settings["base_url"], "taccuino")
    contract = Contract(os.environ)
    copies = {"copies": _Copies(contract, contract.hub_base_url)}
    serverapp.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "notices"), _NoticesHandler),
            (url_path_join(base, "keepalive"), _KeepaliveHandler),
            (url_path_join(base, "copies"), _SharingHandler, copies),
            (url_path_join(base, "copies/([0-9a-f]+)"), _SharedHandler, copies),
        ],
    )
    hub_auth = getattr(serverapp.identity_provider, "hub_auth", None)
    if hasattr(hub_auth, "forget"):  # not in a trial without a hub
        revoked = (url_path_join(base, "revoked"), _RevokedHandler, {"hub_auth": hub_auth})
        serverapp.web_app.add_handlers(".*$", [revoked])
    ignore_background_requests(serverapp)


async def _start_jupyter_server_extension(serverapp: Any) -> None:
    """Called by Jupyter Server once it listens: tell the launcher."""
    _notice_board()
    # So is the gate, whose patience begins now; contents may be another class's.
    getattr(serverapp.contents_manager, "storage_gate", None)
    # Not before: JupyterHub's extension sets a hook of its own, and asks for no earlier one.
    front_end.install(serverapp.web_app.settings, os.environ)
    descriptor = os.environ.pop(NOTIFY_VARIABLE, "")
    if not descriptor.isdecimal():
        return  # started without the launcher
    try:
        os.write(int(descriptor), b"ready\n")
        os.close(int(descriptor))
    except OSError as error:
        raise RuntimeError(
            f"the launcher cannot be told that Jupyter is ready: {error}"
        ) from error


_load_jupyter_server_extension = load_jupyter_server_extension


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "taccuino.server.extension"}]
