"""What an issuer publishes of itself: its endpoints and its keys.

OpenID Connect Discovery 1.0 and RFC 7517. Nothing is fetched before it is needed, so the hub
starts while the IAM is away; what was fetched once is used on when the IAM goes away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, RSAKey
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from taccuino.errors import TaccuinoError

from .tokens import key_id, verify

__all__ = ["Discovery", "DiscoveryError", "checked_document"]

_log = logging.getLogger(__name__)

_FRESH: Final = 3600.0
"""Seconds after which the document and the keys are asked for again."""
_REFETCH: Final = 30.0
"""Seconds between two fetches of the keys that an unknown ``kid`` may cause."""
_RETRY: Final = 3.0
"""Seconds that a failed fetch is remembered, so that a crowd does not wait in a row."""
CONNECT_TIMEOUT: Final = 5.0
REQUEST_TIMEOUT: Final = 10.0

_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_OPTIONAL_ENDPOINTS: Final = ("userinfo_endpoint", "end_session_endpoint")


class DiscoveryError(TaccuinoError):
    """The issuer can't be reached, or what it publishes can't be used."""


def _is_url(value: object, scheme: str) -> bool:
    """Whether it is an address; an https issuer may not name plain http ones."""
    if not isinstance(value, str):
        return False
    parts = urlsplit(value)
    return bool(parts.netloc) and parts.scheme in {"https", scheme}


def checked_document(issuer: str, document: object) -> dict[str, Any]:
    """A discovery document that can be used for this issuer.

    The issuer named in the settings and the one in the document may differ by a trailing
    slash; what tokens carry is the document's.

    Raises
    ------
    DiscoveryError
        If it is another issuer's document, or lacks an endpoint.
    """
    if not isinstance(document, Mapping):
        raise DiscoveryError(f"{issuer}: the discovery document is no JSON object")
    published = document.get("issuer")
    if not isinstance(published, str) or published.rstrip("/") != issuer.rstrip("/"):
        raise DiscoveryError(
            f"{issuer}: the discovery document is of the issuer {ascii(published)[:120]}; "
            "write that one into iam.issuer if it is the right one"
        )
    scheme = urlsplit(issuer).scheme
    for name in _ENDPOINTS:
        if not _is_url(document.get(name), scheme):
            raise DiscoveryError(
                f"{issuer}: the discovery document has no usable {name}: "
                f"{ascii(document.get(name))[:120]}"
            )
    checked = dict(document)
    for name in _OPTIONAL_ENDPOINTS:
        if not _is_url(checked.get(name), scheme):
            checked.pop(name, None)
    return checked


def _usable_keys(issuer: str, jwks: object) -> list[Key]:
    """The keys that may verify signatures; what is not understood is left out (RFC 7517, 5)."""
    items = jwks.get("keys") if isinstance(jwks, Mapping) else None
    keys: list[Key] = []
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        try:
            if item.get("kty") == "RSA":
                keys.append(RSAKey.import_key(item))
            elif item.get("kty") == "EC":
                keys.append(ECKey.import_key(item))
        except (JoseError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s publishes a key that can't be read: %s", issuer, error)
    if not keys:
        raise DiscoveryError(f"{issuer}: it publishes no RSA or EC key for signatures")
    return keys


class _Remembered:
    """One thing that is fetched when it is needed, once for all who wait for it.

    What was fetched is used on when fetching it anew fails; a failure is remembered for a few
    seconds, so that a crowd does not wait for one time-out after the other.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Any]]) -> None:
        self._fetch = fetch
        self._task: asyncio.Task[Any] | None = None
        self._value: Any = None
        self._fetched = self._failed = float("-inf")
        self._failure = ""

    async def get(self, max_age: float = _FRESH) -> Any:
        """The value, at most ``max_age`` seconds old unless it can't be had anew."""
        now = time.monotonic()
        if self._value is not None and now - self._fetched < max_age:
            return self._value
        if now - self._failed < _RETRY:
            if self._value is not None:
                return self._value
            raise DiscoveryError(self._failure)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew())
        return await asyncio.shield(self._task)

    async def _renew(self) -> Any:
        try:
            self._value = await self._fetch()
        except DiscoveryError as error:
            self._failed, self._failure = time.monotonic(), str(error)
            if self._value is None:
                raise
            _log.warning("%s; what was published before is used on", error)
        else:
            self._fetched = time.monotonic()
        return self._value


