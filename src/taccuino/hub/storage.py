"""A user's storage for their servers: bucket, credentials and mounts, joined."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from taccuino.engines import Attachment, Bind, ServerIds
from taccuino.engines.environment import EDGE_NAME
from taccuino.errors import TaccuinoError
from taccuino.iam import AccessToken, GrantFailure
from taccuino.naming import slug
from taccuino.settings import Settings
from taccuino.storage import (
    BucketProvisioner,
    CredentialCache,
    Credentials,
    StorageError,
    StorageTokenService,
    bucket_name,
    role_arn,
)
from taccuino.storage.admin_ops import BucketUsage
from taccuino.storage.groups import group_mounts
from taccuino.storage.mount_client import MountPlaneClient, MountPlaneError, MountRequest

from .snapshots import HubSnapshots

__all__ = ["HubStorage", "StorageBackend", "refusal", "server_endpoint", "storage_environment"]

log = logging.getLogger(__name__)

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_COMES_BACK = "It appears in your running server by itself once that is mended."
_REFUSALS = {
    "unreachable": "the object storage can't be reached",
    "issuer": "the identity service can't be reached",
    "denied": "the object storage refuses your account",
    "expired_token": "the object storage refuses your login",
    "conflict": "the bucket or role of your name belongs to somebody else",
}
_TEMPORARY = {"unreachable", "issuer"}
_NO_ANSWER = "what mounts your files on this machine does not answer."
_CREDENTIALS_SECONDS = 8.0  # the mount plane waits ten
_AFTER_A_FAULT_SECONDS = 3.0

_mounting: set[asyncio.Task[tuple[bool, str | None]]] = set()


class StorageBackend:
    """What stands behind all users' storage, each part made once, when it is first used.

    The broker's HTTP calls find it as ``taccuino_credentials`` in the hub's settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._unprepared: set[str] = set()
        self._groups: dict[str, frozenset[str]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same: traitlets copies what is configured, and there is one for the hub."""
        return self

    @cached_property
    def provisioner(self) -> BucketProvisioner:
        """Makes buckets and roles."""
        return BucketProvisioner(self.settings)

    @cached_property
    def mount_plane(self) -> MountPlaneClient:
        """The mount plane of this node."""
        return MountPlaneClient(self.settings)

    @cached_property
    def snapshots(self) -> HubSnapshots | None:
        """Snapshots of workareas, if this service makes any."""
        enabled = self.settings.snapshots.enabled
        return HubSnapshots(self.settings, self.mount_plane) if enabled else None

    @cached_property
    def _cache(self) -> CredentialCache:
        return CredentialCache(StorageTokenService(self.settings))

    async def usage(self, username: str) -> BucketUsage | None:
        """How full a user's own bucket is, if that can be known soon."""
        try:
            return await self.provisioner.usage(bucket_name(self.settings, username))
        except StorageError:  # a name that no bucket can have
            return None

    async def access_token(self, user: Any) -> AccessToken:
        """A token that the storage takes.

        Raises
        ------
        GrantFailure
            If the IAM gives none.
        """
        token: AccessToken = await user.authenticator.broker.access_token(
            user, audience=self.settings.storage.audience
        )
        return token

    async def credentials(self, user: Any) -> Credentials:
        """The storage credentials of JupyterHub's ``User``.

        They may have to be prepared for yet: the storage was away when the server started. A
        user's groups may have changed since: the role follows.

        Raises
        ------
        GrantFailure, StorageError
            If the IAM gives no token, or the storage no credentials; also if it takes longer
            than those who ask wait.
        """
        async with patience(_CREDENTIALS_SECONDS):
            if user.name in self._unprepared:
                await self.prepare(user)
            elif not self.is_prepared(user):
                try:
                    await self.prepare(user)
                except StorageError as error:
                    log.warning("The role of %s is as it was: %s", user.name, error)
            try:
                return await self._credentials(user)
            except StorageError as error:
                if error.reason != "denied":
                    raise
            # No server was ever started, which is what makes the bucket and the role.
            await self.prepare(user)
            return await self._credentials(user)

    def is_prepared(self, user: Any) -> bool:
        """Whether the bucket and role were there, for the groups that the user has now."""
        return self._groups.get(user.name) == groups_of(user)

    def forget(self, username: str) -> None:
        """Drop what is kept by the name of a user who was deleted: somebody else may get it."""
        self._groups.pop(username, None)
        self._unprepared.discard(username)
        self._cache.forget(username)

    async def prepare(self, user: Any) -> None:
        """Make the user's bucket and role, and be sure that they work.

        It is done once for all who ask at the same time, and to its end though they go away.

        Raises
        ------
        GrantFailure, StorageError
            If they can't be had.
        """
        task = self._under_way.get(user.name)
        if task is None:
            task = self._under_way[user.name] = asyncio.create_task(self._prepare(user))
            task.add_done_callback(lambda done: self._prepared(user.name, done))
        await asyncio.shield(task)

    async def _prepare(self, user: Any) -> None:
        if self.provisioner.administers:
            subject, groups = (await self.access_token(user)).subject, groups_of(user)
            await self.provisioner.ensure_user(user.name, subject, await _email(user), groups)
            self._groups[user.name] = groups
            await self._credentials(user)
        else:
            await self.provisioner.ensure_own_bucket(user.name, await self._credentials(user))
            self._groups[user.name] = groups_of(user)

    def _prepared(self, username: str, task: asyncio.Task[None]) -> None:
        del self._under_way[username]
        if not task.cancelled() and not task.exception():
            self._unprepared.discard(username)
        elif username not in self._groups:
            self._unprepared.add(username)

    async def _credentials(self, user: Any) -> Credentials:
        async def token() -> str:
            return (await self.access_token(user)).value

        return await self._cache.get(user.name, token)


def groups_of(user: Any) -> frozenset[str]:
    """The groups that the IAM told of JupyterHub's ``User``."""
    return frozenset(group.name for group in user.groups)


async def _email(user: Any) -> str | None:
    """The address that the IAM told of the user."""
    state = await user.get_auth_state() or {}
    email = state.get(user.authenticator.user_auth_state_key, {}).get("email")
    return email if isinstance(email, str) else None


class HubStorage:
    """The spawner's `ServerStorage` of one user, over the backend and the mount plane."""

    def __init__(self, backend: StorageBackend, user: Any) -> None:
        self._backend = backend
        self._user = user

    async def mounted_for(self, username: str) -> int | None:
        """The uid that the user's directories are mounted for, if they are.

        Raises
        ------
        StorageError
            If the mount plane does not answer.
        """
        try:
            return (await self._backend.mount_plane.status(slug(username))).uid or None
        except MountPlaneError as error:
            raise StorageError(_NO_ANSWER, reason="unreachable") from error

    async def attach(
        self,
        username: str,
        ids: ServerIds,
        report: Callable[[str], None],
        place: str | None = None,
    ) -> Attachment:
        """Mount the workarea; the object storage follows in the attachment's completion.

        Raises
        ------
        StorageError
            If no workarea can be had.
        """
        settings = self._backend.settings
        request = MountRequest(
            username=username,
            slug=slug(username),
            uid=ids.uid,
            gid=ids.uid,
            owner=ids.owner,
            place=place,
            bucket=bucket_name(settings, username),
            scratch_bucket=settings.storage.scratch_bucket,
            workarea_quota=settings.workarea.quota,
            groups=group_mounts(settings, username, groups_of(self._user)),
        )
        prepared = self._backend.is_prepared(self._user)
        confirmation = await self._workarea(request, report)
        report("Mounting your files")
        try:
            status = await self._backend.mount_plane.mount(
                request, workarea_only=True, ahead=not prepared
            )
        except MountPlaneError as error:
            log.exception("The mount plane failed for %s", username)
            raise StorageError(_NO_ANSWER, reason="unreachable") from error
        if not status.workarea_usable:
            raise StorageError(status.fault or "your workarea can't be mounted.")
        expected = prepared and not status.storage_away
        pending = {"TACCUINO_STORAGE_PENDING": "1"} if expected else {}
        return Attachment(
            binds=(
                Bind(status.workarea, "/workarea"),
                Bind(status.cloud_storage, "/workarea/cloud_storage"),
            ),
            environment={**storage_environment(settings, username), **pending},
            completion=lambda: self._mount_object_storage(request),
            confirmation=confirmation,
            expected=expected,
        )

    async def _workarea(
        self, request: MountRequest, report: Callable[[str], None]
    ) -> Callable[[], Awaitable[tuple[str, ...]]] | None:
        """See to it that the workarea is the newest; what confirms that it is."""
        snapshots = self._backend.snapshots
        if snapshots is None:
            return None
        if request.place is not None:  # ready before the storage can answer
            looking = snapshots.look(request)
            return lambda: snapshots.confirm(looking)
        told = await snapshots.arrive(request, report)

        async def confirmed() -> tuple[str, ...]:
            return told

        return confirmed

    async def _mount_object_storage(self, request: MountRequest) -> tuple[str, ...]:
        """Prepare the bucket and mount it; the faults, in sentences for the user.

        Where the bucket can't be prepared, the mount most likely comes later, and the server
        does not wait for it; but the files may also be mounted still.
        """
        if self._backend.is_prepared(self._user):
            mounting = self._begin_mount(request)
            await asyncio.wait({mounting}, timeout=_AFTER_A_FAULT_SECONDS)
            if mounting.done() and mounting.result() == (True, None):
                return ()
        fault: str | None = None
        try:
            async with patience(self._backend.settings.mount_plane.ready_timeout):
                await self._backend.prepare(self._user)
        except (GrantFailure, StorageError) as error:
            log.warning("The bucket of %s is not prepared: %s", request.username, error)
            fault = storage_fault(error)
        mounting = self._begin_mount(request)
        await asyncio.wait({mounting}, timeout=_AFTER_A_FAULT_SECONDS if fault else None)
        if not mounting.done():
            return (fault,) if fault else ()
        mounted, found = mounting.result()
        fault = found if mounted else fault or found
        return (fault,) if fault else ()

    def _begin_mount(self, request: MountRequest) -> asyncio.Task[tuple[bool, str | None]]:
        mounting = asyncio.create_task(self._mount(request))
        _mounting.add(mounting)
        mounting.add_done_callback(_mounting.discard)
        return mounting

    async def _mount(self, request: MountRequest) -> tuple[bool, str | None]:
        """Whether the object storage is mounted, and its fault."""
        try:
            status = await self._backend.mount_plane.mount(request)
        except MountPlaneError as error:
            log.exception("The mount plane failed for %s", request.username)
            return False, storage_fault(error)
        return status.state == "mounted", status.fault

    async def detach(self, username: str, report: Callable[[str], None]) -> None:
        """Wait for the uploads, for a while, and unmount; what is left goes on by itself."""
        plane, name = self._backend.mount_plane, slug(username)
        timeout = self._backend.settings.mount_plane.drain_timeout
        drained = plane.drain(name, timeout, report)
        if snapshots := self._backend.snapshots:
            await asyncio.gather(snapshots.stop(name, report), drained)
        else:
            await drained
        await plane.unmount(name, drain=False)


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Wait for the storage for as long.

    Raises
    ------
    StorageError
        With the reason ``unreachable``, when it takes longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        text = f"the object storage gave no answer within {seconds:g} s"
        raise StorageError(text, reason="unreachable") from None


def refusal(error: TaccuinoError) -> str:
    """Why the storage can't be had, as a clause that a user understands; logs have the rest."""
    if isinstance(error, StorageError):
        return _REFUSALS.get(error.reason, "the object storage answered with an error")
    return "the service that gives access to it failed"


def storage_fault(error: TaccuinoError) -> str:
    """Why ``cloud_storage`` is not there, for its user."""
    if isinstance(error, GrantFailure):
        return f"Your cloud_storage is not connected. {error.user_message}"
    temporary = isinstance(error, StorageError) and error.reason in _TEMPORARY
    mend = "" if temporary else "Please tell the operators of this service. "
    return f"Your cloud_storage is missing: {refusal(error)}. {mend}{_COMES_BACK}"


def server_endpoint(settings: Settings) -> str:
    """The storage's endpoint as notebook servers reach it.

    A loopback address is the host's own, which a container reaches by the edge's name.
    """
    storage = settings.storage
    if storage.server_endpoint:
        return storage.server_endpoint
    parts = urlsplit(storage.endpoint or "")
    if parts.hostname not in _LOOPBACK:
        return storage.endpoint or ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{EDGE_NAME}{port}"))


def storage_environment(settings: Settings, username: str) -> Mapping[str, str]:
    """The variables that AWS SDKs, tools and the examples read in a notebook server."""
    endpoint = server_endpoint(settings)
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ENDPOINT_URL_STS": endpoint,
        "AWS_DEFAULT_REGION": settings.storage.region,
        "TACCUINO_BUCKET": bucket_name(settings, username),
        "TACCUINO_SCRATCH_BUCKET": settings.storage.scratch_bucket,
        "TACCUINO_ROLE_ARN": role_arn(settings, username),
    }
