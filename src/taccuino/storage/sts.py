"""Storage credentials for an access token: STS ``AssumeRoleWithWebIdentity``."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from taccuino.settings import Settings

from .clients import StorageClients, off_loop
from .errors import StorageError, storage_error
from .names import role_arn, storage_name

__all__ = ["Credentials", "StorageTokenService"]

_SHORTEST_SESSION = 900
"""Seconds: the least that STS gives."""


@dataclass(frozen=True)
class Credentials:
    """Keys to the storage that end by themselves."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: dt.datetime
    """With its time zone."""

    def as_container_json(self) -> dict[str, str]:
        """As the AWS container-credentials endpoint and ``credential_process`` name them."""
        expiration = self.expires_at.astimezone(dt.UTC)
        return {
            "AccessKeyId": self.access_key,
            "SecretAccessKey": self.secret_key,
            "Token": self.session_token,
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


class StorageTokenService:
    """Trades a user's access token for credentials of the user's role.

    It holds no secret: the storage verifies the token itself, against the IAM's keys.
    """

    def __init__(self, settings: Settings, clients: StorageClients | None = None) -> None:
        self._settings = settings
        self._clients = clients or StorageClients(settings)

    async def credentials(self, username: str, access_token: str) -> Credentials:
        """Assume the user's role.

        Raises
        ------
        StorageError
            With a reason: ``denied`` (no such role, or the token is not for it),
            ``expired_token``, ``unreachable`` or ``refused``.
        """
        return await off_loop(lambda: self._assume(username, access_token))

    def _assume(self, username: str, access_token: str) -> Credentials:
        settings = self._settings.storage
        try:
            answer: Any = self._clients.sts().assume_role_with_web_identity(
                RoleArn=role_arn(self._settings, username),
                RoleSessionName=storage_name(username)[:64],
                WebIdentityToken=access_token,
                DurationSeconds=max(settings.session_seconds, _SHORTEST_SESSION),
            )
            keys = answer["Credentials"]
            return Credentials(
                keys["AccessKeyId"],
                keys["SecretAccessKey"],
                keys["SessionToken"],
                keys["Expiration"],
            )
        except (ClientError, BotoCoreError) as error:
            failure = storage_error(
                error, f"give credentials for {username[:64]!r}", settings.endpoint
            )
            if failure.reason == "denied" and _has_ended(access_token):
                # RadosGW says no more than 403.
                failure.reason = "expired_token"
            raise failure from error
        except KeyError as error:
            raise StorageError(
                f"the object storage at {settings.endpoint} answered without {error}; "
                "storage.endpoint must name an S3 with STS"
            ) from error


def _has_ended(token: str) -> bool:
    """Whether a token's own ``exp`` is past; unverified, it only words a refusal."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return float(claims["exp"]) <= time.time()
    except (IndexError, KeyError, TypeError, ValueError):
        return False
