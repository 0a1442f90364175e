"""One user's snapshots on this node: made, restored, compared at a start, tried again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from taccuino.errors import TaccuinoError
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.mount_plane import workarea
from taccuino.storage.mount_plane.completion import completed
from taccuino.storage.mount_plane.credentials import CredentialSource, StorageCredentials
from taccuino.storage.mount_plane.layout import UserPaths
from taccuino.storage.snapshots import (
    Arrival,
    Job,
    Snapshot,
    SnapshotOwner,
    SnapshotState,
    when,
)

from . import area
from .lineage import Lineage, Newest, advanced, course, folder_name, with_apart
from .pointer import Pointers
from .record import LineageRecord
from .restic import Restic, SnapshotError, error_of

__all__ = ["Node", "UserSnapshots"]

log = logging.getLogger(__name__)

_FIRST_PAUSE = 60.0
_LONGEST_PAUSE = 3600.0
_TOLD_AFTER = 3
"""Failures to reach the storage that a user is not told of: it comes back by itself."""
_UNKNOWN = "Whether it was changed at another site could not be found out"


@dataclass(frozen=True)
class Node:
    """What all users' snapshots on a node share."""

    settings: Settings
    name: str
    key: Callable[[str], str]
    """A user's key, by their name."""
    credentials: CredentialSource
    pointers: Pointers
    away: Callable[[], bool]
    turns: asyncio.Semaphore
    """For what nobody waits for: one at a time, begun when it is free."""


