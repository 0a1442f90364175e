"""Snapshots at a server's start and stop: asked of the mount plane, told to the user."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from taccuino.engines import FilesOutdatedError
from taccuino.naming import slug
from taccuino.settings import Settings
from taccuino.storage import StorageError, bucket_name
from taccuino.storage.mount_client import MountPlaneClient, MountPlaneError, MountRequest
from taccuino.storage.snapshots import Arrival, Snapshot, SnapshotClient, SnapshotOwner, when

__all__ = ["HubSnapshots"]

log = logging.getLogger(__name__)

_NO_ANSWER = "what mounts your files on this machine does not answer."
_LOOK_AGAIN_SECONDS = 0.5
_TELL_SECONDS = 10.0


class HubSnapshots:
    """A server never gets a workarea that is older than one that another site has made.

    A server that waited is ready sooner than the storage can be asked: it is begun on what
    there is, and given up if that turns out to be older (`confirm`). One that is made from
    nothing waits for the answer, and for the restore (`arrive`).
    """

    def __init__(self, settings: Settings, plane: MountPlaneClient) -> None:
        self._settings = settings
        self._plane = plane
        self.client = SnapshotClient(settings, plane)

    def owner(self, username: str) -> SnapshotOwner:
        """What the mount plane must know of a user.

        Raises
        ------
        StorageError
            If no bucket can have their name.
        """
        return SnapshotOwner(username, slug(username), bucket_name(self._settings, username))

    async def confirm(self, looking: asyncio.Task[Arrival]) -> tuple[str, ...]:
        """Whether a server may have the workarea that it was begun with; what to tell.

        Raises
        ------
        FilesOutdatedError
            If there is a newer one.
        StorageError
            If the mount plane does not answer.
        """
        try:
            arrival = await looking
        except MountPlaneError as error:
            raise StorageError(_NO_ANSWER, reason="unreachable") from error
        if arrival.course == "replace":
            raise FilesOutdatedError("its workarea was changed at another site since")
        return (arrival.message,) if arrival.message else ()

    def look(self, request: MountRequest) -> asyncio.Task[Arrival]:
        """Begin to ask whether there is a newer workarea."""
        looking = asyncio.create_task(self.client.arrive(request, "tell"))
        looking.add_done_callback(_retrieve)
        return looking

    async def arrive(
        self, request: MountRequest, report: Callable[[str], None]
    ) -> tuple[str, ...]:
        """Restore the newest snapshot, if it is newer than what is here; what to tell.

        Raises
        ------
        StorageError
            If the mount plane does not answer.
        """
        try:
            arrival = await self.client.arrive(request, "tell")
            if arrival.course != "replace" or arrival.snapshot is None:
                return (arrival.message,) if arrival.message else ()
            # What a server that was given up had mounted.
            await self._plane.unmount(request.slug, drain=False)
            arrival = await self.client.arrive(request, "replace")
            if arrival.course != "replace" or arrival.snapshot is None:
                return (arrival.message,) if arrival.message else ()
            fault = await self._restored(request.slug, arrival.snapshot, report)
            taken = await self.client.arrive(request, "take")
        except MountPlaneError as error:
            log.exception("The mount plane failed for %s", request.username)
            raise StorageError(_NO_ANSWER, reason="unreachable") from error
        return tuple(sentence for sentence in (fault, taken.message) if sentence)

    async def _restored(
        self, name: str, snapshot: Snapshot, report: Callable[[str], None]
    ) -> str | None:
        """Follow a restore to its end; why it failed, in a sentence."""
        words = f"Restoring your workarea of {when(snapshot.at)} from site {snapshot.site}"
        report(words)
        began, told = time.monotonic(), time.monotonic()
        percent: int | None = None
        while True:
            job = (await self.client.state(name)).job
            if job is None or job.state != "running":
                break
            now = time.monotonic()
            if now - began > self._settings.snapshots.restore_seconds:
                with contextlib.suppress(MountPlaneError):  # it still ends, with no answer
                    await self.client.give_up(name)
                return self._not_restored(snapshot, "It took too long.")
            if job.percent != percent or now - told > _TELL_SECONDS:
                percent, told = job.percent, now
                seconds = "" if percent else f" ({now - began:.0f} s)"
                report(f"{words}: {percent or 0} %{seconds}")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        if job is None or job.state == "failed":
            return self._not_restored(snapshot, job.message if job else "")
        report(job.message)
        return None

    @staticmethod
    def _not_restored(snapshot: Snapshot, why: str) -> str:
        return (
            f"Your workarea of {when(snapshot.at)} from site {snapshot.site} could not be "
            f"restored. {why} It is kept: the page of your snapshots restores it into a folder."
        )

    async def stop(self, name: str, report: Callable[[str], None]) -> None:
        """Make a snapshot after the last server has stopped; later, if it can't be made now."""
        report("Making a snapshot of your workarea")
        try:
            state = await self.client.stop(name)
        except MountPlaneError as error:
            log.warning("No snapshot of %s: %s", name, error)
            return
        if state.job and state.job.state == "failed":
            log.warning("No snapshot of %s yet: %s", name, state.job.message)
            report(f"No snapshot could be made, it is tried again: {state.job.message}")


def _retrieve(task: asyncio.Task[Arrival]) -> None:
    """A start that failed asks no more for what it began."""
    if not task.cancelled():
        task.exception()
