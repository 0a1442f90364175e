"""Buckets and roles: what a user needs in the object storage before the first use."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from taccuino.settings import Settings

from .clients import StorageClients, s3_client
from .errors import StorageError, storage_error
from .issuer import PublishedIssuer, condition_prefix, published_issuer
from .names import bucket_name, own_role, role_name, scratch_prefix
from .policies import permission_policy, policy_text, provider_arn, trust_policy
from .sts import Credentials

__all__ = ["BucketProvisioner"]

_log = logging.getLogger(__name__)

_POLICY = "taccuino"
_LONGEST_SESSION = 43200
"""Seconds: the most that a role can be given; how long sessions are is in the settings, and
RadosGW 16 can't change a role's limit later."""
_T = TypeVar("_T")


class BucketProvisioner:
    """Makes what is missing and mends what has changed; each call may be repeated.

    With the administrator's keys it makes the OIDC provider, the shared bucket, and each
    user's bucket and role. Without them (an S3 that others run) roles are there already and
    `ensure_own_bucket` makes the bucket with the user's own credentials.
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
        self._issuer = issuer
        self._prepared: asyncio.Task[None] | None = None

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
            await self._off_loop("make the shared bucket", self._ensure_scratch)

    async def ensure_user(self, username: str, subject: str, email: str | None = None) -> None:
        """Make the user's bucket, role and directory in the shared bucket.

        Parameters
        ----------
        subject
            The ``sub`` of the user's tokens: only they may assume the role.
        email
            Noted at the bucket, for those who look after the storage.

        Raises
        ------
        StorageError
            With the reason ``conflict``, if the role is another subject's.
        """
        if not self.administers:
            return
        await self._prepare()
        bucket, prefix = bucket_name(self._settings, username), scratch_prefix(username)
        owner = {"taccuino-user": username, **({"taccuino-email": email} if email else {})}
        await asyncio.gather(
            self._off_loop(
                f"make the bucket {bucket!r}", lambda: self._ensure_bucket(bucket, owner)
            ),
            self._off_loop(
                f"make the role of {bucket!r}", lambda: self._ensure_role(username, subject)
            ),
            self._off_loop(
                f"make {prefix} in the shared bucket", lambda: self._ensure_directory(prefix)
            ),
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

        await self._off_loop(f"make the bucket {bucket!r}", ensure)

    def _ensure_issuer(self) -> None:
        iam, published = self._clients.iam(), self._published_issuer()
        if not published.thumbprints:
            _log.warning(
                "%s publishes no x5c certificate: Ceph before 20 can't verify its tokens",
                published.issuer,
            )
        arn = provider_arn(published.issuer)
        thumbprints, audiences = sorted(published.thumbprints), sorted(self._audiences())
        try:
            there = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        except ClientError as error:
            if not _is_missing(error):
                raise
        else:
            known = sorted(there["ThumbprintList"]), sorted(there["ClientIDList"])
            if known == (thumbprints, audiences):
                return
            # RadosGW 16 can't change a provider; without it no session begins for a moment.
            iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        iam.create_open_id_connect_provider(
            Url=published.issuer, ThumbprintList=thumbprints, ClientIDList=audiences
        )
        _log.info("The object storage trusts %s", published.issuer)

    def _ensure_scratch(self) -> None:
        self._ensure_bucket(self._settings.storage.scratch_bucket, {})

    def _ensure_bucket(self, bucket: str, tags: Mapping[str, str]) -> None:
        if self._has_bucket(bucket):
            return
        s3 = self._clients.s3()
        s3.create_bucket(Bucket=bucket)
        if tags:
            pairs = [{"Key": key, "Value": value[:256]} for key, value in tags.items()]
            s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": pairs})  # type: ignore[typeddict-item]
        _log.info("Made the bucket %s", bucket)

    def _ensure_role(self, username: str, subject: str) -> None:
        if not own_role(self._settings):
            return
        iam, name = self._clients.iam(), role_name(self._settings, username)
        issuer = self._published_issuer().issuer
        trust = trust_policy(issuer, subject, self._audiences())
        there = self._role_trust(name)
        if there is None:
            there = self._make_role(name, trust)
        if there != trust:
            _refuse_other_subject(there, f"{condition_prefix(issuer)}:sub", subject, name)
            iam.update_assume_role_policy(RoleName=name, PolicyDocument=policy_text(trust))
            _log.info("Changed who may assume the role %s", name)
        permission = permission_policy(
            bucket_name(self._settings, username),
            self._settings.storage.scratch_bucket,
            scratch_prefix(username),
        )
        if self._role_permission(name) != permission:
            text = policy_text(permission)
            iam.put_role_policy(RoleName=name, PolicyName=_POLICY, PolicyDocument=text)

    def _make_role(self, name: str, trust: dict[str, Any]) -> Any:
        """Make the role; its trust policy, which is another's if somebody was faster.

        That may have been we: boto3 tries again when an answer does not come in time.
        """
        try:
            self._clients.iam().create_role(
                RoleName=name,
                AssumeRolePolicyDocument=policy_text(trust),
                MaxSessionDuration=_LONGEST_SESSION,
            )
        except ClientError as error:
            if _status(error) != HTTPStatus.CONFLICT:
                raise
            return self._role_trust(name)
        _log.info("Made the role %s", name)
        return trust

    def _role_trust(self, name: str) -> Any:
        try:
            role = self._clients.iam().get_role(RoleName=name)["Role"]
        except ClientError as error:
            if _is_missing(error):
                return None
            raise
        return _document(role.get("AssumeRolePolicyDocument"))

    def _role_permission(self, name: str) -> Any:
        try:
            answer = self._clients.iam().get_role_policy(RoleName=name, PolicyName=_POLICY)
        except ClientError as error:
            if _is_missing(error):
                return None
            raise
        return _document(answer["PolicyDocument"])

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

        return await asyncio.to_thread(guarded)


def _refuse_other_subject(there: Any, key: str, subject: str, role: str) -> None:
    """Keep a role for the subject it was made for.

    A name may come back: an account is deleted and another person registers under it, or two
    accounts differ in case only. The second must not find the first one's data.
    """
    try:
        named = [
            statement["Condition"]["StringEquals"][key] for statement in there["Statement"]
        ]
    except (KeyError, TypeError):
        return  # made for another issuer, or by hand: nothing to go by
    if named and subject not in named:
        raise StorageError(
            f"the role {role!r} belongs to another account of the IAM that had the same "
            "username; an administrator of the storage must remove the role, and see to the "
            "bucket's content, before this account can use it",
            reason="conflict",
        )


def _found(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except ClientError as error:
        if _is_missing(error):
            return False
        raise
    return True


def _is_missing(error: ClientError) -> bool:
    # RadosGW names the code of some of these errors only; the status is always there.
    return _status(error) == HTTPStatus.NOT_FOUND


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _document(value: object) -> Any:
    """A policy as an object; RadosGW sends it as text, botocore may have read it already."""
    if not isinstance(value, str):
        return value
    text = value if value.lstrip().startswith("{") else urllib.parse.unquote(value)
    try:
        return json.loads(text)
    except ValueError:
        return None
