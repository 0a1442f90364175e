"""Jupyter's side: notices, what counts as activity, and telling that the server listens."""

from __future__ import annotations

import os
from typing import Any

import tornado.web
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join

from .activity import ignore_background_requests
from .contract import Contract
from .launcher import NOTIFY_VARIABLE
from .notices import NoticeBoard

__all__ = ["load_jupyter_server_extension"]


class _NoticesHandler(APIHandler):
    # A browser that shows this page and does nothing else is idle.
    _track_activity = False
    board: NoticeBoard

    def initialize(self, board: NoticeBoard) -> None:
        self.board = board

    @tornado.web.authenticated
    async def get(self) -> None:
        self.finish({"notices": self.board.notices()})


class _KeepaliveHandler(APIHandler):
    # Answering is what makes the activity.

    @tornado.web.authenticated
    async def post(self) -> None:
        self.set_status(204)
        self.finish()


def load_jupyter_server_extension(serverapp: Any) -> None:
    """Called by Jupyter Server: add the handlers."""
    base = url_path_join(serverapp.web_app.settings["base_url"], "taccuino")
    board = NoticeBoard(Contract(os.environ), os.environ.get("TACCUINO_WORKAREA_FAULTS", ""))
    serverapp.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "notices"), _NoticesHandler, {"board": board}),
            (url_path_join(base, "keepalive"), _KeepaliveHandler),
        ],
    )
    ignore_background_requests(serverapp)


async def _start_jupyter_server_extension(_serverapp: Any) -> None:
    """Called by Jupyter Server once it listens: tell the launcher."""
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
