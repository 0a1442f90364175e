"""JupyterHub's ``fetch``, over the HTTP client of the tornado that runs here anyway.

JupyterHub's own is aiohttp's. Importing that would take a tenth of a second out of the first
page, which asks the hub who its user is, and 7 MB of each server's memory.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from tornado.httpclient import HTTPResponse
from tornado.httputil import HTTPHeaders
from tornado.simple_httpclient import SimpleAsyncHTTPClient

__all__ = ["Answer", "fetch"]

_MOST_AT_ONCE = 100
_CONNECT_SECONDS = 30.0
_SECONDS = 60.0
"""For a whole answer. tornado notices nothing of a connection that is reset in the middle."""


class Answer:
    """What JupyterHub's server extension uses of an aiohttp response."""

    def __init__(self, response: HTTPResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.code

    @property
    def headers(self) -> HTTPHeaders:
        """The headers, by names in any case."""
        return self._response.headers

    async def text(self) -> str:
        """The body."""
        return self._response.body.decode("utf-8", "replace")


async def fetch(
    url: str,
    *,
    method: str = "GET",
    raise_for_status: bool = True,
    headers: Mapping[str, str] | None = None,
    data: str | bytes | None = None,
    ssl: ssl.SSLContext | None = None,
) -> Answer:
    """Make an HTTP request; ``ssl`` is for a hub that identifies its servers by certificates.

    Raises
    ------
    OSError, tornado.httpclient.HTTPClientError
        If there is no answer; with ``raise_for_status``, also for a status from 400 on.
    """
    options: dict[str, Any] = {"ssl_options": ssl} if ssl else {}
    response = await SimpleAsyncHTTPClient(max_clients=_MOST_AT_ONCE).fetch(
        url,
        raise_error=False,
        method=method,
        headers=dict(headers or {}),
        body=data,
        allow_nonstandard_methods=True,  # a body or none, whatever the method
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_SECONDS,
        **options,
    )
    if raise_for_status and response.error is not None:
        raise response.error
    return Answer(response)
