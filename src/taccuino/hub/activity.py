"""What a running notebook server is doing, asked of the server itself.

JupyterHub knows a server's last activity only from its reports, every few minutes; and a kernel
that computes for hours without output is no activity at all. Whether a kernel runs is known to
the server alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

__all__ = ["Activity", "ask_activity", "epoch", "started_at"]

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 5.0
# Kernels that are starting or restarting are in use as well.
_RESTING = {"idle", "dead", "terminating"}


@dataclass(frozen=True)
class Activity:
    """What a server does."""

    busy: bool
    last_activity: float
    """Seconds since the epoch."""


async def ask_activity(spawner: Any) -> Activity | None:
    """Ask a server with its own token; ``None`` if it does not answer."""
    if spawner.server is None or not spawner.ready:
        return None
    try:
        status, kernels = await asyncio.gather(
            # Neither request counts as activity in the server.
            _get(spawner, "api/status?no_track_activity=1"),
            _get(spawner, "api/kernels?no_track_activity=1"),
        )
        return Activity(
            any(kernel["execution_state"] not in _RESTING for kernel in kernels),
            epoch(datetime.fromisoformat(status["last_activity"])),
        )
    except (HTTPClientError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s could not be asked what it does: %r", spawner._log_name, error)  # noqa: SLF001
        return None


async def _get(spawner: Any, path: str) -> Any:
    request = HTTPRequest(
        spawner.server.url + path,
        headers={"Authorization": f"token {spawner.api_token}"},
        connect_timeout=_TIMEOUT_SECONDS,
        request_timeout=_TIMEOUT_SECONDS,
    )
    response = await AsyncHTTPClient().fetch(request)
    return json.loads(response.body)


def started_at(spawner: Any) -> float:
    """When its server was started, in seconds since the epoch; now, of one that never was."""
    started = spawner.orm_spawner.started
    return epoch(started) if started else time.time()


def epoch(when: datetime) -> float:
    """Seconds since the epoch of a time in UTC, with or without its zone."""
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
