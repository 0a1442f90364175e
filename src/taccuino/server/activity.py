"""What counts as the user's activity, and what a page does by itself.

Jupyter Server takes every answered request of its API for activity, unless the handler says
otherwise or the request has the argument ``no_track_activity``. A visible JupyterLab page that
nobody touches would keep its server alive for ever: every ten seconds it asks for the lists of
files, kernels, sessions, terminals and workspaces and saves its layout, and more often for the
memory in use (seen with JupyterLab 4.6). So a request that only reads is no activity here, and
neither is saving the layout: they get that argument on their way to their handlers. Kernels and
terminals count what passes through them, as ever.
"""

from __future__ import annotations

import re
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import AnyMatches, Router, Rule

__all__ = ["ignore_background_requests", "is_background"]

_LAYOUT = re.compile(r"/lab/api/workspaces/[^/]+$")
_UNTRACKED_MESSAGES = ("usage_request", "usage_reply")  # to kernels; jupyter-resource-usage's


class _BackgroundMarker(Router):
    """Finds no handler, so the request goes on to the next rule; marks it if need be."""

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> None:
        if is_background(request.method or "", request.path):
            request.arguments.setdefault("no_track_activity", [b"1"])


def is_background(method: str, path: str) -> bool:
    """Whether a page sends this request by itself, as far as one can see."""
    return method in ("GET", "HEAD") or (method == "PUT" and bool(_LAYOUT.search(path)))


def ignore_background_requests(serverapp: Any) -> None:
    """Keep such requests, and such messages to kernels, from counting as activity."""
    rules = serverapp.web_app.default_router.rules
    rules.insert(0, Rule(AnyMatches(), _BackgroundMarker()))
    kernels = serverapp.kernel_manager
    if hasattr(kernels, "untracked_message_types"):
        kernels.untracked_message_types = [
            *kernels.untracked_message_types,
            *_UNTRACKED_MESSAGES,
        ]
