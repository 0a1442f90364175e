"""One user's mounts: brought to the wanted state, watched, healed, drained and let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest, MountState, MountStatus

from . import view, workarea
from .cache import dirty_files
from .cloud import CloudMounts
from .completion import completed
from .configuration import RcloneError
from .credentials import CredentialSource
from .kernel import MountTable, is_mount_point, make_private_directory
from .layout import Record, UserPaths, boot_id, forget
from .relay import StorageRelay
from .status_file import StatusFile
from .uploads import Pending

__all__ = ["UserMounts"]

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0
_POLL_SECONDS = 0.2
_LONGEST_POLL_SECONDS = 5.0
_LETTING_GO_SECONDS = 15.0
_STUCK_SECONDS = 10.0
"""When all uploads that are left fail for this long, a stop waits no longer for them."""


_CACHE_FULL = (
    "The cache on this machine is full: what is saved in cloud_storage is refused until what "
    "waits has been uploaded. What was saved is kept."
)


class UserMounts:
    """Keeps one user's mounts as they are wanted.

    A task of its own (`_keep`) runs for as long as anything of the user's is mounted: it
    tries again what failed, starts rclone anew when it died, and after the last server
    stopped waits for the uploads before it lets go. `_lock` is held by whatever changes
    mounts.
    """

    def __init__(
        self,
        settings: Settings,
        record: Record,
        credentials: CredentialSource,
        relay: StorageRelay,
        born: Callable[[MountRequest], Awaitable[None]],
    ) -> None:
        self.slug = record.request.slug
        self.paths = UserPaths.of(settings, self.slug, record.cache)
        record.cache = self.paths.cache
        self._gone = asyncio.Event()
        self._settings = settings
        self._relay = relay
        self._born = born
        self._record = record
        self._credentials = credentials
        self._keeper: asyncio.Task[None] | None = None
        self._ahead: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._poke = asyncio.Event()
        self._faults: dict[str, str] = {}
        self.cache_is_full = False
        self._step = ""
        self._status_file = StatusFile(self.paths.cloud_storage)
        self.cloud = CloudMounts(settings, record, credentials, relay, self._poke.set)

    @property
    def request(self) -> MountRequest:
        """What is mounted."""
        return self._record.request

    @property
    def _doing(self) -> str:
        steps = [step for step in (self._step, self.cloud.step) if step]
        return "; ".join(steps) or "waiting for an earlier request"

    @property
    def _all_faults(self) -> list[str]:
        return [*self._faults.values(), *self.cloud.told_faults()]

    @property
    def is_wanted(self) -> bool:
        """Whether a server may use the mounts."""
        return self._record.wanted and not self._gone.is_set()

    @property
    def is_gone(self) -> bool:
        """Whether nothing is mounted, nothing waits for its upload, and nobody wants it."""
        return self._gone.is_set() and not self._record.wanted

    # -- what the API asks for

    async def mount(
        self, request: MountRequest, *, workarea_only: bool, ahead: bool = False
    ) -> MountStatus:
        """Mount what is missing; answers within ``ready_timeout``, usable or not."""
        self._record.wanted = True
        if ahead:
            self._ahead = asyncio.create_task(self._start_ahead())
        work = asyncio.create_task(self._reconcile(request, workarea_only=workarea_only))
        limit = self._settings.mount_plane.ready_timeout
        _, late = await asyncio.wait({work}, timeout=limit)
        self._start_keeper()
        if late or self._all_faults:
            self._poke.set()
        if not late:
            work.result()
            return await self.look(await self._table()) or await self.status()
        # It goes on; the keeper's next turn waits for it.
        work.add_done_callback(_report)
        return await self.status(f"Not ready within {limit:g} s: {self._doing}.")

    async def drain(self, timeout: float) -> MountStatus:
        """Wait until all uploads are done, at most ``timeout`` seconds.

        rclone queues a file some time after it was closed, and not while it is open; so the
        cache itself has the last word.
        """
        deadline = time.monotonic() + timeout
        await self.cloud.hurry_uploads()
        while True:
            left = (await self.cloud.pending()).files
            left = left or await asyncio.to_thread(dirty_files, self.paths.cache)
            if not left or time.monotonic() >= deadline:
                return replace(await self.status(), uploads_pending=left)
            await asyncio.sleep(_POLL_SECONDS)

    async def release(self, timeout: float) -> MountStatus:
        """Let go of everything, when the uploads are done; waits at most ``timeout``."""
        self._record.wanted = False
        async with self._lock:
            if self._record.wanted:  # mounted again in the meantime
                return await self.status()
            await self._let_go_of_workarea()
            self._record.request = replace(self.request, place=None)
            self._record.save(self.paths)
        self._start_keeper()
        self._poke.set()
        started = time.monotonic()
        while not await self._is_gone_within(_POLL_SECONDS):
            waiting, waited = await self.cloud.pending(), time.monotonic() - started
            stuck = 0 < waiting.files <= len(waiting.failing) and waited > _STUCK_SECONDS
            if stuck or waited > (timeout if waiting.files else _LETTING_GO_SECONDS):
                break
        return await self.status()

    async def status(self, fault: str | None = None) -> MountStatus:
        """How the mounts are now; ``fault`` is added to those that are known."""
        return await self._status(await self._table(), await self.cloud.pending(), fault)

    async def _table(self) -> MountTable:
        """The kernel's mounts; without rclone, none of the user's is to be looked for there."""
        return await asyncio.to_thread(MountTable.read) if self.cloud.alive else MountTable("")

    async def _status(
        self, table: MountTable, waiting: Pending, fault: str | None = None
    ) -> MountStatus:
        area = view.path_of(self.paths, self.request)
        usable = is_mount_point(area)
        full = [_CACHE_FULL] if self.cache_is_full else []
        faults = [*([fault] if fault else []), *full, *self._all_faults]
        state: MountState = "failed"
        if self._gone.is_set():
            state = "absent"
        elif not self._record.wanted:
            state = "draining"
        elif usable and self.cloud.is_mounted(table, self.cloud.parts[0]):
            state = "mounted"
        elif not faults:
            faults = [f"Your cloud_storage is not connected yet: {self._doing}."]
        return MountStatus(
            slug=self.slug,
            state=state,
            workarea=area,
            cloud_storage=self.paths.cloud_storage,
            workarea_usable=usable,
            uploads_pending=waiting.files,
            upload_errors=await self.cloud.upload_errors(waiting),
            fault=" ".join(faults) or None,
            username=self.request.username,
            uid=0 if state == "absent" else self.request.uid,
            storage_away=not self._relay.available,
        )

    # -- for the plane

    async def adopt(self) -> None:
        """Take up what an earlier daemon left: its rclone, and what was wanted."""
        if self._record.boot != boot_id():
            self._record.rclone, self._record.wanted = None, False
            self._record.boot = boot_id()
            self._record.request = replace(self.request, place=None)
        await self.cloud.adopt()
        self._start_keeper()
        self._poke.set()

    def mounts_changed(self, table: MountTable) -> None:
        """Look whether a mount went away that should be there."""
        if self._record.wanted and not self._lock.locked():
            expected = [part for part in self.cloud.parts if part.name in self._record.proven]
            if not all(self.cloud.is_mounted(table, part) for part in expected):
                self._poke.set()

    async def look(self, table: MountTable) -> MountStatus | None:
        """Bring the status file up to date; a stat(2) as long as nothing happens.

        It answers with what it told, if there is anything to tell of.
        """
        if self._gone.is_set():
            return None
        status = await self._status(table, await self.cloud.look())
        if not self._gone.is_set():
            self._status_file.write(status, self.cloud.told_conflicts())
        return status

    def storage_changed(self) -> None:
        """The object storage went away or came back: in the latter case nothing waits."""
        self._poke.set()

    def credentials_refused(self, fault: str) -> None:
        """Tell that rclone got no credentials; the keeper asks until there are some."""
        if "credentials" not in self.cloud.faults:
            self.cloud.faults["credentials"] = fault
            self._poke.set()

    async def leave(self) -> None:
        """Stop looking after the mounts; they and rclone stay as they are."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self.cloud.leave()

    async def _is_gone_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), seconds)
        return self._gone.is_set()

    # -- the keeper

    def _start_keeper(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
            self._keeper.add_done_callback(_report)

    async def _keep(self) -> None:
        pause = 1.0
        while not self._gone.is_set():
            well = self._record.wanted and not self._all_faults
            if await self._poked(_LONGEST_PAUSE if well else pause):
                pause = 1.0
            elif well and not self._all_faults:
                table = await asyncio.to_thread(MountTable.read)
                self.mounts_changed(table)
                if not await self.cloud.found_fault(table):
                    continue
            pause = min(pause * 2, _LONGEST_PAUSE)
            try:
                if self._record.wanted:
                    await self._reconcile(self._record.request)
                else:
                    await self._finish()
            except (OSError, RcloneError) as error:
                log.exception("%s: tried again in %g s", self.slug, pause)
                self._faults["keeper"] = f"The mount plane met an error ({error})."
            else:
                self._faults.pop("keeper", None)

    async def _poked(self, seconds: float) -> bool:
        """Wait until something happened that matters to the keeper; False if nothing did."""
        try:
            await asyncio.wait_for(self._poke.wait(), seconds)
        except TimeoutError:
            return False
        self._poke.clear()
        return True

    async def _finish(self) -> None:
        """Wait for the uploads of a user without servers, then let go."""
        if not self.cloud.alive and await asyncio.to_thread(dirty_files, self.paths.cache) > 0:
            await self._reconcile_cloud_only()
        await self.cloud.hurry_uploads()
        wait = _POLL_SECONDS
        while (await self.cloud.pending()).files:
            if self._record.wanted or self._poke.is_set() or not self.cloud.alive:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), wait)
            wait = min(wait * 1.2, _LONGEST_POLL_SECONDS)
        async with self._lock:
            if not self._record.wanted:
                await self._let_go()

    async def _let_go(self) -> None:
        await self.cloud.stop()
        if left := await asyncio.to_thread(dirty_files, self.paths.cache):
            log.warning("%s: %d file(s) are still to be uploaded", self.slug, left)
            self._record.save(self.paths)
            return
        await self._let_go_of_workarea()
        self._record.proven.clear()
        self._status_file.remove()
        self._faults.clear()
        self.cloud.faults.clear()
        inner = self.paths.cloud_storage.glob("*")
        outer = [self.paths.workarea, self.paths.cloud_storage, self.paths.root]
        for directory in (*inner, *outer):
            with contextlib.suppress(OSError):
                directory.rmdir()
        forget(self.paths)
        self._credentials.forget(self.request.username)
        self._gone.set()
        log.info("%s: unmounted", self.slug)

    # -- towards the wanted state

    async def _reconcile(self, request: MountRequest, *, workarea_only: bool = False) -> None:
        async with self._lock:
            if not self._record.wanted:
                return
            self._gone.clear()
            if request.place is None and request.uid == self.request.uid:
                # Another server of the user's has the place still.
                request = replace(request, place=self.request.place)
            if request != self._record.request:
                await self._replace(request)
            await asyncio.to_thread(self._make_directories)
            if workarea_only:
                await self._ensure_workarea()
            else:
                await asyncio.gather(self._ensure_workarea(), self.cloud.ensure())
                await self.cloud.hurry_uploads()
            self._record.save(self.paths)

    async def _start_ahead(self) -> None:
        """Start rclone while the workarea is mounted."""
        await asyncio.to_thread(self._make_directories)
        await self.cloud.start_ahead()

    async def _reconcile_cloud_only(self) -> None:
        async with self._lock:
            await asyncio.to_thread(self._make_directories)
            await self.cloud.ensure()
            self._record.save(self.paths)

    async def _replace(self, request: MountRequest) -> None:
        """Take down what was mounted for other ids, buckets, groups or sizes."""
        before = self.cloud.parts
        old, self._record.request = self._record.request, request
        same_ids = (old.uid, old.gid) == (request.uid, request.gid)
        if not same_ids or old.place != request.place:
            await asyncio.to_thread(view.detach, self.paths, old)
        if old.owner != request.owner:
            async with workarea.lock_of(self.paths):
                await completed(asyncio.to_thread(workarea.detach, self.paths))
        buckets = (request.bucket, request.scratch_bucket)
        if same_ids and (old.bucket, old.scratch_bucket) == buckets:
            await self.cloud.let_go(set(before) - set(self.cloud.parts))
            return
        await self.cloud.stop()
        self._record.proven.clear()

    def _make_directories(self) -> None:
        make_private_directory(self.paths.private)
        self.paths.root.mkdir(mode=0o711, exist_ok=True)
        self.paths.cloud_storage.mkdir(mode=0o755, exist_ok=True)

    async def _ensure_workarea(self) -> None:
        request = self.request
        self._step = "mounting the workarea"
        try:
            async with workarea.lock_of(self.paths):
                if not (self.paths.image.exists() or self.paths.plain_area.exists()):
                    await self._born(request)
                await completed(asyncio.to_thread(self._attach_workarea, request))
        except workarea.WorkareaError as error:
            self._faults["workarea"] = str(error)
        else:
            self._faults.pop("workarea", None)
        finally:
            self._step = ""

    def _attach_workarea(self, request: MountRequest) -> None:
        workarea.ensure(self.paths, request.owner, request.owner, request.quota_bytes)
        view.attach(self.paths, request)

    async def _let_go_of_workarea(self) -> None:
        async with workarea.lock_of(self.paths):
            await completed(asyncio.to_thread(self._detach_workarea))

    def _detach_workarea(self) -> None:
        view.detach(self.paths, self.request)
        workarea.detach(self.paths)


def _report(task: asyncio.Task[None]) -> None:
    """Log a background task's error, which nobody awaits."""
    if not task.cancelled() and (error := task.exception()):
        log.error("a background task failed", exc_info=error)
