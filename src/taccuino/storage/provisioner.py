"""Buckets and roles: what a user needs in the object storage before the first use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from taccuino.settings import Settings, parse_size

from .admin_ops import AdminOps, BucketUsage
from .buckets import Bucket, Buckets, Owner, keep_versions, tag_value
from .clients import StorageClients, off_loop, s3_client
from .errors import StorageError, is_missing, storage_error
from .groups import GroupMount, group_mounts
from .issuer import PublishedIssuer, published_issuer
from .names import bucket_name, own_role, scratch_prefix
from .policies import provider_arn, trust_policy
from .roles import UserRoles
from .sts import Credentials
from .usage import UsageCache

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BucketProvisioner"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class BucketProvisioner:
    """Makes what is missing and mends what has changed; each call may be repeated.

    With the administrator's keys it makes the OIDC provider, the shared bucket, the groups'
    buckets, and each user's bucket and role. Without them (an S3 that others run) roles are
    there already and `ensure_own_bucket` makes the bucket with the user's own credentials.
    """

    def __init__(
        self,
        settings: Settings,
        clients: StorageClients | None = None,
        *,
        issuer: PublishedIssuer | None = None,
    ) -> None:
        self._settings = settings
        self._clients = clients or StorageClients(settings)
        self._roles = UserRoles(settings, self._clients)
        self._issuer = issuer
        self._prepared: asyncio.Task[None] | None = None
        admin = AdminOps(settings, self._clients.admin_keys)
        self._usage = UsageCache(admin.usage)
        self._buckets = Buckets(self._clients, admin, self._usage.forget)
        self._own_done: set[str] = set()

    @property
    def administers(self) -> bool:
        """Whether it has keys to make buckets and roles with."""
        return self._settings.storage.admin_credentials_file is not None

    async def check(self) -> None:
        """Ask the storage whether it answers, and whether it takes our keys.

        Raises
        ------
        StorageError
            If it does not.
        """
        if self.administers:
            scratch = self._settings.storage.scratch_bucket
            await self._off_loop("find the shared bucket", lambda: self._has_bucket(scratch))
        else:
            await self._off_loop("answer", self._answers)

    async def ensure_issuer(self) -> None:
        """Let the storage trust the tokens that the IAM signs for this service.

        Raises
        ------
        StorageError
            With the reason ``issuer``, if the IAM can't be asked for its certificates.
        """
        if self.administers:
            await self._off_loop("trust the IAM", self._ensure_issuer)

    async def ensure_scratch(self) -> None:
        """Make the shared bucket."""
        if self.administers:
            storage = self._settings.storage
            days = storage.keep_versions_days
            await self._ensure_bucket(
                Bucket(storage.scratch_bucket, Owner.everybody(), None, days)
            )

    async def ensure_user(
        self, username: str, subject: str, email: str | None = None, groups: Iterable[str] = ()
    ) -> None:
        """Make the user's bucket, role and directory in the shared bucket.

        Parameters
        ----------
        subject
            The ``sub`` of the user's tokens: only they may assume the role.
        email
            Noted at the bucket, for those who look after the storage.
        groups
            The user's groups: the role gives access to their buckets, and to no other's. One
            that can't be had is left out and logged.

        Raises
        ------
        StorageError
            With the reason ``conflict``, if the role or the bucket is another's.
        """
        if not self.administers:
            return
        await self._prepare()
        prefix = scratch_prefix(username)
        mounts = group_mounts(self._settings, username, groups)
        _, _, *usable = await asyncio.gather(
            self._ensure_bucket(self._own_bucket(username, email)),
            self._off_loop(
                f"make {prefix} in the shared bucket", lambda: self._ensure_directory(prefix)
            ),
            *map(self._is_usable, mounts),
        )
        shared = tuple(mount for mount, use in zip(mounts, usable, strict=True) if use)
        # Last: nobody is given what is not known to be theirs.
        await self._off_loop(
            f"make the role of {username[:64]!r}",
            lambda: self._ensure_role(username, subject, shared),
        )

    async def usage(self, bucket: str) -> BucketUsage | None:
        """How full a bucket is; ``None`` if the storage does not say so within 1.5 s."""
        return await self._usage.get(bucket) if self.administers else None

    def _own_bucket(self, username: str, email: str | None) -> Bucket:
        storage = self._settings.storage
        return Bucket(
            bucket_name(self._settings, username),
            Owner.user(username),
            parse_size(storage.quota) if storage.quota else None,
            storage.keep_versions_days,
            (("taccuino-email", tag_value(email)),) if email else (),
        )

    async def _is_usable(self, mount: GroupMount) -> bool:
        """Make a group's bucket; whether that was possible."""
        storage = self._settings.storage
        entry = next(item for item in storage.group_buckets if item.bucket == mount.bucket)
        size = parse_size(entry.quota) if entry.quota else None
        bucket = Bucket(mount.bucket, Owner.groups(), size, storage.keep_versions_days)
        try:
            await self._ensure_bucket(bucket)
        except StorageError as error:
            if error.reason == "unreachable":
                raise
            _log.error("storage.group_buckets: %s", error)
            return False
        return True

    async def _ensure_bucket(self, bucket: Bucket) -> None:
        await self._off_loop(
            f"make the bucket {bucket.name!r}", lambda: self._buckets.ensure(bucket)
        )

    async def _prepare(self) -> None:
        """What all users need, once a process; a failure is tried again by the next caller."""
        task = self._prepared
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._prepared = asyncio.create_task(self._ensure_shared())
        await asyncio.shield(task)

    async def _ensure_shared(self) -> None:
        await self.ensure_issuer()
        await self.ensure_scratch()

    async def ensure_own_bucket(self, username: str, credentials: Credentials) -> None:
        """Make the user's bucket as the user, where nobody else does.

        Raises
        ------
        StorageError
            If the user may not, or the name is taken by another.
        """
        if self.administers:
            return
        bucket = bucket_name(self._settings, username)

        def ensure() -> None:
            client = s3_client(
                self._settings,
                credentials.access_key,
                credentials.secret_key,
                credentials.session_token,
            )
            if not _found(lambda: client.head_bucket(Bucket=bucket)):
                client.create_bucket(Bucket=bucket)
            if bucket not in self._own_done:
                self._own_done.add(bucket)
                self._keep_own_versions(client, bucket)

        await self._off_loop(f"make the bucket {bucket!r}", ensure)

    def _keep_own_versions(self, client: S3Client, bucket: str) -> None:
        """Turn versioning on as the user, if whoever runs the storage lets them."""
        try:
            keep_versions(client, bucket, self._settings.storage.keep_versions_days)
        except ClientError as error:
            _log.warning("The versions of files in %s are left as they are: %s", bucket, error)

    def _ensure_issuer(self) -> None:
        iam, published = self._clients.iam(), self._published_issuer()
        if not published.thumbprints:
            _log.warning(
                "%s publishes no x5c certificate: Ceph before 20 can't verify its tokens",
                published.issuer,
            )
        arn = provider_arn(published.issuer)
        thumbprints, clients = set(published.thumbprints), set(self._audiences())
        try:
            there = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        except ClientError as error:
            if not is_missing(error):
                raise
        else:
            known = set(there.get("ClientIDList", []))
            if thumbprints == set(there.get("ThumbprintList", [])) and clients <= known:
                return
            clients |= known  # another service's tokens go on being trusted
            # RadosGW 16 can't change a provider; without it no session begins for a moment.
            iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        iam.create_open_id_connect_provider(
            Url=published.issuer,
            ThumbprintList=sorted(thumbprints),
            ClientIDList=sorted(clients),
        )
        _log.info("The object storage trusts %s", published.issuer)

    def _ensure_role(self, username: str, subject: str, groups: tuple[GroupMount, ...]) -> None:
        if own_role(self._settings):
            issuer = self._published_issuer().issuer
            trust = trust_policy(issuer, subject, self._audiences())
            self._roles.ensure(username, trust, groups)

    def _ensure_directory(self, prefix: str) -> None:
        """Put the empty object that shows an empty directory in a mount."""
        s3, bucket = self._clients.s3(), self._settings.storage.scratch_bucket
        if not _found(lambda: s3.head_object(Bucket=bucket, Key=prefix)):
            s3.put_object(Bucket=bucket, Key=prefix, Body=b"")

    def _has_bucket(self, bucket: str) -> bool:
        return _found(lambda: self._clients.s3().head_bucket(Bucket=bucket))

    def _answers(self) -> None:
        """Any answer will do: without keys there is nothing that we may ask for."""
        try:
            self._clients.sts().get_caller_identity()
        except ClientError as error:
            if storage_error(error, "", "").reason == "unreachable":
                raise

    def _audiences(self) -> Sequence[str]:
        storage, iam = self._settings.storage, self._settings.iam
        audience = storage.audience or iam.client_id
        if audience is None:
            raise StorageError(
                "iam.client_id is not set; tokens for the storage are issued to that client"
            )
        return [audience]

    def _published_issuer(self) -> PublishedIssuer:
        if self._issuer is None:
            if self._settings.iam.issuer is None:
                raise StorageError("iam.issuer is not set; roles name the issuer of tokens")
            self._issuer = published_issuer(self._settings.iam.issuer)
        return self._issuer

    async def _off_loop(self, action: str, call: Callable[[], _T]) -> _T:
        def guarded() -> _T:
            try:
                return call()
            except (ClientError, BotoCoreError) as error:
                raise storage_error(error, action, self._settings.storage.endpoint) from error

        return await off_loop(guarded)


def _found(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except ClientError as error:
        if is_missing(error):
            return False
        raise
    return True
