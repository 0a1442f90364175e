"""The hub's requests to the IAM's token and userinfo endpoints."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from .discovery import CONNECT_TIMEOUT, Discovery, DiscoveryError
from .failures import GrantFailure, grant_failure_reason

__all__ = ["IAMClient", "TokenRejectedError"]

_log = logging.getLogger(__name__)

_REFRESH_TIMEOUT: Final = 30.0
"""Seconds to wait for tokens: an answer that is given up on may hold the only copy of a
rotated refresh token, so this is longer than for what can be asked again."""
_USERINFO_TIMEOUT: Final = 10.0
_TOKEN_LIKE: Final = re.compile(r"[A-Za-z0-9_.~+/=-]{20,}")
"""Parts of an error's text that may be a token: Spring puts the refresh token into it."""


class TokenRejectedError(Exception):
    """The userinfo endpoint does not take the access token (any longer)."""


class IAMClient:
    """Asks the IAM for tokens and for who a user is; every failure is a `GrantFailure`."""

    def __init__(
        self,
        discovery: Discovery,
        client_id: str,
        client_secret: str,
        http: AsyncHTTPClient | None = None,
    ) -> None:
        self.discovery = discovery
        self.client_id = client_id
        self._client_secret = client_secret
        self._http = http or AsyncHTTPClient(force_instance=True)

    async def exchange(
        self, code: str, redirect_uri: str, code_verifier: str | None
    ) -> dict[str, Any]:
        """The token answer for an authorization code (RFC 6749, 4.1.3, with RFC 7636).

        Raises
        ------
        GrantFailure
            If the IAM can't be reached or refuses.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
        }
        if code_verifier:
            form["code_verifier"] = code_verifier
        return await self._token(form)

    async def refresh(self, refresh_token: str, audience: str | None = None) -> dict[str, Any]:
        """The token answer for a refresh token, for an audience where one is named.

        Raises
        ------
        GrantFailure
            If the IAM can't be reached or refuses.
        """
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        if audience:
            form["audience"] = audience
        return await self._token(form)

    async def userinfo(self, access_token: str) -> dict[str, Any] | None:
        """What the IAM says of the user; ``None`` when it has no userinfo endpoint.

        Raises
        ------
        TokenRejectedError
            If the access token is not taken: it may have been revoked.
        GrantFailure
            If the IAM can't be reached.
        """
        document = await self._document()
        if "userinfo_endpoint" not in document:
            return None
        request = HTTPRequest(
            document["userinfo_endpoint"],
            headers={"Accept": "application/json", "Authorization": f"Bearer {access_token}"},
            connect_timeout=CONNECT_TIMEOUT,
            request_timeout=_USERINFO_TIMEOUT,
            follow_redirects=False,
        )
        response = await self._fetch(request)
        body = _json(response)
        if response.code in {400, 401, 403}:
            error, description = _error(response, body)
            raise TokenRejectedError(
                f"{response.code} {error or ''} {description or ''}".strip()
            )
        if response.code != 200 or body is None:
            raise GrantFailure("unreachable", f"userinfo answers {response.code}")
        return body

    async def _document(self) -> dict[str, Any]:
        try:
            return await self.discovery.document()
        except DiscoveryError as error:
            raise GrantFailure("unreachable", str(error)) from error

    async def _token(self, form: dict[str, str]) -> dict[str, Any]:
        document = await self._document()
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        methods = document.get("token_endpoint_auth_methods_supported")
        # What is not listed is client_secret_basic (Discovery 1.0, section 3).
        if not self._client_secret:
            form["client_id"] = self.client_id
        elif not isinstance(methods, list) or "client_secret_basic" in methods:
            pair = f"{self.client_id}:{self._client_secret}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            form |= {"client_id": self.client_id, "client_secret": self._client_secret}
        request = HTTPRequest(
            document["token_endpoint"],
            method="POST",
            headers=headers,
            body=urlencode(form),
            connect_timeout=CONNECT_TIMEOUT,
            request_timeout=_REFRESH_TIMEOUT,
            follow_redirects=False,
        )
        response = await self._fetch(request)
        body = _json(response)
        token = (body or {}).get("access_token")
        if response.code == 200 and body and isinstance(token, str) and token:
            return body
        error, description = _error(response, body)
        reason = grant_failure_reason(error, description, response.code)
        detail = f"{response.code} {error or ''} {description or ''}".strip()
        raise GrantFailure(reason, f"{form['grant_type']}: {detail}")

    async def _fetch(self, request: HTTPRequest) -> HTTPResponse:
        try:
            return await self._http.fetch(request, raise_error=False)
        except (HTTPClientError, OSError) as error:
            # The exception's text holds no header and no body, so no secret.
            raise GrantFailure("unreachable", f"{request.url}: {error}") from error


def _json(response: HTTPResponse) -> dict[str, Any] | None:
    try:
        body = json.loads(response.body or b"")
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _error(
    response: HTTPResponse, body: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """The OAuth error and its text, of body or challenge, without what may be a token."""
    error, description = (body or {}).get("error"), (body or {}).get("error_description")
    if not isinstance(error, str):
        challenge = str(response.headers.get("WWW-Authenticate", ""))
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        error, description = fields.get("error"), fields.get("error_description")
    return (
        _TOKEN_LIKE.sub("...", error)[:60] if isinstance(error, str) else None,
        _TOKEN_LIKE.sub("...", description)[:300] if isinstance(description, str) else None,
    )
