"""One user's mounts: brought to the wanted state, watched, healed, drained and let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from dataclasses import replace

from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest, MountState, MountStatus

from . import workarea
from .cache import dirty_files, repair
from .configuration import Part, RcloneError, mount_options, parts, prepare
from .credentials import CredentialError, CredentialSource
from .faults import explain_storage_error
from .kernel import (
    MountTable,
    free_mount_point,
    is_directory_within,
    make_private_directory,
)
from .layout import Record, UserPaths, boot_id, forget
from .rclone import Rclone
from .uploads import Pending, explain, hurry, pending

__all__ = ["UserMounts"]

log = logging.getLogger(__name__)

_FUSE = "fuse.rclone"
_PROBE = ".taccuino-probe"
_LONGEST_PAUSE = 30.0
_POLL_SECONDS = 0.2
_LONGEST_POLL_SECONDS = 5.0
_LETTING_GO_SECONDS = 15.0
_STUCK_SECONDS = 10.0
"""When all uploads that are left fail for this long, a stop waits no longer for them."""


class UserMounts:
    """Keeps one user's mounts as they are wanted.

    A task of its own (`_keep`) runs for as long as anything of the user's is mounted: it
    tries again what failed, starts rclone anew when it died, and after the last server
    stopped waits for the uploads before it lets go. `_lock` is held by whatever changes
    mounts.
    """

    def __init__(
        self, settings: Settings, record: Record, credentials: CredentialSource
    ) -> None:
        self.slug = record.request.slug
        self.paths = UserPaths.of(settings, self.slug)
        self._gone = asyncio.Event()
        self._settings = settings
        self._record = record
        self._credentials = credentials
        self._rclone: Rclone | None = None
        self._watch: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._poke = asyncio.Event()
        self._faults: dict[str, str] = {}
        self._steps: dict[str, str] = {}
        self._kept: list[str] = []
        self._checked = 0.0
        self._starts: deque[float] = deque(maxlen=3)

    @property
    def request(self) -> MountRequest:
        """What is mounted."""
        return self._record.request

    @property
    def _endpoint(self) -> str:
        return self._settings.storage.endpoint or ""

    @property
    def _doing(self) -> str:
        return "; ".join(self._steps.values()) or "waiting for an earlier request"

    @property
    def is_gone(self) -> bool:
        """Whether nothing is mounted, nothing waits for its upload, and nobody wants it."""
        return self._gone.is_set() and not self._record.wanted

    # -- what the API asks for

    async def mount(self, request: MountRequest, *, workarea_only: bool) -> MountStatus:
        """Mount what is missing; answers within ``ready_timeout``, usable or not."""
        self._record.wanted = True
        work = asyncio.create_task(self._reconcile(request, workarea_only=workarea_only))
        limit = self._settings.mount_plane.ready_timeout
        _, late = await asyncio.wait({work}, timeout=limit)
        self._start_keeper()
        if late or self._faults:
            self._poke.set()
        if not late:
            work.result()
            return await self.status()
        # It goes on; the keeper's next turn waits for it.
        work.add_done_callback(_report)
        return await self.status(f"Not ready within {limit:g} s: {self._doing}.")

    async def drain(self, timeout: float) -> MountStatus:
        """Wait until all uploads are done, at most ``timeout`` seconds.

        rclone queues a file some time after it was closed, and not while it is open; so the
        cache itself has the last word.
        """
        deadline = time.monotonic() + timeout
        await self._hurry_uploads()
        while True:
            left = (await self._pending()).files
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
            self._record.save(self.paths)
            await asyncio.to_thread(workarea.detach, self.paths)
        self._start_keeper()
        self._poke.set()
        started = time.monotonic()
        while not await self._is_gone_within(_POLL_SECONDS):
            waiting, waited = await self._pending(), time.monotonic() - started
            stuck = waited > _STUCK_SECONDS and len(waiting.failing) >= waiting.files
            if stuck or waited > (timeout if waiting.files else _LETTING_GO_SECONDS):
                break
        return await self.status()

    async def status(self, fault: str | None = None) -> MountStatus:
        """How the mounts are now; ``fault`` is added to those that are known."""
        table = await asyncio.to_thread(MountTable.read)
        usable = table.at(self.paths.workarea) is not None
        waiting = await self._pending()
        if self._record.wanted and not self._lock.locked():
            await self._check_health(table)
        faults = [*([fault] if fault else []), *self._faults.values()]
        state: MountState = "failed"
        if self._gone.is_set():
            state = "absent"
        elif not self._record.wanted:
            state = "draining"
        elif usable and self._is_mounted(table, self._parts[0]):
            state = "mounted"
        elif not faults:
            faults = [f"Your cloud_storage is not connected yet: {self._doing}."]
        return MountStatus(
            slug=self.slug,
            state=state,
            workarea=self.paths.workarea,
            cloud_storage=self.paths.cloud_storage,
            workarea_usable=usable,
            uploads_pending=waiting.files,
            upload_errors=[
                *self._kept,
                *await explain(waiting, self.paths.rclone_log, self._endpoint),
            ],
            fault=" ".join(faults) or None,
            username=self.request.username,
        )

    # -- for the plane

    async def adopt(self) -> None:
        """Take up what an earlier daemon left: its rclone, and what was wanted."""
        if self._record.boot != boot_id():
            self._record.rclone, self._record.wanted = None, False
            self._record.boot = boot_id()
        if self._record.rclone:
            found = await Rclone.adopt(self._record.rclone, self.paths, timeout=5.0)
            if found:
                self._use(found)
            what = "adopted" if found else "is gone"
            log.info("%s: rclone %d %s", self.slug, self._record.rclone.pid, what)
        self._start_keeper()
        self._poke.set()

    def mounts_changed(self, table: MountTable) -> None:
        """Look whether a mount went away that should be there."""
        if self._record.wanted and not self._lock.locked():
            expected = [part for part in self._parts if part.name in self._record.proven]
            if not all(self._is_mounted(table, part) for part in expected):
                self._poke.set()

    async def leave(self) -> None:
        """Stop looking after the mounts; they and rclone stay as they are."""
        for task in (self._keeper, self._watch):
            if task:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._rclone:
            self._rclone.release()

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
            well = self._record.wanted and not self._faults
            if await self._poked(_LONGEST_PAUSE if well else pause):
                pause = 1.0
            elif well and not self._faults:
                self.mounts_changed(await asyncio.to_thread(MountTable.read))
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
        if not self._alive and await asyncio.to_thread(dirty_files, self.paths.cache) > 0:
            await self._reconcile_cloud_only()
        await self._hurry_uploads()
        wait = _POLL_SECONDS
        while (await self._pending()).files:
            if self._record.wanted or self._poke.is_set() or not self._alive:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), wait)
            wait = min(wait * 1.2, _LONGEST_POLL_SECONDS)
        async with self._lock:
            if not self._record.wanted:
                await self._let_go()

    async def _let_go(self) -> None:
        await self._unmount_cloud()
        await self._stop_rclone()
        if left := await asyncio.to_thread(dirty_files, self.paths.cache):
            log.warning("%s: %d file(s) are still to be uploaded", self.slug, left)
            self._record.save(self.paths)
            return
        await asyncio.to_thread(workarea.detach, self.paths)
        self._record.proven.clear()
        self._faults.clear()
        inner = [part.target for part in self._parts]
        outer = [self.paths.workarea, self.paths.cloud_storage, self.paths.root]
        for directory in inner + outer:
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
            if request != self._record.request:
                await self._replace(request)
            await asyncio.to_thread(self._make_directories)
            if workarea_only:
                await self._ensure_workarea()
            else:
                await asyncio.gather(self._ensure_workarea(), self._ensure_cloud())
                self._checked = time.monotonic()
            self._record.save(self.paths)

    async def _reconcile_cloud_only(self) -> None:
        async with self._lock:
            await asyncio.to_thread(self._make_directories)
            await self._ensure_cloud()
            self._record.save(self.paths)

    async def _replace(self, request: MountRequest) -> None:
        """Take down what was mounted for other ids, buckets or sizes."""
        old, self._record.request = self._record.request, request
        same_ids = (old.uid, old.gid) == (request.uid, request.gid)
        if not same_ids:
            await asyncio.to_thread(workarea.detach, self.paths)
        buckets = (request.bucket, request.scratch_bucket)
        if same_ids and (old.bucket, old.scratch_bucket) == buckets:
            return
        await self._unmount_cloud()
        await self._stop_rclone()
        self._record.proven.clear()

    def _make_directories(self) -> None:
        make_private_directory(self.paths.private)
        self.paths.root.mkdir(mode=0o711, exist_ok=True)
        self.paths.cloud_storage.mkdir(mode=0o755, exist_ok=True)

    async def _ensure_workarea(self) -> None:
        request = self.request
        self._steps["workarea"] = "mounting the workarea"
        try:
            await asyncio.to_thread(
                workarea.ensure, self.paths, request.uid, request.gid, request.quota_bytes
            )
        except workarea.WorkareaError as error:
            self._faults["workarea"] = str(error)
        else:
            self._faults.pop("workarea", None)
        finally:
            del self._steps["workarea"]

    async def _ensure_cloud(self) -> None:
        try:
            faults = await self._mount_cloud()
        except (RcloneError, OSError) as error:
            log.warning("%s: %s", self.slug, error)
            faults = {"rclone": f"cloud_storage can't be mounted ({error})."}
        finally:
            self._steps.pop("cloud", None)
        for name in ("credentials", "rclone", *(part.name for part in self._parts)):
            self._faults.pop(name, None)
        self._faults.update(faults)
        for fault in faults.values():
            log.warning("%s: %s", self.slug, fault)

    async def _mount_cloud(self) -> dict[str, str]:
        """Mount each part that the storage gives access to; the faults of the others."""
        faults: dict[str, str] = {}
        self._steps["cloud"] = "asking the hub for storage credentials"
        try:
            await self._credentials.get(self.request.username)
        except CredentialError as error:
            faults["credentials"] = str(error)
            if not self._record.proven:
                return faults
        self._steps["cloud"] = "starting rclone"
        rclone = await self._running()
        self._steps["cloud"] = f"waiting for the object storage at {self._endpoint}"
        limit = self._settings.mount_plane.ready_timeout * 0.4
        found = await asyncio.gather(
            *(self._ensure_part(rclone, part, limit) for part in self._parts)
        )
        refused = {
            part.name: fault for part, fault in zip(self._parts, found, strict=True) if fault
        }
        # Without new credentials those that rclone still has may do.
        return (faults or refused) if refused else {}

    async def _ensure_part(self, rclone: Rclone, part: Part, limit: float) -> str | None:
        """Mount a part if its storage answers, and prove it; the fault, if there is one.

        One that was proven before is mounted also while the storage is away: its cache may
        hold what the user wrote.
        """
        fault = await self._probe(rclone, part, limit)
        if fault and part.name not in self._record.proven:
            return fault
        if not self._is_mounted(await asyncio.to_thread(MountTable.read), part):
            await asyncio.to_thread(free_mount_point, part.target)
            await rclone.call(
                "mount/mount", **mount_options(self._settings, self.request, part)
            )
        table = await asyncio.to_thread(MountTable.read)
        if not self._is_mounted(table, part):
            return f"{part.title}: it could not be mounted."
        if not await is_directory_within(part.target, 5.0):
            return f"{part.title}: its mount does not answer."
        self._record.proven.add(part.name)
        return fault

    async def _probe(self, rclone: Rclone, part: Part, limit: float) -> str | None:
        """Whether the storage answers and gives access: one listing of next to nothing."""
        try:
            await rclone.call("operations/list", limit, fs=part.probe, remote=_PROBE)
        except RcloneError as error:
            if rclone.exited.is_set():
                raise
            return explain_storage_error(str(error), part.title, self._endpoint)
        return None

    async def _running(self) -> Rclone:
        """The user's rclone, started if none runs; mounts of a dead one are removed."""
        if self._rclone and not self._rclone.exited.is_set():
            return self._rclone
        self._starts.append(time.monotonic())
        if len(self._starts) == self._starts.maxlen:
            crashing = self._starts[-1] - self._starts[0] < 2 * len(self._starts)
            await asyncio.sleep(3.0 if crashing else 0)
        await self._unmount_cloud(lazy=True)
        kept = await asyncio.to_thread(repair, self.paths.cache, self.paths.recovered)
        self._kept += [
            f"{path} was being written when rclone was killed; an administrator finds what "
            f"there is of it in {self.paths.recovered}."
            for path in kept
        ]
        await asyncio.to_thread(prepare, self._settings, self.request, self.paths)
        rclone = await Rclone.start(self.paths, timeout=10.0)
        self._use(rclone)
        self._record.save(self.paths)
        return rclone

    def _use(self, rclone: Rclone) -> None:
        async def watch() -> None:
            await rclone.exited.wait()
            if self._rclone is rclone:
                log.warning("%s: rclone %d ended", self.slug, rclone.identity.pid)
                self._poke.set()

        self._rclone, self._record.rclone = rclone, rclone.identity
        self._watch = asyncio.create_task(watch())

    async def _stop_rclone(self) -> None:
        rclone, self._rclone, self._record.rclone = self._rclone, None, None
        if rclone:
            await rclone.stop()

    async def _unmount_cloud(self, *, lazy: bool = False) -> None:
        for part in self._parts:
            await asyncio.to_thread(free_mount_point, part.target, patience=0 if lazy else 3.0)

    # -- looking

    @property
    def _parts(self) -> tuple[Part, ...]:
        return parts(self.request, self.paths)

    @property
    def _alive(self) -> bool:
        return self._rclone is not None and not self._rclone.exited.is_set()

    def _is_mounted(self, table: MountTable, part: Part) -> bool:
        entry = table.at(part.target)
        return self._alive and entry is not None and entry.kind == _FUSE

    async def _check_health(self, table: MountTable) -> None:
        """Ask the storage again, if it was not asked lately, so that a cut is told."""
        part = self._parts[0]
        rclone = self._rclone
        if rclone is None or not self._is_mounted(table, part):
            return
        if time.monotonic() - self._checked < self._settings.mount_plane.ready_timeout / 2:
            return
        self._checked = time.monotonic()
        try:
            fault = await self._probe(rclone, part, 5.0)
        except RcloneError:
            return  # it just died, and the keeper knows
        if fault:
            self._faults[part.name] = fault
            self._poke.set()
        else:
            self._faults.pop(part.name, None)

    async def _pending(self) -> Pending:
        if self._rclone is None or not self._alive:
            return Pending(await asyncio.to_thread(dirty_files, self.paths.cache))
        return await pending(self._rclone, await self._mounted_parts(), self.paths.cache)

    async def _hurry_uploads(self) -> None:
        if self._rclone is not None and self._alive:
            await hurry(self._rclone, await self._mounted_parts())

    async def _mounted_parts(self) -> list[Part]:
        table = await asyncio.to_thread(MountTable.read)
        return [part for part in self._parts if self._is_mounted(table, part)]


def _report(task: asyncio.Task[None]) -> None:
    """Log a background task's error, which nobody awaits."""
    if not task.cancelled() and (error := task.exception()):
        log.error("a background task failed", exc_info=error)
