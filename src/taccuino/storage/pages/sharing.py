"""Links that share a file with anybody, until they expire.

A link lives for as long as was chosen, whatever becomes of the sharer's session: where the
service administers the storage it reads with the administrator's keys, and asks the hub
whether the sharer may still read the file. Elsewhere it reads with the sharer's own
credentials, which the hub gives for as long as the IAM lets it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from taccuino.edge.sites import SHARED_FILES
from taccuino.settings import Settings
from taccuino.storage.clients import StorageClients
from taccuino.storage.errors import http_status, is_missing, storage_error
from taccuino.storage.policies import policy_text

from .clients import CALL_SECONDS, UserClients
from .errors import CallError, of_storage
from .places import places_of
from .presigned import download_url
from .records import Records, Share

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["SharedFile", "Sharing"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

REDIRECT_SECONDS = 60
"""Within which the download behind a link must begin."""
_GROUPS_SECONDS = 60.0
_ENDED = "This link has ended, or there never was such a link. Ask whoever gave it to you."
_DAY = 86400
_SHORTEST = 10
_POLICY_ID = "TaccuinoSharedFiles"


@dataclass(frozen=True)
class SharedFile:
    """A shared file as it is now."""

    share: Share
    size: int
    modified: float
    changed: bool
    """Whether it is another than when it was shared."""


class Sharing:
    """Makes links, and opens them for anybody."""

    def __init__(
        self, settings: Settings, records: Records, clients: UserClients, token: str
    ) -> None:
        self._settings, self._records, self._clients = settings, records, clients
        self._token = token
        self._admin = StorageClients(settings)
        self._administers = settings.storage.admin_credentials_file is not None
        self._groups: dict[str, tuple[float, list[str] | None]] = {}

    def url(self, share: Share) -> str:
        """A link's address; among several sites it names the one that knows the link."""
        site = f"{self._settings.site}/" if self._settings.peers else ""
        return f"{self._settings.url}{SHARED_FILES}{site}{share.id}"

    def check_site(self, site: str | None) -> None:
        """Whether a link that names this site, or none, can be looked up here.

        Raises
        ------
        CallError
            503 for a peer's: its edge could not be reached. 404 for another name.
        """
        if any(site == peer.name for peer in self._settings.peers):
            raise CallError(
                503,
                f"The site {site}, where this link was made, can't be reached now. The link "
                "works again when the site is back.",
            )
        if site not in (None, self._settings.site):
            raise CallError(404, _ENDED)

    async def share(self, username: str, bucket: str, key: str, seconds: int) -> Share:
        """Make a link to a file that the user can read.

        Raises
        ------
        CallError
            400, if it would live too long; 403, if links are off; 404, if there is no file.
        """
        days = self._settings.storage.share_days
        longest = days * _DAY
        if not longest:
            raise CallError(403, "Links that share files are turned off here.")
        if not _SHORTEST <= seconds <= longest:
            raise CallError(
                400,
                f"seconds: from {_SHORTEST} to {longest} ({days} days).",
            )
        head = await self._clients.call(
            username, "look at a file", lambda client: _opened(client, bucket, key)
        )
        etag = head["ETag"].strip('"')
        return await asyncio.to_thread(
            self._records.add_share, username, bucket, key, etag, seconds
        )

    async def look(self, id_: str) -> SharedFile:
        """The file behind a link.

        Raises
        ------
        CallError
            404 for a link that has ended; 410 for a file that is gone, or that the sharer may
            no longer read.
        """
        share = await asyncio.to_thread(self._records.share, id_)
        if share is None:
            raise CallError(404, _ENDED)
        await self._check_sharer(share)
        try:
            head = await self._read(
                share,
                "look at a file",
                lambda c: c.head_object(Bucket=share.bucket, Key=share.key),
            )
        except CallError as error:
            if error.status == 404:
                raise CallError(410, "The file that this link shared is gone.") from error
            raise
        etag = head["ETag"].strip('"')
        return SharedFile(
            share, head["ContentLength"], head["LastModified"].timestamp(), etag != share.etag
        )

    async def download(self, id_: str) -> str:
        """Where the file is downloaded, for a minute and not beyond the link's end.

        Raises
        ------
        CallError
            As `look` does.
        """
        share = (await self.look(id_)).share
        seconds = min(REDIRECT_SECONDS, int(share.expires - time.time()))
        if seconds < 1:
            raise CallError(404, _ENDED)
        return await self._read(
            share,
            "sign a download",
            lambda client: download_url(
                self._settings, client, share.bucket, share.key, seconds=seconds
            ),
        )

    async def _read(self, share: Share, action: str, work: Callable[[S3Client], _T]) -> _T:
        if not self._administers:
            return await self._clients.call(share.username, action, work)

        def guarded() -> _T:
            try:
                return self._as_admin(share.bucket, work)
            except (ClientError, BotoCoreError) as error:
                failure = storage_error(error, action, self._settings.storage.endpoint)
                missing = isinstance(error, ClientError) and is_missing(error)
                raise of_storage(failure, missing=missing) from error

        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await self._clients.in_thread(guarded)
        except TimeoutError:
            raise CallError(503, "The object storage does not answer at the moment.") from None

    def _as_admin(self, bucket: str, work: Callable[[S3Client], _T]) -> _T:
        """Read with the administrator's keys.

        The bucket is the administrator's, but in RadosGW an object is whose session wrote it,
        so the bucket's policy must let its owner read.
        """
        client = self._admin.s3()
        try:
            client.head_bucket(Bucket=bucket)
            return work(client)
        except ClientError as error:
            if http_status(error) != HTTPStatus.FORBIDDEN:
                raise
        let_owner_read(client, bucket)
        return work(client)

    async def _check_sharer(self, share: Share) -> None:
        """Be sure that the sharer is still a user, and has to do with the bucket."""
        groups = await self._groups_of(share.username)
        places = [] if groups is None else places_of(self._settings, share.username, groups)
        if share.bucket not in {place.bucket for place in places}:
            raise CallError(410, "Whoever shared this file may not share it any more.")

    async def _groups_of(self, username: str) -> list[str] | None:
        """The user's groups by the hub, a minute old at most; None for no such user.

        While the hub is away, what it said last counts.
        """
        at, groups = self._groups.get(username, (float("-inf"), None))
        if time.monotonic() - at < _GROUPS_SECONDS:
            return groups
        hub = f"http://127.0.0.1:{self._settings.hub.port}/hub/api"
        url = f"{hub}/users/{quote(username, safe='')}"
        headers = {"Authorization": f"token {self._token}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(url, headers=headers) as answer,
            ):
                if answer.status == 404:
                    fresh: list[str] | None = None
                else:
                    answer.raise_for_status()
                    fresh = list((await answer.json()).get("groups", []))
        except (TimeoutError, aiohttp.ClientError) as error:
            log.warning("The hub does not say which groups %s is in: %s", username, error)
            if username in self._groups:
                return groups
            raise CallError(503, "The service is restarting. Try again soon.") from error
        self._groups[username] = (time.monotonic(), fresh)
        return fresh


def let_owner_read(client: S3Client, bucket: str) -> None:
    """Add to a bucket's policy that its owner may read what is in it."""
    owner = client.list_buckets()["Owner"]["ID"]
    try:
        policy = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
    except ClientError as error:
        if not is_missing(error):
            raise
        policy = {"Version": "2012-10-17", "Statement": []}
    statements = [item for item in policy["Statement"] if item.get("Sid") != _POLICY_ID]
    statements.append(
        {
            "Sid": _POLICY_ID,
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam:::user/{owner}"]},
            "Action": ["s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{bucket}/*"],
        }
    )
    text = policy_text({**policy, "Statement": statements})
    client.put_bucket_policy(Bucket=bucket, Policy=text)
    log.info("The bucket %s lets its owner read, for links that share files", bucket)


def _opened(client: S3Client, bucket: str, key: str) -> Any:
    """The file's head, after it was really read: who may list need not be let to read."""
    head = client.head_object(Bucket=bucket, Key=key)
    if head["ContentLength"]:
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0")["Body"].close()
    return head
