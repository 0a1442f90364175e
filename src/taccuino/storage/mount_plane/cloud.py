"""One user's object storage: rclone, its mounts, and what waits for its upload."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from taccuino.settings import Settings

from .cache import dirty_files, repair
from .configuration import (
    PROBE,
    Part,
    RcloneError,
    mount_options,
    parts,
    prepare,
    told_proxy,
)
from .conflict_watch import ConflictWatch
from .credentials import CredentialError, CredentialSource
from .directories import Directories
from .faults import explain_storage_error
from .former import upload_former
from .held import restore_before_mount
from .kernel import MountTable, free_mount_point, is_directory_within, is_mount_point
from .layout import Record, UserPaths, node_name
from .limits import ProcessGroup
from .mending import LogTail, mend
from .rclone import Rclone
from .relay import StorageRelay
from .reopening import reopen
from .texts import dirty_texts, keep_apart
from .uploads import FailureReasons, Pending, pending

__all__ = ["CloudMounts"]

log = logging.getLogger(__name__)

_FUSE = "fuse.rclone"
_RETRY_SECONDS = 15.0
_RETRY_SECONDS_A_FILE = 0.2
_SETTLE_SECONDS = 10.0
"""The most that letting go waits for the last uploads to be checked for conflicts."""


class CloudMounts:
    """The mounts below one user's ``cloud_storage``, all of them by one rclone.

    It acts when told to; when that is, `UserMounts` knows. ``lost`` is called when rclone
    ended by itself. ``faults`` are sentences by the name of what is amiss, and ``step`` is
    what a mount waits for.
    """

    def __init__(
        self,
        settings: Settings,
        record: Record,
        credentials: CredentialSource,
        relay: StorageRelay,
        lost: Callable[[], None],
    ) -> None:
        self.faults: dict[str, str] = {}
        self.step = ""
        self._settings = settings
        self._record = record
        self._paths = UserPaths.of(settings, record.request.slug, record.cache)
        self._group = ProcessGroup.of(settings, record.request.slug)
        self._credentials = credentials
        self._relay = relay
        self._lost = lost
        self._rclone: Rclone | None = None
        self._starting = asyncio.Lock()
        self._node = node_name(settings)
        self.conflicts = ConflictWatch(
            settings,
            record.request.username,
            self._paths,
            credentials,
            lambda: self.parts,
            self._node,
        )
        self._directories = Directories(
            settings,
            record.request,
            credentials,
            relay,
            lambda: self._rclone if self.alive else None,
            self._mounted_parts,
        )
        self._reasons = FailureReasons(self._paths.rclone_log)
        self._proxy: str | None = None
        self._watch: asyncio.Task[None] | None = None
        self._mender: asyncio.Task[None] | None = None
        self._kept: list[str] = []
        self._former: list[str] = []
        self._checked = 0.0
        self._waiting = Pending()
        self._log_size = -1
        self._hurried = 0.0
        self._hurrying: asyncio.Task[None] | None = None
        self._unopened: set[str] = set()
        self._reopening = asyncio.Lock()
        self._starts: deque[float] = deque(maxlen=3)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The mounts as they are wanted."""
        return parts(self._record.request, self._paths)

    @property
    def alive(self) -> bool:
        """Whether rclone runs."""
        return self._rclone is not None and not self._rclone.exited.is_set()

    @property
    def _endpoint(self) -> str:
        return self._settings.storage.endpoint or ""

    @property
    def _slug(self) -> str:
        return self._record.request.slug

    # -- rclone comes and goes

    async def adopt(self) -> None:
        """Take up the rclone that an earlier daemon left running."""
        if self._record.rclone:
            found = await Rclone.adopt(
                self._record.rclone, self._paths, self._group, timeout=5.0
            )
            if found:
                # What an earlier rclone left may still wait, and nobody knows of it any more.
                self._unopened = {part.name for part in self.parts}
                self._use(found)
                await self._directories.take_up()
            what = "adopted" if found else "is gone"
            log.info("%s: rclone %d %s", self._slug, self._record.rclone.pid, what)

    def leave(self) -> None:
        """Stop looking after rclone and the mounts; they stay as they are."""
        self.conflicts.stop()
        self._directories.stop()
        for task in (self._watch, self._mender, self._hurrying):
            if task:
                task.cancel()
        if self._rclone:
            self._rclone.release()

    async def stop(self) -> None:
        """Unmount everything and end rclone; what waits for its upload stays in the cache."""
        self.conflicts.stop()
        if self._hurrying:
            self._hurrying.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.conflicts.settle(), _SETTLE_SECONDS)
        async with self._starting:
            await self._unmount()
            rclone, self._rclone, self._record.rclone = self._rclone, None, None
            if rclone:
                await rclone.stop()

    async def let_go(self, former: Collection[Part]) -> None:
        """Unmount what is wanted no more, and leave the rest alone.

        What waits for its upload there is in the cache; see `upload_former`.
        """
        for part in former:
            self._record.proven.discard(part.name)
            self.faults.pop(part.name, None)
            await asyncio.to_thread(free_mount_point, part.target)
            with contextlib.suppress(OSError):
                part.target.rmdir()

    async def start_ahead(self) -> None:
        """Start rclone, which takes most of the time until its first mount."""
        try:
            await self._running()
        except (RcloneError, OSError) as error:  # the mount will tell of it
            log.warning("%s: %s", self._slug, error)

    async def _running(self) -> Rclone:
        """The user's rclone, started if none runs; mounts of a dead one are removed."""
        async with self._starting:
            return await self._started()

    async def _started(self) -> Rclone:
        if self._rclone and not self._rclone.exited.is_set():
            return self._rclone
        self._starts.append(time.monotonic())
        if len(self._starts) == self._starts.maxlen:
            crashing = self._starts[-1] - self._starts[0] < 2 * len(self._starts)
            await asyncio.sleep(3.0 if crashing else 0)
        await self._unmount(lazy=True)
        await asyncio.to_thread(self._open_cache)
        kept = await asyncio.to_thread(repair, self._paths.cache, self._paths.recovered)
        self._keep_aside(kept)
        await asyncio.to_thread(
            prepare,
            *(self._settings, self._record.request, self._paths),
            self._relay.proxy(self._slug),
        )
        rclone = await Rclone.start(self._paths, self._group, self._node, timeout=10.0)
        self._use(rclone)
        self._record.save(self._paths)
        return rclone

    def _use(self, rclone: Rclone) -> None:
        async def watch() -> None:
            await rclone.exited.wait()
            if self._rclone is rclone:
                killed = await asyncio.to_thread(self._group.kills)
                why = f"; its memory limit has killed {killed} process(es)" if killed else ""
                log.warning("%s: rclone %d ended%s", self._slug, rclone.identity.pid, why)
                self._lost()

        self._rclone, self._record.rclone = rclone, rclone.identity
        self._directories.clear()
        self._proxy = told_proxy(self._paths)
        self.conflicts.start()
        self._watch = asyncio.create_task(watch())
        if self._mender:
            self._mender.cancel()
        self._mender = asyncio.create_task(
            mend(
                rclone,
                LogTail(self._paths.rclone_log),
                self._paths,
                self._mounted_parts,
                self._settings.site,
                self._keep_aside,
            )
        )

    def _open_cache(self) -> None:
        if not self._paths.cache.exists() and (left := dirty_texts(self._paths.cache_texts)):
            raise FileNotFoundError(
                f"{left} file(s) wait for their upload in {self._paths.cache}, which is not "
                "there: is its disk mounted?"
            )
        self._paths.cache.mkdir(parents=True, exist_ok=True)
        os.utime(self._paths.cache)  # it is in use; see `CacheBudget.drop_unused`
        keep_apart(self._paths.cache, self._paths.cache_texts)

    def _keep_aside(self, names: list[str]) -> None:
        """Tell of what could be neither uploaded nor thrown away."""
        self._kept += [
            f"{name} could not be put together after a crash; an administrator finds what "
            f"there is of it in {self._paths.recovered}."
            for name in names
        ]

    async def _unmount(self, *, lazy: bool = False) -> None:
        table = await asyncio.to_thread(MountTable.read)
        for entry in table.below(self._paths.cloud_storage):
            await asyncio.to_thread(free_mount_point, entry.path, 0 if lazy else 3.0)

    # -- the mounts

    async def ensure(self) -> None:
        """Mount what the storage gives access to; `faults` tells what is missing."""
        try:
            faults = await self._mount()
        except (RcloneError, OSError) as error:
            log.warning("%s: %s", self._slug, error)
            faults = {"rclone": f"cloud_storage can't be mounted ({error})."}
        finally:
            self.step = ""
        self.faults = faults
        self._checked = time.monotonic()
        if self._rclone and self.alive and not faults:
            # What waits for a group's bucket that may only be read by now is told of, too.
            written = [part for part in self.parts if not part.read_only]
            self._former = await upload_former(self._rclone, written, self._paths.cache)
        for fault in faults.values():
            log.warning("%s: %s", self._slug, fault)

    async def _mount(self) -> dict[str, str]:
        """Mount each part that the storage gives access to; the faults of the others."""
        faults: dict[str, str] = {}
        self.step = "asking the hub for storage credentials"
        try:
            await self._credentials.get(self._record.request.username)
        except CredentialError as error:
            faults["credentials"] = str(error)
            if not self._record.proven:
                return faults
        self.step = "starting rclone"
        rclone = await self._running()
        self.step = f"waiting for the object storage at {self._endpoint}"
        limit = self._settings.mount_plane.ready_timeout * 0.4
        table = await asyncio.to_thread(MountTable.read)
        found = await asyncio.gather(
            *(self._ensure_part(rclone, part, table, limit) for part in self.parts)
        )
        refused = {
            part.name: fault for part, fault in zip(self.parts, found, strict=True) if fault
        }
        # Without new credentials those that rclone still has may do.
        return (faults or refused) if refused else {}

    async def _ensure_part(
        self, rclone: Rclone, part: Part, table: MountTable, limit: float
    ) -> str | None:
        """Mount a part if its storage answers, and prove it; the fault, if there is one.

        One that was proven before is mounted also while the storage is away: its cache may
        hold what the user wrote.
        """
        fault = await self._probe(rclone, part, limit)
        if fault and part.name not in self._record.proven:
            return fault
        if not self.is_mounted(table, part):
            await asyncio.to_thread(free_mount_point, part.target)
            if fault is None:
                await self._put_together(rclone, part, limit)
            self._unopened.add(part.name)
            seconds = self._directories.listing_seconds
            options = mount_options(self._settings, self._record.request, part, seconds)
            await rclone.call("mount/mount", **options)
        if not await asyncio.to_thread(is_mount_point, part.target):
            return f"{part.title}: it could not be mounted."
        if not await is_directory_within(part.target, 5.0):
            return f"{part.title}: its mount does not answer."
        await self._reopen(rclone, part)
        self._record.proven.add(part.name)
        return fault

    async def _put_together(self, rclone: Rclone, part: Part, limit: float) -> None:
        try:
            await restore_before_mount(rclone, part, self._paths, limit)
        except (RcloneError, OSError) as error:
            log.warning("%s: %s; what is held is tried again", part.target, error)

    async def _reopen(self, rclone: Rclone, part: Part) -> bool:
        """Open what an earlier rclone left to upload; whether none is left to open."""
        async with self._reopening:
            unopened = part.name in self._unopened
            if unopened and (part.read_only or not await reopen(rclone, part)):
                self._unopened.discard(part.name)
            return part.name not in self._unopened

    async def _probe(self, rclone: Rclone, part: Part, limit: float) -> str | None:
        """Whether the storage answers and gives access: one listing of next to nothing."""
        try:
            await rclone.call("operations/list", limit, fs=part.probe, remote=PROBE)
        except RcloneError as error:
            if rclone.exited.is_set():
                raise
            return explain_storage_error(str(error), part.title, self._endpoint)
        return None

    # -- looking

    def is_mounted(self, table: MountTable, part: Part) -> bool:
        """Whether a part is mounted and has its rclone."""
        entry = table.at(part.target) if self.alive else None
        return entry is not None and entry.kind == _FUSE

    async def found_fault(self, table: MountTable) -> bool:
        """Ask the storage itself where no relay does; whether a cut was found."""
        if self._relay.wanted:
            return False
        part = self.parts[0]
        rclone = self._rclone
        if rclone is None or not self.is_mounted(table, part):
            return False
        if time.monotonic() - self._checked < self._settings.mount_plane.ready_timeout / 2:
            return False
        self._checked = time.monotonic()
        try:
            fault = await self._probe(rclone, part, 5.0)
        except RcloneError:
            return False  # it just died, and the keeper knows
        if fault is None:
            self.faults.pop(part.name, None)
            return False
        self.faults[part.name] = fault
        return True

    async def pending(self) -> Pending:
        """What waits for its upload."""
        if self._rclone is None or not self.alive:
            return Pending(await asyncio.to_thread(dirty_files, self._paths.cache))
        return await pending(self._rclone, await self._mounted_parts(), self._paths.cache)

    async def look(self) -> Pending:
        """What waits for its upload; rclone is asked only if its log tells of uploads.

        rclone waits ever longer before it tries a failed upload again, five minutes in the
        end. While the storage answers, what it refused is tried again sooner, so that an
        upload goes on soon after what was in its way is gone. That is not waited for: a
        directory that is slow to open would hold up the look at all other users.
        """
        await self._follow_relay()
        try:
            size = self._paths.rclone_log.stat().st_size
        except FileNotFoundError:
            size = 0
        if size != self._log_size or self._waiting.files:
            self._log_size = size
            self._waiting = await self.pending()
        failing, now = len(self._waiting.failing), time.monotonic()
        pause = max(_RETRY_SECONDS, failing * _RETRY_SECONDS_A_FILE)
        waits = failing or self._unopened
        hurries = self._hurrying is not None and not self._hurrying.done()
        if waits and self._relay.available and now - self._hurried > pause and not hurries:
            self._hurrying = asyncio.create_task(self._hurry())
        return self._waiting

    async def _hurry(self) -> None:
        try:
            await self.hurry_uploads()
        except Exception:
            log.exception("%s: what waits for its upload", self._slug)

    async def _follow_relay(self) -> None:
        """End an rclone that knows another way to the storage; it is started anew.

        The relay has another port after its own was taken while it was dead.
        """
        rclone = self._rclone
        if rclone and self.alive and self._proxy != self._relay.proxy(self._slug):
            log.warning("%s: rclone is started anew, since the relay has moved", self._slug)
            self._proxy = self._relay.proxy(self._slug)
            await rclone.stop()

    def told_conflicts(self) -> list[dict[str, Any]]:
        """The conflict copies, as the status file tells them."""
        return [asdict(conflict) for conflict in self.conflicts.conflicts]

    def told_faults(self) -> list[str]:
        """What is amiss; one sentence for all mounts if the object storage is away."""
        if self._relay.available or not self._record.proven:
            return list(self.faults.values())
        away = (
            f"The object storage at {self._endpoint} can't be reached. What you save in "
            "cloud_storage is kept on this machine and uploaded when it is back."
        )
        return [away, *(self.faults[name] for name in ("credentials",) if name in self.faults)]

    async def hurry_uploads(self) -> None:
        """Begin at once whatever waits for its upload."""
        self._hurried = time.monotonic()
        rclone = self._rclone
        if rclone is None or not self.alive:
            return
        for part in await self._mounted_parts():
            try:
                opened = await self._reopen(rclone, part)
                if (opened or not self._record.wanted) and not part.read_only:
                    await rclone.upload_now(part.vfs)
            except RcloneError as error:  # `look` sees to the rest of it
                log.warning("%s: %s", part.target, error)

    async def upload_errors(self, waiting: Pending) -> list[str]:
        """A sentence for each file that can't be uploaded."""
        failing = await self._reasons.explain(waiting, self._endpoint)
        return [*self._kept, *self._former, *failing]

    async def _mounted_parts(self) -> list[Part]:
        table = await asyncio.to_thread(MountTable.read)
        return [part for part in self.parts if self.is_mounted(table, part)]
