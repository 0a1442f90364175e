"""Tells running notebook servers which tokens of their user were revoked.

A notebook server believes what the hub said of a token for minutes, and for as long as the hub
is away (`taccuino.server.hub_auth`). So the hub tells it of each that is revoked, at once: by a
logout, on the token page, by the API, or with the user.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from jupyterhub import orm
from sqlalchemy import event
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

__all__ = ["Revocations"]

log = logging.getLogger(__name__)

_TRIES = 4
_PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 5.0
_NO_SUCH_PAGE = 404  # of an image without our part


class Revocations:
    """Watches the hub's database session for tokens that are deleted.

    Parameters
    ----------
    users
        Gives JupyterHub's users, by their id in the database.
    """

    def __init__(self, users: Callable[[], Any]) -> None:
        self._users = users
        self._ids: dict[int, list[str]] = {}
        self._telling: set[asyncio.Task[None]] = set()

    def watch(self) -> None:
        """Begin, in the event loop of the hub."""
        event.listen(orm.APIToken, "after_delete", self._deleted)

    def _deleted(self, _mapper: Any, _connection: Any, token: orm.APIToken) -> None:
        """Note it, to be told once the hub has done what it is at: the commit comes first."""
        if token.user_id is None:  # a service's
            return
        if not self._ids:
            asyncio.get_running_loop().call_soon(self._tell)
        self._ids.setdefault(token.user_id, []).append(token.api_id)

    def _tell(self) -> None:
        revoked, self._ids = self._ids, {}
        users = self._users()
        for user_id, ids in revoked.items():
            if user_id not in users:
                continue
            for spawner in users[user_id].spawners.values():
                if spawner.ready:
                    task = asyncio.create_task(_tell_server(spawner, ids))
                    self._telling.add(task)
                    task.add_done_callback(self._telling.discard)


async def _tell_server(spawner: Any, ids: Sequence[str]) -> None:
    name = spawner._log_name  # noqa: SLF001
    request = HTTPRequest(
        f"{spawner.server.url}taccuino/revoked",
        method="POST",
        headers={"Authorization": f"token {spawner.api_token}"},
        body=json.dumps({"tokens": list(ids)}),
        connect_timeout=_TIMEOUT_SECONDS,
        request_timeout=_TIMEOUT_SECONDS,
    )
    for attempt in range(_TRIES):
        try:
            await AsyncHTTPClient().fetch(request)
        except HTTPClientError as error:
            if error.code == _NO_SUCH_PAGE:
                return
            problem: Exception = error
        except OSError as error:
            problem = error
        else:
            return
        await asyncio.sleep(_PAUSE_SECONDS * 2**attempt)
        if not spawner.ready:
            return
    log.warning("%s was not told that tokens were revoked: %s", name, problem)
