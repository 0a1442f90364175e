"""The hub's line for each request, without the secret of all sites."""

from __future__ import annotations

from typing import Any

from jupyterhub.log import log_request

from taccuino.edge.sites import PEER_HEADER

__all__ = ["log_without_secret"]


def log_without_secret(handler: Any) -> None:
    """Log a request as JupyterHub does, which shows the headers of one that failed.

    JupyterHub hides the secrets that it knows of. The edge sends another one with each request,
    as a peer's edge takes the hub's place while it is away.
    """
    handler.request.headers.pop(PEER_HEADER, None)
    log_request(handler)
