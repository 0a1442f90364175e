"""Users' grants: what the hub holds of each user at the IAM, kept fresh and never lost.

A grant lies in JupyterHub's encrypted auth state, so any hub process on the same database
can go on with it. Three facts rule this module: canaille rotates the refresh token at every
refresh, INDIGO IAM revokes the access tokens of a grant when it is refreshed, and an answer
that is not stored is lost for good. So one refresh runs at a time for each user, in a task
that no caller's cancellation ends, and what it brings is stored before anything else is done.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from sqlalchemy.exc import SQLAlchemyError

from .client import IAMClient
from .failures import GrantFailure

__all__ = ["AccessToken", "Grants", "new_state", "renewed_state", "token_in"]

_log = logging.getLogger(__name__)

State = dict[str, Any]
_T = TypeVar("_T")

_DEFAULT_LIFETIME: Final = 3600.0
"""Seconds an access token is taken to live when the IAM does not say."""
_LONGEST_LIFETIME: Final = 10 * 365 * 86400.0
_AUDIENCES: Final = 8
"""Audiences a user's tokens are kept for; of more, the one that ends first is dropped."""
_REFUSAL_KEPT: Final = {
    "expired_grant": 300.0,
    "suspended": 30.0,
    "usage_policy": 15.0,
    "refused": 30.0,
    "unreachable": 10.0,
}
"""Seconds that the answer to a refresh token stands before the IAM is asked again."""


@dataclass(frozen=True)
class AccessToken:
    """An access token that may be handed to its user's notebook server."""

    value: str
    issuer: str
    expires_at: float
    """Unix time in seconds."""
    subject: str

    def __repr__(self) -> str:
        """Without the token: it must not reach a log."""
        return f"AccessToken(subject={self.subject!r}, expires_at={self.expires_at:.0f})"


def _lifetime(answer: State, key: str = "expires_in") -> float | None:
    """Seconds from a token answer; some providers send them as text."""
    try:
        seconds = float(answer[key])
    except (KeyError, TypeError, ValueError):
        return None
    return min(seconds, _LONGEST_LIFETIME) if seconds > 0 else None


def _times(answer: State, now: float) -> State:
    return {
        "obtained_at": now,
        "expires_at": now + (_lifetime(answer) or _DEFAULT_LIFETIME),
    }


def _scopes(answer: State, default: list[str]) -> list[str]:
    scope = answer.get("scope")
    return scope.split() if isinstance(scope, str) and scope else default


def new_state(answer: State, claims: State, user_info: State, now: float) -> State:
    """The auth state of a login.

    Parameters
    ----------
    answer
        The token endpoint's answer.
    claims
        The verified claims of its ID token.
    user_info
        All that is known of the user: the claims, and userinfo's.
    now
        Unix time in seconds.
    """
    refresh_lifetime = _lifetime(answer, "refresh_expires_in")
    return {
        "issuer": claims["iss"],
        "sub": claims["sub"],
        "access_token": answer["access_token"],
        "refresh_token": answer.get("refresh_token"),
        "refresh_expires_at": now + refresh_lifetime if refresh_lifetime else None,
        "id_token": answer.get("id_token"),
        "id_token_claims": claims,
        "oauth_user": user_info,
        "scope": _scopes(answer, []),
        "audiences": {},
        **_times(answer, now),
    }


def renewed_state(state: State, answer: State, audience: str | None, now: float) -> State:
    """The auth state after a refresh; what the answer leaves out stays as it was.

    A token for an audience is kept beside the one without: a refresh for the one must not
    take away the other's place (that INDIGO IAM may have revoked it matters only to services
    that ask the IAM; most verify the signature).
    """
    renewed = dict(state)
    if isinstance(refresh_token := answer.get("refresh_token"), str) and refresh_token:
        renewed["refresh_token"] = refresh_token
        refresh_lifetime = _lifetime(answer, "refresh_expires_in")
        renewed["refresh_expires_at"] = now + refresh_lifetime if refresh_lifetime else None
    renewed["renewed_at"] = now
    token = {"access_token": answer["access_token"], **_times(answer, now)}
    if audience is None:
        renewed |= token
        renewed["scope"] = _scopes(answer, state.get("scope") or [])
    else:
        kept = {
            name: entry
            for name, entry in (state.get("audiences") or {}).items()
            if entry["expires_at"] > now
        }
        kept[audience] = token
        while len(kept) > _AUDIENCES:
            others = [name for name in kept if name != audience]
            del kept[min(others, key=lambda name: kept[name]["expires_at"])]
        renewed["audiences"] = kept
    return renewed


def token_in(
    state: State,
    *,
    min_valid_seconds: float,
    audience: str | None,
    now: float,
    max_age_seconds: float | None = None,
) -> AccessToken | None:
    """The access token in an auth state, if it is good enough; else ``None``.

    More than half of a token's life is never asked for: a caller who wants two hours of
    tokens that live for one would otherwise have every call refresh the grant.
    """
    entry = state if audience is None else (state.get("audiences") or {}).get(audience)
    if not entry or not entry.get("access_token"):
        return None
    expires_at = float(entry.get("expires_at") or 0)
    obtained_at = float(entry.get("obtained_at") or 0)
    wanted = min(min_valid_seconds, (expires_at - obtained_at) / 2)
    if expires_at - now <= max(wanted, 0):
        return None
    if max_age_seconds is not None and now - obtained_at >= max_age_seconds:
        return None
    return AccessToken(entry["access_token"], state["issuer"], expires_at, state["sub"])


