"""Storage credentials from the hub, for rclone's ``credential_process``.

They are kept in memory only. While the hub is away the last ones are served for as long as
they are valid, so that a restart of the hub stops no upload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from taccuino.errors import TaccuinoError

__all__ = ["CredentialError", "CredentialSource", "StorageCredentials"]

_RENEW = timedelta(minutes=5)
"""They are renewed this long before they end (or half-way, where they live shorter)."""
_MARGIN = timedelta(minutes=2)
"""rclone is told an end this much earlier, so that no request meets the real one."""
_NEW = timedelta(seconds=30)


class CredentialError(TaccuinoError):
    """The hub gave no credentials; the message says why in a sentence.

    ``reason`` is the hub's, such as ``expired_grant``; None where it is the hub that fails.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class StorageCredentials:
    """Temporary credentials of one user."""

    access_key: str
    secret_key: str
    session_token: str
    expires_at: datetime
    fetched_at: datetime

    @classmethod
    def from_container_json(cls, data: Any, now: datetime) -> StorageCredentials:
        """Credentials from the hub's answer, which is the AWS container endpoint's.

        Raises
        ------
        ValueError
            If a key is missing or the time can't be read.
        """
        try:
            expires = datetime.fromisoformat(data["Expiration"])
            return cls(
                access_key=str(data["AccessKeyId"]),
                secret_key=str(data["SecretAccessKey"]),
                session_token=str(data.get("Token") or ""),
                expires_at=expires if expires.tzinfo else expires.replace(tzinfo=UTC),
                fetched_at=now,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the answer has no usable {error}") from None

    def fresh(self, now: datetime) -> bool:
        """Whether there is no need to ask for new ones."""
        life = self.expires_at - self.fetched_at
        return now < self.expires_at - min(_RENEW, life / 2)

    def valid(self, now: datetime) -> bool:
        """Whether they can be used at all."""
        return now < self.expires_at

    def as_process_json(self, now: datetime) -> dict[str, Any]:
        """What ``credential_process`` prints (AWS SDKs, *Process credential provider*)."""
        early = self.expires_at - _MARGIN
        end = early if early > now + timedelta(seconds=30) else self.expires_at
        return {
            "Version": 1,
            "AccessKeyId": self.access_key,
            "SecretAccessKey": self.secret_key,
            "Expiration": end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **({"SessionToken": self.session_token} if self.session_token else {}),
        }


def _now() -> datetime:
    return datetime.now(UTC)


class CredentialSource:
    """Asks the hub for users' credentials; one request at a time for each user.

    ``hub_url`` is the base of the hub's API for Taccuino, and ``token_file`` holds the mount
    plane's token; it is read each time, since the hub may have got a new one.
    """

    def __init__(
        self,
        hub_url: str,
        token_file: Path,
        *,
        timeout: float = 10.0,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._hub_url = hub_url.rstrip("/")
        self._token_file = token_file
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._now = now
        self._kept: dict[str, StorageCredentials] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def get(self, username: str) -> StorageCredentials:
        """The user's credentials.

        Raises
        ------
        CredentialError
            If the hub gives none and none that are valid are kept.
        """
        async with self._locks.setdefault(username, asyncio.Lock()):
            kept = self._kept.get(username)
            if kept and kept.fresh(self._now()):
                return kept
            try:
                fetched = await self._fetch(username)
            except CredentialError:
                if kept and kept.valid(self._now()):
                    return kept
                raise
            self._kept[username] = fetched
            return fetched

    def as_process_json(self, credentials: StorageCredentials) -> dict[str, Any]:
        """What ``credential_process`` prints, as of now."""
        return credentials.as_process_json(self._now())

    def is_new(self, username: str) -> bool:
        """Whether what is kept came a moment ago: asking again would give the same."""
        kept = self._kept.get(username)
        return kept is not None and self._now() - kept.fetched_at < _NEW

    def forget(self, username: str) -> None:
        """Drop what is kept: the user has no mounts any more, or the storage refused it."""
        self._kept.pop(username, None)

    async def _fetch(self, username: str) -> StorageCredentials:
        url = f"{self._hub_url}/credentials/{quote(username, safe='')}"
        try:
            token = self._token_file.read_text(encoding="utf-8").strip()
            async with (
                aiohttp.ClientSession(timeout=self._timeout) as session,
                session.get(url, headers={"Authorization": f"token {token}"}) as response,
            ):
                if response.status == 200:
                    return StorageCredentials.from_container_json(
                        await response.json(), self._now()
                    )
                raise await _refusal(response)
        except TimeoutError:
            raise CredentialError(
                "Your cloud_storage is not connected: the hub gave no answer in time."
            ) from None
        except aiohttp.ClientError as error:
            raise CredentialError(
                f"Your cloud_storage is not connected: the hub can't be reached ({error})."
            ) from error
        except OSError as error:
            raise CredentialError(
                f"Your cloud_storage is not connected: {self._token_file} can't be read "
                f"({error.strerror})."
            ) from error
        except ValueError as error:
            raise CredentialError(
                "Your cloud_storage is not connected: the hub's answer can't be read "
                f"({error})."
            ) from None


async def _refusal(response: aiohttp.ClientResponse) -> CredentialError:
    """The hub's own sentence if it gave one, such as that the user must log in again."""
    try:
        answer = await response.json()
        message, reason = str(answer["message"]).strip(), answer.get("reason")
    except (aiohttp.ContentTypeError, ValueError, KeyError, TypeError, AttributeError):
        message, reason = "", None
    if message:
        message = f"Your cloud_storage is not connected. {message.rstrip('.')}."
    else:
        message = f"Your cloud_storage is not connected: the hub answered {response.status}."
    return CredentialError(message, reason if isinstance(reason, str) else None)
