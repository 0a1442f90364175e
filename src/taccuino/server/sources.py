"""Tokens and storage credentials as the agent holds them, fetched from the hub's broker.

Nothing here outlives the process, and nothing long-lived is ever received: the broker hands out
an access token or a set of session credentials, each with its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .hub_client import HubClient, HubRefused, HubUnreachable

__all__ = ["CredentialSource", "TokenSource"]

Clock = Callable[[], float]

_RENEW_BEFORE = 1200.0
"""Seconds before their end at which credentials are renewed. botocore asks from 900 seconds
before the end and insists from 600 on (``RefreshableCredentials``): it always gets new ones."""
_LAST_RESORT = 30.0
"""Seconds that credentials must still last to be handed out while the hub is away."""


class TokenSource:
    """Access tokens by audience.

    The hub is asked every time, which costs it a few milliseconds: an IAM may end a token at
    the next refresh, as INDIGO IAM does, and only the broker knows. The last token answers only
    while the hub is away.
    """

    def __init__(self, hub: HubClient, clock: Clock = time.time) -> None:
        self._hub = hub
        self._clock = clock
        self._last: dict[str, dict[str, Any]] = {}

    def token(self, min_valid_period: int, audience: str = "") -> dict[str, Any]:
        """``access_token``, ``issuer`` and ``expires_at`` (unix seconds).

        Raises
        ------
        HubUnreachable, HubRefused
            If there is no token; the text is for a person.
        """
        body = {"min_valid_period": min_valid_period, "audience": audience or None}
        try:
            answer = self._hub.post("/token", body, timeout=20)
        except HubUnreachable:
            last = self._last.get(audience)
            if last and float(last["expires_at"]) - self._clock() > max(min_valid_period, 5):
                return last
            raise
        if not answer.get("access_token"):
            raise HubRefused("the hub's answer holds no access token", 502)
        self._last[audience] = answer
        return answer


class CredentialSource:
    """The storage credentials: kept until near their end, fetched once however many ask."""

    def __init__(
        self,
        hub: HubClient,
        clock: Clock = time.time,
        longest_pause: float = 30.0,
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._longest_pause = longest_pause
        self._lock = threading.Condition()
        self._fetching = False
        self._answer: dict[str, Any] | None = None
        self._expires = 0.0
        self._renew = 0.0
        self._error: HubRefused | HubUnreachable | None = None
        self._failures = 0
        self._not_before = 0.0

    def credentials(self, timeout: float = 1.8) -> dict[str, Any]:
        """``AccessKeyId``, ``SecretAccessKey``, ``Token`` and ``Expiration``.

        Those at hand are answered at once, and renewed in the background when their end is
        near. Without any, this waits for the hub: ``timeout`` seconds, just under the two
        after which botocore gives up and asks again; the fetch goes on meanwhile.

        Raises
        ------
        HubUnreachable, HubRefused
            If there are none; the text is for a person.
        """
        with self._lock:
            now = self._clock()
            if now >= self._renew and now >= self._not_before and not self._fetching:
                self._start()
            if self._answer and self._expires - now > _LAST_RESORT:
                return self._answer
            self._lock.wait_for(lambda: not self._fetching, timeout)
            if self._answer and self._expires > self._clock():
                return self._answer
            raise self._error or HubUnreachable("the hub has not answered yet; ask again")

    def _start(self) -> None:
        self._fetching = True
        threading.Thread(target=self._fetch, name="credentials", daemon=True).start()

    def _fetch(self) -> None:
        answer: dict[str, Any] = {}
        expires = 0.0
        error: HubRefused | HubUnreachable | None = None
        try:
            answer = self._hub.post("/credentials", {}, timeout=20)
            expires = _unix(answer)
        except (HubRefused, HubUnreachable) as problem:
            error = problem
        with self._lock:
            now = self._clock()
            self._error = error
            if error is None:
                self._answer, self._expires = answer, expires
                self._renew = expires - min(_RENEW_BEFORE, max(expires - now, 0) / 2)
                self._failures, self._not_before = 0, 0.0
            else:
                self._failures += 1
                pause = min(0.5 * 2**self._failures, self._longest_pause)
                self._not_before = now + pause
            self._fetching = False
            self._lock.notify_all()


def _unix(answer: dict[str, Any]) -> float:
    """The end of credentials, in unix seconds."""
    if not (answer.get("AccessKeyId") and answer.get("SecretAccessKey")):
        raise HubRefused("the hub's answer holds no storage credentials", 502)
    text = str(answer.get("Expiration") or "")
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise HubRefused(f"the credentials' end {text[:40]!r} is no date", 502) from None
    return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp()
