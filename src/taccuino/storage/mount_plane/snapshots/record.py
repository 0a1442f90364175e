"""What is known of one user's area, on the disk beside it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from taccuino.storage.mount_plane.completion import completed
from taccuino.storage.mount_plane.layout import UserPaths
from taccuino.storage.snapshots import Snapshot, SnapshotOwner

from . import area
from .lineage import Lineage, Newest

__all__ = ["LineageRecord"]


class LineageRecord:
    """Read and written by one at a time, each time from what is on the disk."""

    def __init__(self, paths: UserPaths, owner: SnapshotOwner) -> None:
        self._paths = paths
        self._owner = owner
        self._lock = asyncio.Lock()

    @property
    def path(self) -> Path:
        """The file."""
        beside = self._paths.plain_area
        return beside.with_name(f"{beside.name}.lineage.json")

    async def read(self) -> Lineage:
        """What is known."""
        there = area.exists(self._paths)
        return await asyncio.to_thread(Lineage.read, self.path, there=there)

    async def begin(self, known: Lineage) -> None:
        """The area is another one from here on."""
        async with self._lock:
            await self._save(known)

    async def note(
        self,
        *,
        newest: Newest | None = None,
        on: Snapshot | None = None,
        changed: bool | None = None,
        coming: str | None = None,
        apart: str | None = None,
        mark: str | None = None,
        thinned: float | None = None,
    ) -> None:
        """Write down what has become known; an empty text is nothing."""
        async with self._lock:
            before = await self.read()
            known = before
            if newest and newest.snapshot.id == known.coming:
                known = known.on(newest.snapshot)
            if on:
                known = known.on(on)
            if changed is not None:
                known = replace(known, changed=changed)
            if coming is not None:
                known = replace(known, coming=coming or None)
            if apart is not None:
                known = replace(known, apart=apart or None)
            if mark is not None:
                known = replace(known, mark=mark or None)
            if thinned is not None:
                known = replace(known, thinned=thinned)
            if known != before:
                await self._save(known)

    async def _save(self, known: Lineage) -> None:
        """Let no later one be overwritten by one that was cancelled."""
        owner = self._owner
        known = replace(known, username=owner.username, bucket=owner.bucket)
        await completed(asyncio.to_thread(known.save, self.path))
