"""What one user's rclone knows of directories: how it is kept true, and at hand."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest

from .asking import AskError
from .changes import Change, KeptCurrent
from .configuration import Part, RcloneError
from .credentials import CredentialError, CredentialSource
from .listings import ListingTarget, is_plain
from .rclone import Rclone
from .relay import StorageRelay
from .watching import LISTING_SECONDS, DirectoryWatch

__all__ = ["Directories"]

log = logging.getLogger(__name__)

_MOST_WARMED = 2000
_WARMED_AT_ONCE = 8
_LEADING_SECONDS = 0.5
"""From the relay's first question whether the daemon lives until it leads listings there."""
_LOOKERS = ThreadPoolExecutor(2 * _WARMED_AT_ONCE, thread_name_prefix="warm")
"""Of all users, and apart from the loop's own threads: they may wait for the storage."""


class Directories:
    """Joins what the relay tells (listings and changes) with rclone, which believes for long.

    - A listing that rclone is answered is watched (`DirectoryWatch`), and the files in it
      are looked at ahead: rclone asks for a file's time when somebody looks at it, one after
      the other for a program that goes through a directory.
      ``listing_seconds`` is for how long rclone may believe one.
    - A change by the mounts is asked for again, for the relay to keep (`KeptCurrent`).
    """

    def __init__(
        self,
        settings: Settings,
        request: MountRequest,
        credentials: CredentialSource,
        relay: StorageRelay,
        rclone: Callable[[], Rclone | None],
        mounted_parts: Callable[[], Awaitable[list[Part]]],
    ) -> None:
        self._slug, self._username = request.slug, request.username
        self._credentials = credentials
        self._relay = relay
        self._rclone = rclone
        self._mounted_parts = mounted_parts
        seconds = settings.mount_plane.directory_cache_seconds
        self._watched = relay.wanted and seconds > 0
        self.listing_seconds = LISTING_SECONDS if self._watched else seconds
        self._watch = DirectoryWatch(seconds, self._ask, self._forget, self._answers)
        self._current = KeptCurrent(rclone, self._answers, self._relist)
        self._tasks: set[asyncio.Task[None]] = set()
        relay.feed.followers[self._slug] = self._changed
        relay.listings.followers[self._slug] = self._listed

    def clear(self) -> None:
        """Another rclone knows nothing."""
        self._watch.clear()

    def stop(self) -> None:
        """Look after nothing any more."""
        self._current.stop()
        self._watch.stop()
        for task in self._tasks:
            task.cancel()

    async def take_up(self) -> None:
        """Have rclone list everything again: nobody kept it true while there was no daemon.

        Twice, since what it lists before the relay leads that here is not watched either.
        """
        await self._forget_all()
        self._later(self._forget_what_passed_by())

    async def _forget_what_passed_by(self) -> None:
        await self._relay.listings.led.wait()
        await asyncio.sleep(_LEADING_SECONDS)
        await self._forget_all()

    async def _forget_all(self) -> None:
        if rclone := self._rclone():
            for part in await self._mounted_parts():
                try:
                    await rclone.call("vfs/forget", fs=part.vfs)
                except RcloneError as error:
                    log.warning("%s: %s", part.target, error)

    def _answers(self) -> bool:
        return self._relay.available

    def _changed(self, told: Change) -> None:
        self._current.changed(told)
        if self._watched:
            self._watch.changed(told)

    def _listed(self, target: str, body: bytes) -> None:
        found = self._watch.answered(target, body) if self._watched else None
        if found and self._answers():
            directory, page = found
            names = page.names(directory.prefix)[:_MOST_WARMED]
            self._later(self._warm(directory, names))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warm(self, directory: ListingTarget, names: list[str]) -> None:
        shown = [
            (part.root, part.target / path)
            for part in await self._mounted_parts()
            if (path := part.directory(directory.bucket, directory.prefix)) is not None
        ]
        if shown:
            target = max(shown)[1]  # in the mount that shows the least besides
            shares = [names[first::_WARMED_AT_ONCE] for first in range(_WARMED_AT_ONCE)]
            run = asyncio.get_running_loop().run_in_executor
            await asyncio.gather(
                *(run(_LOOKERS, _look_at, target, share) for share in shares if share)
            )

    async def _ask(self, target: str) -> bytes:
        """The storage's answer in the user's name.

        Raises
        ------
        AskError
            If there is none.
        """
        try:
            keys = await self._credentials.get(self._username)
        except CredentialError as error:
            raise AskError(str(error)) from error
        return await self._relay.questions.get(self._slug, target, keys)

    async def _relist(self, bucket: str, directory: str) -> None:
        if target := self._watch.target_of(bucket, directory):
            with contextlib.suppress(AskError):
                await self._ask(target)

    async def _forget(self, directories: list[ListingTarget]) -> None:
        rclone = self._rclone()
        if rclone is None:
            return
        for part in await self._mounted_parts():
            paths = [part.directory(found.bucket, found.prefix) for found in directories]
            shown = [path for path in paths if path is not None]
            # A file, be it there or not, lets its directory be listed again and no more.
            files = {f"file{number}": f"{path}/-" for number, path in enumerate(shown)}
            if not all(is_plain(path) for path in shown):
                files = {}  # everything: rclone calls one of them otherwise
            if shown:
                await rclone.call("vfs/forget", 10.0, fs=part.vfs, **files)


def _look_at(directory: Path, names: Iterable[str]) -> None:
    """Ask for the attributes of files; blocking. What is gone meanwhile is nobody's fault."""
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            os.lstat(directory / name)
