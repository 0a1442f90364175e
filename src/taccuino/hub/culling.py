"""When the idle culler may stop a server: never while a kernel runs, unless it is told to.

The culler is ``jupyterhub-idle-culler``, which knows what JupyterHub knows: the last activity
that the server reported. A cell that computes for hours without output is no activity, so plain
culling ends it. This module is the culler's ``cull_arbiter_hook``: for a server that looks idle
it asks the hub, and the hub asks the server.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

__all__ = ["may_be_culled"]

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 30.0


async def may_be_culled(
    *, inactive: timedelta | None, inactive_limit: int, server: dict[str, Any], **_: Any
) -> bool:
    """The culler's question; a server that can't be asked is left alone."""
    if inactive is None or inactive.total_seconds() < inactive_limit:
        return False
    owner, _, name = server["full_name"].partition("/")
    url = f"{os.environ['JUPYTERHUB_API_URL']}/taccuino/servers/{quote(owner, safe='')}/idle"
    request = HTTPRequest(
        f"{url}?server={quote(name, safe='')}",
        headers={"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}"},
        request_timeout=_TIMEOUT_SECONDS,
    )
    try:
        answer = json.loads((await AsyncHTTPClient().fetch(request)).body)
    except (HTTPClientError, OSError, ValueError) as error:
        log.warning(
            "Not culling %s: the hub can't tell its state: %s", server["full_name"], error
        )
        return False
    return bool(answer["may_be_culled"])
