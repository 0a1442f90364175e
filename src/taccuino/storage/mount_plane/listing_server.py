"""Where rclone's listings pass through the daemon, which so knows what rclone knows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from .asking import AskError, StorageQuestions
from .kept import ALIVE_PATH, AWAY, USER_HEADER

__all__ = ["ListingServer"]

log = logging.getLogger(__name__)

_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class ListingServer:
    """Hands listings on as they were signed, and tells what was answered.

    ``followers`` are called, by the user's slug, with the request's path and query and the
    body of an answer that is a listing, before rclone has it. ``led`` is set once the relay
    leads listings here: until then it finds its own way, as while there is no daemon.
    """

    def __init__(self, socket: Path, questions: StorageQuestions) -> None:
        self.followers: dict[str, Callable[[str, bytes], None]] = {}
        self.led = asyncio.Event()
        self._socket = socket
        self._questions = questions
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, also where an earlier daemon has left its socket."""
        app = web.Application()
        app.router.add_get(ALIVE_PATH, self._alive)
        app.router.add_get("/{bucket:.*}", self._list)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        self._socket.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._socket)).start()
        self._socket.chmod(0o600)

    async def stop(self) -> None:
        """Listen no more: the relay leads listings past the daemon."""
        if self._runner:
            await self._runner.cleanup()
            with contextlib.suppress(FileNotFoundError):
                self._socket.unlink()

    async def _list(self, request: web.Request) -> web.Response:
        target = request.raw_path
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _OF_THE_CONNECTION
        }
        try:
            status, answered, body = await self._questions.forward(target, headers)
        except AskError as error:
            log.debug("%s: %s", target, error)
            return web.Response(status=504, text=AWAY, content_type="application/xml")
        follower = self.followers.get(request.headers.get(USER_HEADER, ""))
        if status == 200 and follower:
            follower(target, body)
        kept = {
            name: value
            for name, value in answered.items()
            if name.lower() not in _OF_THE_CONNECTION
        }
        return web.Response(status=status, headers=kept, body=body)

    async def _alive(self, _: web.Request) -> web.Response:
        self.led.set()
        return web.Response(status=204)
