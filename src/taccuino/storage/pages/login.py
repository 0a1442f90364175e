"""Who asks: JupyterHub's OAuth, made to outlast a restart of the hub."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError

from taccuino.settings import Settings

__all__ = ["PREFIX", "SERVICE", "PagesAuth", "pages_auth"]

SERVICE = "storage"
"""What the hub calls this service."""
PREFIX = f"/services/{SERVICE}/"
"""What the pages' paths begin with."""

_CACHE_SECONDS = 60
"""How long the hub's answer about a login counts without asking again."""
_OUTLAST_SECONDS = 1800
"""How long it counts while the hub does not answer."""
_MOST_KNOWN = 10_000
_MOST_STATES = 10_000
"""Logins that are under way at once; anybody begins one by asking for a page."""
_LONGEST_NEXT = 2000
"""Characters of an address that a login leads back to; for a longer one, to the start."""


class PagesAuth(HubOAuth):
    """`HubOAuth` that goes on with what it knew of a login while the hub is away.

    What a user may do is the storage's to decide, by credentials that end by themselves; so
    nothing is opened here that was not open before.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._known: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    def generate_state(self, next_url: str | None = None, **extra: Any) -> str:
        """Begin a login, of as many as there is room for: the oldest are forgotten."""
        if next_url and len(next_url) > _LONGEST_NEXT:
            next_url = None
        states = self._oauth_states
        while len(states) >= _MOST_STATES:
            del states[next(iter(states.values))]
        state: str = super().generate_state(next_url, **extra)
        return state

    async def user_for_token(
        self, token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = False
    ) -> dict[str, Any] | None:
        """The user whose token it is; never `sync`, which would keep everybody waiting."""
        assert not sync
        key = (session_id, hashlib.sha256(token.encode()).hexdigest())
        try:
            model: dict[str, Any] | None = await super().user_for_token(
                token, use_cache=use_cache, session_id=session_id, sync=False
            )
        except HTTPError:
            at, known = self._known.get(key, (0.0, None))
            if known and time.monotonic() - at < _OUTLAST_SECONDS:
                return known
            raise
        self._known.pop(key, None)
        if model is not None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[key] = (time.monotonic(), model)
        return model


def pages_auth(settings: Settings, token: str) -> PagesAuth:
    """The OAuth client of the service ``storage``; ``token`` is the service's own."""
    return PagesAuth(
        api_token=token,
        api_url=f"http://127.0.0.1:{settings.hub.port}/hub/api",
        hub_prefix="/hub/",
        base_url=PREFIX,
        oauth_client_id=f"service-{SERVICE}",
        oauth_redirect_uri=f"{PREFIX}oauth_callback",
        access_scopes={f"access:services!service={SERVICE}"},
        cache_max_age=_CACHE_SECONDS,
        cookie_options={"samesite": "Lax"},
    )
