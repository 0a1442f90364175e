"""The hub's HTTP API as a notebook server calls it: blocking, for use in threads."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

__all__ = ["HubClient", "HubRefused", "HubUnreachable"]

_LARGEST_ANSWER = 1024 * 1024  # bytes


class HubUnreachable(Exception):  # noqa: N818 - named for what happened
    """The hub did not answer, or could not: asking again later can help."""


class HubRefused(Exception):  # noqa: N818 - named for what happened
    """The hub answered no; the text is its own sentence, made for a person."""

    def __init__(self, message: str, status: int, reason: str = "") -> None:
        self.status = status
        self.reason = reason
        super().__init__(message)


class HubClient:
    """Calls of ``<hub>/hub/api/taccuino`` with the server's own token."""

    def __init__(self, api_url: str, token: str) -> None:
        parts = urlsplit(api_url)
        self._https = parts.scheme == "https"
        self._host = parts.hostname or "localhost"
        self._port = parts.port
        self._path = parts.path.rstrip("/") + "/taccuino"
        self._token = token

    def get(self, path: str, timeout: float = 10.0) -> dict[str, Any]:
        """GET ``path``; see `post`."""
        return self._call("GET", path, None, timeout)

    def post(self, path: str, body: dict[str, Any], timeout: float = 10.0) -> dict[str, Any]:
        """POST ``body`` to ``path`` and return the answer's object (empty for 204).

        Raises
        ------
        HubUnreachable
            If no answer came within ``timeout`` seconds, or one of status 429 or 5xx.
        HubRefused
            If the answer's status is another error.
        """
        return self._call("POST", path, body, timeout)

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float
    ) -> dict[str, Any]:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout)
        headers = {"Authorization": f"token {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, self._path + path, data, headers)
            response = connection.getresponse()
            status, text = response.status, response.read(_LARGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
            raise HubUnreachable(
                f"the hub at {self._host} does not answer: {problem}"
            ) from error
        finally:
            connection.close()
        answer = _object(text)
        if status < 300:
            return answer
        message = str(answer.get("message") or f"the hub answered with status {status}")
        # A refusal with a reason is the IAM's, whatever its status, and says what to do.
        reason = str(answer.get("reason") or "")
        if (status >= 500 or status == 429) and not reason:
            raise HubUnreachable(message)
        raise HubRefused(message, status, reason)


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
