"""A start that the node has no room for is refused at its request, before anything is made."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from tornado import web

from taccuino.draining import draining
from taccuino.engines.admission import (
    RESOURCES,
    Cause,
    Demand,
    Shortage,
    read_node,
    room,
    shortage,
)
from taccuino.engines.metrics import ADMISSION_REFUSALS, NODE_FREE
from taccuino.settings import CullingSettings, Settings, parse_size

from .activity import epoch

__all__ = ["Admission", "NoRoom", "expectation"]

log = logging.getLogger(__name__)

_RETRY_SECONDS = (30, 3600)
_PAUSE_SECONDS = 20


class NoRoom(web.HTTPError):
    """There is no room for a server, as JupyterHub's form and API answer it."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(503, "%s", message)
        self.jupyterhub_message = message
        self.headers = {"Retry-After": str(retry_after)}


class Admission:
    """Knows what the hub's servers were promised, and asks the node what it has."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __deepcopy__(self, memo: dict[int, Any]) -> Admission:
        """The same: traitlets copies what is configured."""
        return self

    def check(self, users: Iterable[Any], memory: int) -> None:
        """Refuse a start with so much memory (bytes) where it can't fit.

        Parameters
        ----------
        users
            JupyterHub's users, with their spawners.

        Raises
        ------
        NoRoom
            With what is short, and when there may be room; also while the service is updated.
        """
        if pause := draining(self._settings.state_dir):
            ADMISSION_REFUSALS.labels("draining").inc()
            raise NoRoom(pause.message, _PAUSE_SECONDS)
        active = _active(users)
        demand = self._demand(active, memory)
        short = shortage(read_node(self._settings), demand, self._settings.admission)
        if short is None:
            return
        ADMISSION_REFUSALS.labels(short.cause).inc()
        log.warning("A start is refused (%s): %s", short.cause, short.message)
        idle_since = [_last_activity(spawner) for spawner in active if spawner.ready]
        when, retry_after = expectation(short, self._settings.culling, idle_since, time.time())
        raise NoRoom(f"{short.message} {when}".rstrip(), retry_after)

    def publish(self, users: Callable[[], Mapping[Any, Any]]) -> None:
        """Let ``/hub/metrics`` tell what is free, as it is when it is asked."""
        for resource in RESOURCES:
            NODE_FREE.labels(resource).set_function(partial(self._free, users, resource))

    def _free(self, users: Callable[[], Mapping[Any, Any]], resource: Cause) -> float:
        node, demand = read_node(self._settings), self._demand(_active(users().values()), 0)
        return room(node, demand, self._settings.admission).get(resource, math.inf)

    def _demand(self, active: list[Any], memory: int) -> Demand:
        return Demand(
            servers=len(active),
            limits=sum(self._limit(spawner) for spawner in active),
            starting=sum(spawner.pending == "spawn" for spawner in active),
            memory=memory,
        )

    def _limit(self, spawner: Any) -> int:
        """A server's limit; of one that ran before the hub was started, by its options."""
        if spawner.mem_limit:
            return int(spawner.mem_limit)
        chosen = (spawner.user_options or {}).get("memory")
        return parse_size(chosen or self._settings.flavours[0].memory[0])


def expectation(
    short: Shortage, culling: CullingSettings, idle_since: list[float], now: float
) -> tuple[str, int]:
    """When there may be room, in a sentence, and after how many seconds to ask again.

    ``idle_since`` is when each server that runs was last used (seconds since the epoch). The
    one that was left alone for longest is stopped first; it may be computing, though.
    """
    least, most = _RETRY_SECONDS
    if not short.by_stopping:
        return "", most
    if not culling.enabled or not idle_since:
        return "There is room again when somebody stops their server.", 2 * least
    left = max(min(idle_since) + culling.idle_seconds - now, 0)
    minutes = max(round(left / 60), 1)
    span = f"{minutes} minutes" if minutes > 1 else "a minute"
    if minutes >= 120:
        span = f"{round(minutes / 60)} hours"
    said = (
        f"The first server that nobody uses is stopped in about {span}; there is room earlier "
        "if somebody stops theirs."
    )
    return said, int(min(max(left, least), most))


def _active(users: Iterable[Any]) -> list[Any]:
    """The servers that run, start, wait for their start, or stop."""
    return [spawner for user in users for spawner in user.spawners.values() if spawner.active]


def _last_activity(spawner: Any) -> float:
    known = spawner.orm_spawner.last_activity or spawner.orm_spawner.started
    return epoch(known) if known else time.time()
