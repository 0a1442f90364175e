"""The one small object that names a user's newest snapshot: read at each start.

And the claims by which two sites do not make the same repository at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from urllib.parse import quote
from xml.etree import ElementTree as ET

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from taccuino.settings import Settings
from taccuino.storage.mount_plane.credentials import StorageCredentials
from taccuino.storage.snapshots import PREFIX

from .lineage import Newest
from .restic import SnapshotError, error_of

__all__ = ["Pointers"]

_KEY = f"{PREFIX}newest.json"
_CLAIMS = f"{PREFIX}claims/"
_STALE = timedelta(minutes=10)
"""Whoever was killed is waited for no longer."""
_SECONDS = 15.0
_PAUSES = (0.2, 0.5)
"""Before what failed at once is asked again."""
_SERVER_ERRORS = 500
_LARGEST = 64 * 1024


class Pointers:
    """Reads and writes users' pointers in their names; keeps connections open."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = settings.storage.endpoint or ""
        self._region = settings.storage.region
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session:
            await self._session.close()

    async def get(self, bucket: str, credentials: StorageCredentials) -> Newest | None:
        """The newest snapshot, if there is one.

        Raises
        ------
        SnapshotError
            If the storage does not say, or what it says can't be read.
        """
        status, body = await self._ask("GET", bucket, credentials)
        if status == 404:
            return None
        if status != 200:
            raise _refusal(status, body)
        try:
            return Newest.parse(body)
        except ValueError as error:
            raise SnapshotError(
                "failed", f"What names your newest snapshot ({_KEY}) can't be read: {error}."
            ) from None

    async def put(self, bucket: str, credentials: StorageCredentials, newest: Newest) -> None:
        """Name the newest snapshot.

        Raises
        ------
        SnapshotError
            If the storage does not take it.
        """
        status, body = await self._ask("PUT", bucket, credentials, newest.as_text())
        if status != 200:
            raise _refusal(status, body)

    @contextlib.asynccontextmanager
    async def alone(
        self, bucket: str, credentials: StorageCredentials, node: str
    ) -> AsyncIterator[None]:
        """What no two sites may do at once: whoever sees another's claim gives way.

        Each lays its claim before it looks, so that of two at most one sees none. Conditional
        writes would not do: RadosGW 16.2 heeds them in no bucket that keeps versions.

        Raises
        ------
        SnapshotError
            If another does it, or the storage does not say.
        """
        claim = f"/{_CLAIMS}{node}"
        status, body = await self._ask("PUT", bucket, credentials, at=claim)
        if status != 200:
            raise _refusal(status, body)
        try:
            query = f"?list-type=2&max-keys=100&prefix={quote(_CLAIMS, safe='')}"
            status, body = await self._ask("GET", bucket, credentials, at=query)
            if status != 200:
                raise _refusal(status, body)
            if _is_claimed(body, f"{_CLAIMS}{node}"):
                raise SnapshotError(
                    "locked", "Your first snapshot is being made from another machine."
                )
            yield
        finally:
            with contextlib.suppress(SnapshotError):
                await self._ask("DELETE", bucket, credentials, at=claim)

    async def _ask(
        self,
        method: str,
        bucket: str,
        credentials: StorageCredentials,
        data: bytes = b"",
        *,
        at: str = f"/{_KEY}",
    ) -> tuple[int, bytes]:
        """The status and body of the answer; what fails for a moment is asked again.

        Each request may be repeated: it writes all of a small object, or removes it.
        """
        for pause in _PAUSES:
            try:
                status, body = await self._ask_once(method, bucket, credentials, data, at)
            except (aiohttp.ClientError, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise error_of("unreachable") from None
            else:
                if status < _SERVER_ERRORS:
                    return status, body
            await asyncio.sleep(pause)
        try:
            return await self._ask_once(method, bucket, credentials, data, at)
        except (TimeoutError, aiohttp.ClientError, OSError):
            raise error_of("unreachable") from None

    async def _ask_once(
        self, method: str, bucket: str, credentials: StorageCredentials, data: bytes, at: str
    ) -> tuple[int, bytes]:
        url = f"{self._endpoint}/{bucket}{at}"
        request = AWSRequest(method, url, data=data)
        keys = Credentials(
            credentials.access_key, credentials.secret_key, credentials.session_token or None
        )
        S3SigV4Auth(keys, "s3", self._region).add_auth(request)
        self._session = self._session or aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_SECONDS), trust_env=True
        )
        async with self._session.request(
            method, URL(url, encoded=True), data=data, headers=dict(request.headers)
        ) as response:
            body = b""
            while len(body) < _LARGEST and (part := await response.content.readany()):
                body += part
            return response.status, body


def _is_claimed(listing: bytes, own: str) -> bool:
    """Whether there is another's claim, not much older than our own; by the storage's clock."""
    try:
        claims = {
            item.findtext("{*}Key"): datetime.fromisoformat(
                item.findtext("{*}LastModified") or ""
            )
            for item in ET.fromstring(listing).iterfind("{*}Contents")  # noqa: S314
        }
        return any(claims[own] - at < _STALE for key, at in claims.items() if key != own)
    except (KeyError, ValueError, TypeError, ET.ParseError):
        return True  # cut off, or not understood


def _refusal(status: int, body: bytes) -> SnapshotError:
    if b"QuotaExceeded" in body:
        return error_of("quota")
    return error_of("denied" if status in (401, 403, 404) else "unreachable")
