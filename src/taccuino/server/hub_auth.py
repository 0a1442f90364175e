"""Who a request is from, also while the hub is away.

A notebook server asks the hub whose a token is and believes the answer for five minutes
(``cache_max_age``). Then JupyterHub's own answers 500 to its user if the hub can't be reached.
This one goes on believing what the hub said last, about the user whose server it is, until the
hub says otherwise. What makes that safe is that the hub tells a server at once of each of its
user's tokens that is revoked (`HubAuth.forget`, ``POST <server>/taccuino/revoked``), so that
what it believes holds at the moment the hub goes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from jupyterhub.services.auth import HubOAuth
from tornado.log import app_log
from tornado.web import HTTPError
from traitlets import default

__all__ = ["CACHE_VARIABLE", "HubAuth"]

CACHE_VARIABLE = "TACCUINO_TOKEN_CACHE_SECONDS"
"""For how long the hub's answer about a token is good without a question."""

_PATIENCE = 3.0
"""Seconds that a request of a user who is known waits for the hub. The edge holds requests for
a hub that restarts, so that many a restart shows as a slow answer."""
_PATIENCE_WITH_STRANGERS = 20.0
_LONGEST_QUESTION = 60.0
_PAUSE = 10.0
"""Seconds between two questions about a token while the hub is away."""
_LONGEST_SECONDS = 24 * 3600.0
"""The longest that the hub's last word is believed."""
_AWAY = (
    "The hub of this service can't be reached at the moment, so nobody can tell whose login "
    "this is. Please try again in a minute; whoever was at work here can go on."
)


class _Known:
    """What the hub said last about a token, and when (``time.monotonic``)."""

    def __init__(self, user: dict[str, Any]) -> None:
        self.user = user
        self.said = self.asked = time.monotonic()


class HubAuth(HubOAuth):
    """JupyterHub's own, which outlives the hub."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[dict[str, Any] | None]] = {}
        self._revoked: set[str] = set()
        self._refused: set[str] = set()
        self._away = False
        self._owner = os.environ.get("JUPYTERHUB_USER", "")

    @default("cache_max_age")
    def _configured_age(self) -> int:
        seconds = os.environ.get(CACHE_VARIABLE, "")
        return int(seconds) if seconds.isdecimal() else 300

    def user_for_token(
        self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True
    ) -> Any:
        """The hub's model of the user whose token this is, or `None`.

        Raises
        ------
        tornado.web.HTTPError
            503 with a sentence, if the hub can't be asked and has said nothing yet.
        """
        if sync or not use_cache:
            return super().user_for_token(token, use_cache, session_id, sync=sync)
        return self._identify(token, session_id)

    def forget(self, token_ids: Iterable[str]) -> None:
        """Refuse these tokens, by their ids in the hub's API, from now on."""
        self._revoked.update(token_ids)
        for key, known in list(self._known.items()):
            if known.user.get("token_id") in self._revoked:
                del self._known[key]
                self._refused.add(key)

    async def _identify(self, token: str, session_id: str) -> dict[str, Any] | None:
        # As `HubAuth.user_for_token` calls it in its cache.
        key = f"token:{session_id}:{sha256(token.encode('utf8', 'replace')).hexdigest()}"
        if key in self._refused:
            return None
        if key in self.cache:
            user: dict[str, Any] | None = self.cache[key]
            return user
        known, now = self._believed(key), time.monotonic()
        if known and self._away and now - known.asked < _PAUSE:
            return known.user
        patience = _PATIENCE_WITH_STRANGERS
        if known:
            known.asked = now
            patience = 0 if self._away else _PATIENCE
        asking = self._asking.get(key) or self._begin_to_ask(key, token, session_id)
        await asyncio.wait({asking}, timeout=patience)
        if asking.done() and not asking.cancelled() and not asking.exception():
            return asking.result()
        self._away = True
        if known := self._believed(key):  # it may have been revoked meanwhile
            return known.user
        raise HTTPError(503, _AWAY)

    def _believed(self, key: str) -> _Known | None:
        """What the hub said of this token, if that is believed without it."""
        known = self._known.get(key)
        if known is None or (known.user["kind"], known.user["name"]) != ("user", self._owner):
            return None
        return known if time.monotonic() - known.said < _LONGEST_SECONDS else None

    def _begin_to_ask(self, key: str, token: str, session_id: str) -> asyncio.Task[Any]:
        """Ask the hub, to the end, whoever waits for it."""
        asking = asyncio.create_task(self._ask(key, token, session_id))
        self._asking[key] = asking
        # Nobody may be left to look at how it ended.
        asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return asking

    async def _ask(self, key: str, token: str, session_id: str) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(_LONGEST_QUESTION):
                asked = super().user_for_token(token, session_id=session_id, sync=False)
                user: dict[str, Any] | None = await asked
        except (HTTPError, TimeoutError) as error:
            # It gave no answer, or none about the token: whose login ended gets 403 from it.
            app_log.warning("The hub can't be asked whose token this is: %s", error)
            self._away = True
            raise
        finally:
            del self._asking[key]
        self._away = False
        if user is not None and user.get("token_id") in self._revoked:
            user = None  # it was on the way then
            self._refused.add(key)
        self._drop_old()
        if user is None:
            self._known.pop(key, None)
        else:
            self._known[key] = _Known(user)
        return user

    def _drop_old(self) -> None:
        limit = time.monotonic() - _LONGEST_SECONDS
        for key in [key for key, known in self._known.items() if known.said < limit]:
            del self._known[key]
