"""Users' storage credentials, kept until shortly before they end."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable

from .sts import Credentials, StorageTokenService

__all__ = ["CredentialCache"]

AccessTokenSource = Callable[[], Awaitable[str]]
"""Gives an access token of the user's that is fresh enough to be traded."""


class CredentialCache:
    """One set of credentials a user, shared by all who ask: servers, mounts, the pages.

    Parameters
    ----------
    service
        Makes the credentials.
    margin
        Seconds before their end from which credentials are not handed out any more. AWS SDKs
        ask again 10 to 15 minutes before the end, so it is at most a third of a session.
    """

    def __init__(self, service: StorageTokenService, *, margin: float = 600.0) -> None:
        self._service = service
        self._margin = dt.timedelta(seconds=margin)
        self._kept: dict[str, tuple[Credentials, dt.datetime]] = {}
        self._under_way: dict[str, asyncio.Task[Credentials]] = {}

    async def get(self, username: str, access_token: AccessTokenSource) -> Credentials:
        """The user's credentials; new ones if there are none that last.

        Those who ask at the same time wait for one exchange. It is not cut off when one of
        them goes away, and its failure is told to all of them and not kept.

        Raises
        ------
        StorageError
            From the exchange; whatever ``access_token`` raises comes through as well.
        """
        now = dt.datetime.now(dt.UTC)
        if (kept := self._kept.get(username)) and now < kept[1]:
            return kept[0]
        task = self._under_way.get(username)
        if task is None:
            task = asyncio.create_task(self._renew(username, access_token))
            self._under_way[username] = task
            task.add_done_callback(lambda done: self._finished(username, done))
        return await asyncio.shield(task)

    def forget(self, username: str) -> None:
        """Drop what is kept of a user, such as after the role has changed."""
        self._kept.pop(username, None)

    async def _renew(self, username: str, access_token: AccessTokenSource) -> Credentials:
        asked = dt.datetime.now(dt.UTC)
        credentials = await self._service.credentials(username, await access_token())
        margin = min(self._margin, (credentials.expires_at - asked) / 3)
        self._kept[username] = (credentials, credentials.expires_at - margin)
        return credentials

    def _finished(self, username: str, task: asyncio.Task[Credentials]) -> None:
        self._under_way.pop(username, None)
        if not task.cancelled():
            task.exception()  # taken note of, though all who asked may have gone away