@dataclass(frozen=True)
class _Refusal:
    refresh_token: str
    failure: GrantFailure
    until: float


class Grants:
    """Reads, renews and stores users' grants; shared by the authenticator and the broker.

    ``user`` is JupyterHub's `User` in all methods.
    """

    def __init__(self, client: IAMClient, clock: Callable[[], float] = time.time) -> None:
        self.client = client
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._refusals: dict[str, _Refusal] = {}
        self._unstored: dict[str, State] = {}

    def lock(self, username: str) -> AbstractAsyncContextManager[None]:
        """The user's lock; what changes the stored grant holds it."""
        lock = self._locks.get(username)
        if lock is None:
            lock = self._locks[username] = asyncio.Lock()
        return lock

    def forget(self, username: str) -> None:
        """Drop what is remembered of a user's former grant, since they logged in anew."""
        self._refusals.pop(username, None)
        self._unstored.pop(username, None)

    async def uncancelled(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await work that goes on to its end even when its caller is cancelled."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def state(self, user: Any) -> State:
        """The user's auth state.

        Raises
        ------
        GrantFailure
            ``expired_grant`` if there is none: never stored, or its key is gone.
        """
        unstored = self._unstored.get(user.name)
        if unstored is not None:
            return unstored
        state: State | None = await user.get_auth_state()
        if not state or not state.get("access_token") or not state.get("sub"):
            raise GrantFailure("expired_grant", "no grant is stored")
        return state

    async def token(
        self,
        user: Any,
        *,
        min_valid_seconds: float,
        audience: str | None = None,
        max_age_seconds: float | None = None,
    ) -> AccessToken:
        """An access token that is still good for a while, renewed if it has to be.

        While the IAM can't be reached, a token that has not ended yet is good enough.

        Raises
        ------
        GrantFailure
            If there is none and the IAM gives none.
        """
        await self.store_again(user)
        found = token_in(
            await self.state(user),
            min_valid_seconds=min_valid_seconds,
            audience=audience,
            now=self._clock(),
            max_age_seconds=max_age_seconds,
        )
        if found:
            return found
        return await self.uncancelled(
            self._renewed_token(user, min_valid_seconds, audience, max_age_seconds)
        )

    async def _renewed_token(
        self,
        user: Any,
        min_valid_seconds: float,
        audience: str | None,
        max_age_seconds: float | None,
    ) -> AccessToken:
        async with self.lock(user.name):
            state = await self.state(user)
            found = token_in(
                state,
                min_valid_seconds=min_valid_seconds,
                audience=audience,
                now=self._clock(),
                max_age_seconds=max_age_seconds,
            )
            if found:  # another request renewed it while this one waited
                return found
            try:
                state = await self.renew(user, state, audience)
            except GrantFailure as failure:
                still_good = token_in(
                    state, min_valid_seconds=10, audience=audience, now=self._clock()
                )
                if failure.reason == "unreachable" and still_good:
                    _log.warning("%s's token is not renewed: %s", user.name, failure)
                    return still_good
                raise
            renewed = token_in(state, min_valid_seconds=0, audience=audience, now=self._clock())
            if renewed is None:
                raise GrantFailure("refused", "the new access token has ended already")
            return renewed

    async def renew(self, user: Any, state: State, audience: str | None = None) -> State:
        """Refresh the grant and store what it brings; the caller holds the user's lock.

        Raises
        ------
        GrantFailure
            If the IAM gives none, or gave none a moment ago.
        """
        refresh_token = state.get("refresh_token")
        if not refresh_token:
            raise GrantFailure("expired_grant", "the grant has no refresh token")
        now = self._clock()
        refusal = self._refusals.get(user.name)
        if refusal and refusal.refresh_token == refresh_token and now < refusal.until:
            raise GrantFailure(refusal.failure.reason, refusal.failure.detail)
        stored = user.encrypted_auth_state
        try:
            answer = await self.client.refresh(refresh_token, audience)
        except GrantFailure as failure:
            until = self._clock() + _REFUSAL_KEPT[failure.reason]
            self._refusals[user.name] = _Refusal(refresh_token, failure, until)
            _log.warning("the IAM gives %s no token: %s", user.name, failure)
            raise
        self._refusals.pop(user.name, None)
        if user.encrypted_auth_state != stored:
            # They logged in while the IAM answered: the new grant stays, the old one goes.
            _log.info("%s logged in anew during a refresh; the new grant is kept", user.name)
            state = await self.state(user)
            return state if audience is None else await self.renew(user, state, audience)
        renewed = renewed_state(state, answer, audience, self._clock())
        await self._store(user, renewed)
        return renewed

    async def store_again(self, user: Any) -> None:
        """Store what the database did not take before; the caller does not hold the lock."""
        if user.name in self._unstored:
            await self.uncancelled(self._store_again(user))

    async def _store_again(self, user: Any) -> None:
        async with self.lock(user.name):
            if (state := self._unstored.get(user.name)) is not None:
                await self._store(user, state)

    async def _store(self, user: Any, state: State) -> None:
        """Store an auth state, under the user's lock: an older one must not come after it.

        What the database does not take is kept in memory and tried again at the next use.
        """
        try:
            await user.save_auth_state(state)
        except SQLAlchemyError:
            user.db.rollback()
            self._unstored[user.name] = state
            _log.exception("%s's renewed grant is not stored yet; trying again", user.name)
        else:
            self._unstored.pop(user.name, None)
