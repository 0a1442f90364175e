"""All users' mounts on this node, and what survives the daemon's own restart."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time

from taccuino.naming import slug as slug_of
from taccuino.settings import Settings
from taccuino.storage.mount_client import PLACES, MountPlaneError, MountRequest, MountStatus

from .cache_budget import CacheBudget
from .configuration import rclone_binary
from .credentials import CredentialError, CredentialSource
from .kernel import (
    MountTable,
    MountWatch,
    make_private_directory,
    make_shared_directory,
    unmount,
)
from .layout import Record, UserPaths, read_records, users_directory
from .relay import StorageRelay
from .snapshots import Snapshots
from .user import UserMounts

__all__ = ["MountPlane"]

log = logging.getLogger(__name__)

_LONGEST_SOCKET = 107
_SETTLE_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_SWEEP_SECONDS = 3600.0
_BUDGET_SECONDS = 60.0
_DISK_SECONDS = 0.5
"""A fast disk takes in 250 MB in this time; see `configuration.least_free`."""
_NOTHING_TO_DROP_SECONDS = 5.0


class MountPlane:
    """Holds a `UserMounts` for each user with something mounted or still uploading."""

    def __init__(self, settings: Settings, credentials: CredentialSource) -> None:
        self._settings = settings
        self._credentials = credentials
        self._relay = StorageRelay(settings, os.environ)
        self.started = asyncio.Event()
        self._users: dict[str, UserMounts] = {}
        self.snapshots = Snapshots(
            settings, credentials, lambda: not self._relay.available, lambda: self._users
        )
        self._watch: MountWatch | None = None
        self._budget = CacheBudget(settings)
        self._sweeper: asyncio.Task[None] | None = None
        self._budgeter: asyncio.Task[None] | None = None
        self._looker: asyncio.Task[None] | None = None
        self._table: MountTable | None = None
        self._news = asyncio.Event()
        self._settling: asyncio.TimerHandle | None = None

    async def load(self) -> None:
        """Share the mount directory and read what an earlier daemon wrote down."""
        plane = self._settings.mount_plane
        assert plane.directory is not None
        assert plane.cache_directory is not None
        self._check_lengths()
        await asyncio.to_thread(make_private_directory, users_directory(self._settings))
        await asyncio.to_thread(make_private_directory, plane.cache_directory)
        await asyncio.to_thread(self._budget.put_back)
        await asyncio.to_thread(make_shared_directory, plane.directory)
        records, faults = await asyncio.to_thread(read_records, self._settings)
        for fault in faults:
            log.error("%s", fault)
        for record in records:
            user = self._user(record)
            self._users[user.slug] = user

    def _user(self, record: Record) -> UserMounts:
        return UserMounts(
            self._settings,
            record,
            self._credentials,
            self._relay,
            born=self.snapshots.born,
        )

    async def start(self) -> None:
        """Take up what an earlier daemon left running; credentials must be served by now."""
        await self._relay.start()
        self._watch = MountWatch(self._mounts_changed)
        self._sweeper = asyncio.create_task(self._sweep())
        self._budgeter = asyncio.create_task(self._keep_budget())
        self._looker = asyncio.create_task(self._keep_looking())
        self._relay.changed.append(self._storage_changed)
        await asyncio.gather(*(user.adopt() for user in self._users.values()))
        await self.snapshots.start()
        self.started.set()

    async def stop(self) -> None:
        """Leave all mounts and their rclone as they are; a later daemon takes them up."""
        for task in (self._sweeper, self._budgeter, self._looker):
            if task:
                task.cancel()
        if self._settling:
            self._settling.cancel()
        if self._watch:
            self._watch.close()
        await self.snapshots.stop()
        used = any(user.cloud.alive for user in self._users.values())
        await asyncio.gather(*(user.leave() for user in self._users.values()))
        await self._relay.stop(leave=used)
        directory = self._settings.mount_plane.directory
        assert directory is not None
        table = await asyncio.to_thread(MountTable.read)
        places = directory / PLACES
        # What is mounted anew would not appear in servers that wait at their places.
        waited_at = places.is_dir() and any(places.iterdir())
        if not table.below(directory) and not waited_at:
            with contextlib.suppress(OSError):  # in use; it does no harm
                await asyncio.to_thread(unmount, directory)

    async def mount(
        self, request: MountRequest, *, workarea_only: bool, ahead: bool = False
    ) -> MountStatus:
        """Mount what the user's servers need; see `UserMounts.mount`."""
        user = self._users.get(request.slug)
        if user is None:
            user = self._users[request.slug] = self._user(Record(request))
        return await user.mount(request, workarea_only=workarea_only, ahead=ahead)

    async def status(self, slug: str) -> MountStatus:
        """How the user's mounts are."""
        user = self._users.get(slug)
        return await user.status() if user else self._absent(slug)

    @property
    def users(self) -> int:
        """How many users have mounts or pending uploads."""
        return sum(not user.is_gone for user in self._users.values())

    async def list(self) -> list[MountStatus]:
        """The statuses of all users with mounts or pending uploads."""
        statuses = await asyncio.gather(*(user.status() for user in self._users.values()))
        return [status for status in statuses if status.state != "absent"]

    async def drain(self, slug: str, timeout: float) -> MountStatus:
        """Wait for the user's uploads."""
        user = self._users.get(slug)
        return await user.drain(timeout) if user else self._absent(slug)

    async def release(self, slug: str, *, drain: bool) -> MountStatus:
        """Let go of the user's mounts; uploads that are not done go on in the background."""
        user = self._users.get(slug)
        if user is None:
            return self._absent(slug)
        self.snapshots.left(slug)
        status = await user.release(self._settings.mount_plane.drain_timeout if drain else 0)
        self._drop_gone()
        return status

    async def credentials(self, slug: str) -> dict[str, object] | None:
        """What rclone's ``credential_process`` is told; None for an unknown user."""
        user = self._users.get(slug)
        if user is None:
            return None
        try:
            credentials = await self._credentials.get(user.request.username)
        except CredentialError as error:
            user.credentials_refused(str(error))
            raise
        return self._credentials.as_process_json(credentials)

    def _absent(self, slug: str) -> MountStatus:
        paths = UserPaths.of(self._settings, slug)
        return MountStatus(slug, "absent", paths.workarea, paths.cloud_storage)

    def _check_lengths(self) -> None:
        """A unix socket's path has a limit (unix(7)); say so before it fails obscurely."""
        rclone_binary()
        longest = UserPaths.of(self._settings, slug_of("x" * 64)).rclone_socket
        if len(str(longest)) > _LONGEST_SOCKET:
            raise MountPlaneError(
                f"state_dir {self._settings.state_dir}: {longest} would be longer than the "
                f"{_LONGEST_SOCKET} characters of a socket's path; choose a shorter one"
            )

    def _mounts_changed(self) -> None:
        """Wait for a burst of changes to end (each container's start makes dozens)."""
        self._table = None
        if self._settling is None:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(_SETTLE_SECONDS, self._look)

    def _look(self) -> None:
        self._settling = None
        table = MountTable.read()
        for user in self._users.values():
            user.mounts_changed(table)

    def _storage_changed(self) -> None:
        for user in self._users.values():
            user.storage_changed()
        self._news.set()

    async def _keep_looking(self) -> None:
        """Keep all users' status files up to date."""
        while True:
            try:
                await self._look_at_all()
            except Exception:
                log.exception("the users' status files")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _LOOK_SECONDS)
            self._news.clear()

    async def _look_at_all(self) -> None:
        # Kept for as long as the kernel tells of no change.
        table = self._table = self._table or MountTable.read()
        for user in list(self._users.values()):
            try:
                await user.look(table)
            except Exception:  # whatever one user's is, the others' go on
                log.exception("%s: its status file", user.slug)

    def _drop_gone(self) -> None:
        self._users = {slug: user for slug, user in self._users.items() if not user.is_gone}

    async def _sweep(self) -> None:
        """Now and then drop users who are gone, and caches nobody used for a day."""
        while True:
            self._drop_gone()
            try:
                await asyncio.to_thread(self._budget.drop_unused, lambda: self._users)
            except Exception:
                log.exception("the caches that nobody uses")
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _keep_budget(self) -> None:
        """Hold the caches to their limits, at once where the disk runs full."""
        checked = 0.0
        while True:
            pause = _DISK_SECONDS
            try:
                due = time.monotonic() - checked > _BUDGET_SECONDS
                short = await asyncio.to_thread(self._budget.short)
                if due or short > 0:
                    checked = time.monotonic()
                    mounted = [slug for slug, user in self._users.items() if not user.is_gone]
                    freed = await asyncio.to_thread(self._budget.enforce, mounted)
                    pause = pause if freed else _NOTHING_TO_DROP_SECONDS
                full = short > 0 and await asyncio.to_thread(self._budget.is_full)
                for user in self._users.values():
                    user.cache_is_full = full
            except OSError:
                log.exception("the caches' limits could not be looked after")
            await asyncio.sleep(pause)
