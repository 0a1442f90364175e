"""What the front end does by itself, which is not the user's activity.

Jupyter Server takes every request of its API for activity unless its handler says otherwise or
it comes with the argument ``no_track_activity``. A JupyterLab page that nobody touches would
keep its server alive for ever: the status bar asks for the memory in use every few seconds, and
the layout is saved. Such requests get that argument here, on their way to their handlers.
"""

from __future__ import annotations

import re
from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import AnyMatches, Router, Rule

__all__ = ["ignore_background_requests", "is_background"]

_BACKGROUND = (
    ("GET", re.compile(r"/api/metrics/v1(/|$)")),  # jupyter-resource-usage
    ("PUT", re.compile(r"/lab/api/workspaces/")),
)
_UNTRACKED_MESSAGES = ("usage_request", "usage_reply")  # to kernels; jupyter-resource-usage's


class _BackgroundMarker(Router):
    """Finds no handler, so the request goes on to the next rule; marks it if need be."""

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> None:
        if is_background(request.method or "", request.path):
            request.arguments.setdefault("no_track_activity", [b"1"])


def is_background(method: str, path: str) -> bool:
    """Whether the front end sends this request by itself, whoever looks at the page."""
    return any(
        method == its_method and pattern.search(path) for its_method, pattern in _BACKGROUND
    )


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
