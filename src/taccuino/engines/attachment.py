"""A user's storage as their servers share it: attached by the first, let go by the last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from weakref import WeakValueDictionary

from taccuino.errors import TaccuinoError

from .errors import FilesOutdatedError, StorageUnavailableError
from .storage_port import Attachment, ServerIds, ServerStorage

__all__ = ["SharedStorage"]

log = logging.getLogger(__name__)

_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


class SharedStorage:
    """One user's storage; attaching and letting go of it never overlap."""

    def __init__(self, username: str) -> None:
        self._username = username
        self._lock = _locks.setdefault(username, asyncio.Lock())

    async def attach(
        self,
        storage: ServerStorage,
        ids: ServerIds,
        report: Callable[[str], None],
        place: str | None = None,
    ) -> Attachment:
        """Attach the storage.

        Raises
        ------
        StorageUnavailableError
            With the storage's own sentence, where no workarea can be had.
        """
        async with self._lock:
            try:
                return await storage.attach(self._username, ids, report, place)
            except TaccuinoError as error:
                words = getattr(error, "user_message", str(error))
                raise StorageUnavailableError(words) from error
            except Exception as error:
                log.exception("The storage of %s failed", self._username)
                raise StorageUnavailableError("its service failed.") from error

    async def mounted_for(self, storage: ServerStorage) -> int | None:
        """The uid that the user's files are mounted for, if they are.

        Raises
        ------
        StorageUnavailableError
            If that can't be known.
        """
        try:
            return await storage.mounted_for(self._username)
        except TaccuinoError as error:
            raise StorageUnavailableError(str(error)) from error

    @staticmethod
    async def complete(attachment: Attachment) -> tuple[str, ...]:
        """Attach what the container was not made to wait for; the faults, in sentences."""
        if attachment.completion is None:
            return ()
        try:
            return await attachment.completion()
        except Exception:
            log.exception("A storage was not attached")
            return ("Your files in the object storage are missing: its service failed.",)

    @staticmethod
    async def confirm(attachment: Attachment) -> tuple[str, ...]:
        """Whether the files are the newest; what to tell, in sentences.

        Raises
        ------
        FilesOutdatedError
            If they are not.
        StorageUnavailableError
            If that can't be known.
        """
        if attachment.confirmation is None:
            return ()
        try:
            return await attachment.confirmation()
        except FilesOutdatedError:
            raise
        except TaccuinoError as error:
            raise StorageUnavailableError(str(error)) from error

    async def detach(
        self,
        storage: ServerStorage,
        in_use: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:
        """Let go of the storage, unless a server of the user has it or starts."""
        async with self._lock:
            if in_use():
                return
            try:
                await storage.detach(self._username, report)
            except Exception:
                # Files that wait for their upload are kept in the mount plane's cache.
                log.exception("The storage of %s was not let go", self._username)