class Discovery:
    """An issuer's discovery document and keys, fetched when needed and kept.

    Parameters
    ----------
    issuer
        The issuer's URL, with or without a trailing slash.
    client
        Tornado's HTTP client to use; one is made when there is none.
    """

    def __init__(self, issuer: str, client: AsyncHTTPClient | None = None) -> None:
        if not _is_url(issuer, "http"):
            raise DiscoveryError(f"{ascii(issuer)[:120]} is no issuer; write its https URL")
        self.issuer = issuer
        self._client = client
        self._document = _Remembered(self._fetch_document)
        self._keys = _Remembered(self._fetch_keys)
        self._refetched = float("-inf")

    async def document(self) -> dict[str, Any]:
        """The discovery document.

        Raises
        ------
        DiscoveryError
            If it was never fetched and can't be now.
        """
        document: dict[str, Any] = await self._document.get()
        return document

    async def keys(self) -> list[Key]:
        """The published keys that verify signatures.

        Raises
        ------
        DiscoveryError
            If they were never fetched and can't be now.
        """
        keys: list[Key] = await self._keys.get()
        return keys

    async def verify(
        self,
        token: str,
        *,
        audience: str | None,
        nonce: str | None = None,
        access_token: str | None = None,
    ) -> dict[str, Any]:
        """The claims of this issuer's token; see :func:`taccuino.iam.tokens.verify`.

        A token with an unknown key makes the keys be fetched anew, at most once in 30 seconds:
        an issuer that changed its keys is followed at once, a forger can't make it work.

        Raises
        ------
        InvalidTokenError
            If the token must not be believed.
        DiscoveryError
            If the issuer's document or keys can't be had.
        """
        issuer = (await self.document())["issuer"]
        keys = await self.keys()
        kid = key_id(token)
        now = time.monotonic()
        unknown = kid is not None and all(key.kid != kid for key in keys)
        if unknown and now - self._refetched >= _REFETCH:
            self._refetched = now
            _log.info("%s signs with a key not seen before; asking for its keys", issuer)
            keys = await self._keys.get(max_age=0)
        return verify(
            token,
            keys,
            issuer=issuer,
            audience=audience,
            nonce=nonce,
            access_token=access_token,
        )

    async def check(self) -> float:
        """Ask the issuer for its document now; the answer is the latency in seconds.

        Raises
        ------
        DiscoveryError
            If it can't be had or used.
        """
        started = time.monotonic()
        await self._fetch_document()
        return time.monotonic() - started

    async def _fetch_document(self) -> dict[str, Any]:
        url = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        return checked_document(self.issuer, await self._get(url))

    async def _fetch_keys(self) -> list[Key]:
        document = await self.document()
        return _usable_keys(self.issuer, await self._get(document["jwks_uri"]))

    async def _get(self, url: str) -> object:
        if self._client is None:
            self._client = AsyncHTTPClient(force_instance=True)
        request = HTTPRequest(
            url,
            headers={"Accept": "application/json", "User-Agent": "taccuino"},
            connect_timeout=CONNECT_TIMEOUT,
            request_timeout=REQUEST_TIMEOUT,
            max_redirects=2,
        )
        try:
            response = await self._client.fetch(request)
            return json.loads(response.body)
        except (HTTPClientError, OSError) as error:
            raise DiscoveryError(
                f"{self.issuer}: {url} can't be fetched: {error}; check that the hub reaches "
                "the IAM and that iam.issuer is right"
            ) from error
        except ValueError:
            raise DiscoveryError(f"{self.issuer}: {url} does not answer with JSON") from None