class UserSnapshots:
    """One thing is done at a time (``_lock``); what the user sees has a task of its own."""

    def __init__(self, node: Node, owner: SnapshotOwner) -> None:
        self.owner = owner
        self._node = node
        self._paths = UserPaths.of(node.settings, owner.slug)
        self._record = LineageRecord(self._paths, owner)
        self._restic = Restic(
            node.settings,
            owner,
            self._paths.private,
            node.name,
            key=lambda: node.key(owner.username),
            credentials=self._credentials,
            away=node.away,
            alone=self._alone,
        )
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._thinning: asyncio.Task[None] | None = None
        self._job: Job | None = None
        self._fault: SnapshotError | None = None
        self._notices: dict[str, str] = {}
        self._failures = 0
        self._is_made = False
        """Whether the last thing that was done was to make one."""
        self._arrivals = self._departures = 0
        self.arrived = False
        """Whether a server has the area, or is about to."""
        self.next_try = 0.0

    # -- what is asked for

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._task is not None and not self._task.done()

    async def state(self) -> SnapshotState:
        """How the user's snapshots are."""
        here = await self._record.read()
        fault = self._fault
        told = fault and (fault.reason != "unreachable" or self._failures >= _TOLD_AFTER)
        return SnapshotState(
            job=self._job,
            at=here.at or None,
            site=here.site or None,
            fault=str(fault) if told else None,
            notices=tuple(self._notices.values()),
        )

    async def arrive(
        self, request: MountRequest, older: Literal["tell", "replace", "take"]
    ) -> Arrival:
        """A server is about to have the area: what is to become of it.

        An area that is *older* than the newest snapshot is only told of, or replaced, which is
        a job, or taken as it is. What is kept counts as changed from now on.
        """
        settings = self._node.settings.snapshots
        self._notices.clear()
        departures, newest, message = self._departures, None, ""
        if self._task and self.busy:  # what the last stop left to be done
            await asyncio.wait({self._task}, timeout=settings.look_seconds)
        try:
            async with asyncio.timeout(settings.look_seconds):
                newest = await self._newest()
        except (TimeoutError, SnapshotError) as error:
            reason = str(error).rstrip(".") or "the object storage gave no answer in time"
            message = f"{_UNKNOWN}: {reason[0].lower()}{reason[1:]}."
        async with workarea.lock_of(self._paths):
            if departures != self._departures:  # its server was given up meanwhile
                return Arrival("keep")
            here = await self._record.read()
            what = course(here, newest)
            if what == "replace" and older != "take" and not self.busy:
                assert newest
                if older == "replace":
                    self._begin("restore", self._replace(request, newest))
                return Arrival(what, newest.snapshot)
            self.arrived = True
            self._arrivals += 1
            self.next_try = time.monotonic() + settings.every_minutes * 60
            if area.exists(self._paths):
                await self._record.note(newest=newest, changed=True)
        if newest is None or what != "beside" or self.busy:
            told = self._told(here, newest, message)
            return Arrival("keep", newest.snapshot if newest else None, told)
        self._begin("restore", self._lay_beside(newest))
        told = (
            "Your workarea was changed on this machine and also at site "
            f"{newest.snapshot.site}. Nothing is lost: what was there on "
            f"{when(newest.snapshot.at)} is being restored into the folder "
            f"{folder_name(newest.snapshot)}."
        )
        self._notices["beside"] = told
        return Arrival(what, newest.snapshot, told)

    def _told(self, here: Lineage, newest: Newest | None, message: str) -> str | None:
        if message and not here.base and not here.changed:
            message = f"Your workarea is new on this machine. {message}"
        elif message:
            message = f"Your workarea is that of this machine. {message}"
        if newest and (others := [item for item in newest.apart if item.site != self._site]):
            message = (
                f"At site {others[0].site}, something was changed apart from this workarea "
                f"until {when(others[0].at)}: the page of your snapshots restores it."
            )
        if message:
            self._notices["arrival"] = message
        return message or None

    async def stop(self) -> SnapshotState:
        """Make one after the last server has stopped; it goes on if that takes long."""
        limit = self._node.settings.snapshots.stop_seconds
        end = time.monotonic() + limit
        self.left()  # now: while this waits, another server may come
        if self._task and self.busy:
            await asyncio.wait({self._task}, timeout=limit)
        if not self.busy:
            self._begin("make", self._make(idle=False))
            assert self._task
            await asyncio.wait({self._task}, timeout=max(0.0, end - time.monotonic()))
        return await self.state()

    def left(self) -> None:
        """No server has the area any more."""
        self.arrived = False
        self._departures += 1

    def make(self) -> None:
        """Begin to make one, unless one is being made.

        Raises
        ------
        SnapshotError
            With the reason ``busy``, while one is restored.
        """
        if self.busy and self._job and self._job.kind == "make":
            return
        self._refuse_busy()
        self._begin("make", self._make(idle=False))

    async def restore(self, snapshot: str) -> None:
        """Begin to restore one into a folder of the workarea.

        Raises
        ------
        SnapshotError
            If there is no such snapshot, or the storage does not say.
        """
        self._refuse_busy()
        found = [one for one in await self.list() if one.id == snapshot]
        if not found:
            raise SnapshotError("missing", "There is no such snapshot (any more).")
        self._refuse_busy()
        self._begin("restore", self._lay_folder(found[0]))

    async def list(self) -> list[Snapshot]:
        """All there are, the newest first.

        Raises
        ------
        SnapshotError
            If the storage does not say.
        """
        found, newest = await asyncio.gather(self._restic.snapshots(), self._newest())
        others = {item.id for item in newest.apart} if newest else set()
        head = newest.snapshot.id if newest else None
        return [replace(one, newest=one.id == head, apart=one.id in others) for one in found]

    async def cancel(self) -> None:
        """Give up what is under way; what was there before stays."""
        for task in (self._task, self._thinning):
            if task and not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def tend(self, now: float) -> None:
        """Make one if it is time: in a server that runs, or what could not be made before."""
        settings = self._node.settings.snapshots
        if now < self.next_try or (self.arrived and not settings.every_minutes):
            return
        if not self.arrived:
            here = await self._record.read()
            if not here.changed or (here.apart and self._is_made):
                return
        if not self.busy and not self._node.turns.locked():
            self._begin("make", self._make(idle=True))

    # -- jobs

    @property
    def _site(self) -> str:
        return self._node.settings.site

    def _refuse_busy(self) -> None:
        if self.busy and self._job:
            raise SnapshotError("busy", f"Wait a moment: {self._job.message}")

    def _begin(self, kind: Literal["make", "restore"], work: Coroutine[Any, Any, str]) -> None:
        words = (
            "A snapshot is being made." if kind == "make" else "A snapshot is being restored."
        )
        self._job = Job(kind, "running", words)
        self._is_made = False
        self._task = asyncio.create_task(self._run(kind, work))

    async def _run(
        self, kind: Literal["make", "restore"], work: Coroutine[Any, Any, str]
    ) -> None:
        assert self._job
        try:
            async with self._lock:
                message = await work
        except asyncio.CancelledError:
            self._job = replace(self._job, state="failed", message="It was given up.")
            self._later(kind)
            raise
        except Exception as error:
            if not isinstance(error, TaccuinoError):
                log.exception("%s: a snapshot (%s)", self.owner.slug, kind)
            fault = (
                error
                if isinstance(error, SnapshotError)
                else SnapshotError("failed", _sentence(error))
            )
            log.warning("%s: %s: %s", self.owner.slug, kind, fault)
            self._job = replace(self._job, state="failed", message=str(fault))
            self._later(kind, fault)
        else:
            self._job = replace(self._job, state="done", message=message, percent=None)
            if kind == "make":
                self._is_made = True
                self._failures, self._fault = 0, None
                every = self._node.settings.snapshots.every_minutes * 60
                self.next_try = time.monotonic() + (every or _FIRST_PAUSE)
                if self._thinning is None or self._thinning.done():
                    self._thinning = asyncio.create_task(self._thin())
        finally:
            work.close()

    def _later(self, kind: str, fault: SnapshotError | None = None) -> None:
        if kind == "restore":
            return
        self._fault = fault or self._fault
        pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures += 1
        self.next_try = time.monotonic() + pause

    def _percent(self, percent: int) -> None:
        if self._job:
            self._job = replace(self._job, percent=percent)

    async def _make(self, *, idle: bool) -> str:
        turn = self._node.turns if idle else contextlib.nullcontext()
        async with turn, area.borrowed(self._paths) as path:
            arrivals = None if self.arrived else self._arrivals
            here = await self._record.read()
            if here.coming:  # a daemon was killed: whether it became the newest
                await self._record.note(newest=await self._newest(), coming="")
                here = await self._record.read()
            seen = await area.survey(path, self._node.name)
            nothing = here.base is None and not seen.entries
            if nothing or here.mark == seen.mark:
                apart_still = bool(here.apart)
                await self._record.note(changed=apart_still or self._still_in_use(arrivals))
                return (
                    f"Nothing has changed since the snapshot of {when(here.at)}."
                    if here.at
                    else "There is nothing in your workarea yet."
                )
            began = time.time()
            made = await self._restic.backup(
                path,
                (f"bytes={seen.bytes}", f"files={seen.files}"),
                idle=idle,
                progress=self._percent,
            )
        snapshot = Snapshot(made.id, began, self._site, seen.bytes, seen.files)
        await self._record.note(coming=made.id)
        here, newest = await self._record.read(), await self._newest()
        mark = seen.mark if made.complete else None
        following = advanced(newest, here, snapshot)
        if following is None:
            assert newest
            await self._put(with_apart(newest, snapshot))
            await self._record.note(coming="", mark=mark, apart=made.id)
            return (
                f"A snapshot was made. Meanwhile your workarea was changed at site "
                f"{newest.snapshot.site}: your next start here restores that beside it."
            )
        await self._put(following)
        used = self._still_in_use(arrivals) or not made.complete
        await self._record.note(on=snapshot, mark=mark, changed=used)
        self._notices.pop("arrival", None)
        return "A snapshot was made." + (
            "" if made.complete else " Some files could not be read; it is tried again."
        )

    def _still_in_use(self, arrivals: int | None) -> bool:
        """Whether a server may have written since the survey.

        ``arrivals`` as they were at the survey, or None if there was a server then.
        """
        return arrivals != self._arrivals

    async def _replace(self, request: MountRequest, newest: Newest) -> str:
        snapshot = newest.snapshot
        async with area.unfilled(self._paths, request) as new:
            await self._filled(new, snapshot, request.owner, ".")
            seen = await area.survey(new, self._node.name)
            await area.keep_examples(self._paths, new, request.owner)
            known = Lineage(mark=seen.mark, thinned=time.time()).on(snapshot)
            async with workarea.lock_of(self._paths):
                await completed(self._swap(new, known))
        return f"Your workarea is that of {when(snapshot.at)}, from site {snapshot.site}."

    async def _swap(self, new: Path, known: Lineage) -> None:
        """Put a new area in the old one's place, under its lock, and note what it is."""
        if self.arrived:
            raise SnapshotError("failed", "A server has your workarea.")
        await asyncio.to_thread(area.swap, self._paths, new)
        await self._record.begin(known)

    async def _lay_beside(self, newest: Newest) -> str:
        both = (
            "Your workarea was changed on this machine and also at site "
            f"{newest.snapshot.site}."
        )
        try:
            message = await self._lay_folder(newest.snapshot)
        except SnapshotError as error:
            self._notices["beside"] = (
                f"{both} What was there could not be restored. {error} It is kept: the page "
                "of your snapshots restores it."
            )
            raise
        # What is here holds both from now on, and goes on from the newest.
        await self._record.note(on=newest.snapshot, mark="")
        self._notices["beside"] = f"{both} {message}"
        return message

    async def _lay_folder(self, snapshot: Snapshot) -> str:
        async with area.borrowed(self._paths) as path:
            uid = (await asyncio.to_thread(os.stat, path)).st_uid
            async with area.folder(path, snapshot.id, uid) as unfinished:
                await self._check_room(path, snapshot)
                await self._filled(path, snapshot, uid, unfinished)
                await self._record.note(changed=True)
                name = await asyncio.to_thread(
                    area.finish_folder, path, unfinished, folder_name(snapshot)
                )
        if self._job:
            self._job = replace(self._job, folder=name)
        return f"The snapshot of {when(snapshot.at)} is in the folder {name}."

    async def _check_room(self, path: Path, snapshot: Snapshot) -> None:
        """Refuse what would fill the workarea; what is noted of its size is the most it is."""
        free = await asyncio.to_thread(area.room, path)
        fits = snapshot.bytes is not None and snapshot.bytes <= free
        if not fits and await self._restic.size(snapshot.id) > free:
            raise error_of("full")

    async def _filled(self, path: Path, snapshot: Snapshot, uid: int, folder: str) -> None:
        """Restore, with how far it is: by how full the file system becomes."""

        def used() -> int:
            told = os.statvfs(path)
            return (told.f_blocks - told.f_bfree) * told.f_frsize

        before = await asyncio.to_thread(used)
        work = asyncio.create_task(self._restic.restore(snapshot.id, path, uid, folder))
        try:
            while not (await asyncio.wait({work}, timeout=0.5))[0]:
                more = await asyncio.to_thread(used) - before
                if snapshot.bytes:
                    self._percent(min(99, max(0, 100 * more // snapshot.bytes)))
            await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def _thin(self) -> None:
        """Remove what need not be kept, now and then."""
        settings = self._node.settings.snapshots
        thinned = (await self._record.read()).thinned
        if not thinned and settings.thin_hours:
            await self._record.note(thinned=time.time())
            return
        if time.time() - thinned < settings.thin_hours * 3600:
            return
        try:
            async with self._node.turns:
                if self._lock.locked():  # with the next one, then: who has a turn waits not
                    return
                async with self._lock:
                    await self._restic.thin(settings)
                    await self._record.note(thinned=time.time())
        except TaccuinoError as error:
            log.warning("%s: not thinned: %s", self.owner.slug, error)

    # -- the two records

    async def _credentials(self) -> StorageCredentials:
        return await self._node.credentials.get(self.owner.username)

    async def _newest(self) -> Newest | None:
        if self._node.away():
            raise SnapshotError("unreachable", "The object storage can't be reached.")
        try:
            credentials = await self._credentials()
        except TaccuinoError as error:
            raise SnapshotError("denied", _sentence(error)) from error
        return await self._node.pointers.get(self.owner.bucket, credentials)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        bucket, credentials = self.owner.bucket, await self._credentials()
        async with self._node.pointers.alone(bucket, credentials, self._node.name):
            yield

    async def _put(self, newest: Newest) -> None:
        credentials = await self._credentials()
        await self._node.pointers.put(self.owner.bucket, credentials, newest)

    async def born(self) -> None:
        """The area is about to be made, with nothing in it."""
        await self._record.begin(Lineage(changed=self.arrived))


def _sentence(error: BaseException) -> str:
    """A credential's refusal speaks of ``cloud_storage``; snapshots are refused with it."""
    if isinstance(error, TaccuinoError):
        return str(error).removeprefix("Your cloud_storage is not connected").lstrip(".: ")
    return "The program that makes snapshots met an error."
