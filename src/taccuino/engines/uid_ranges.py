"""A range of host uids for each user, the same at every start.

A container runs as uid 1000 of its user's range; the mounts belong to that host uid, so one
user's processes can't read another's files even where they see the same path. Ranges are
never given to another user: files on the node keep their owner.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from .errors import EngineError

__all__ = ["CONTAINER_UID", "RANGE_SIZE", "UidRange", "UidRanges"]

RANGE_SIZE = 65_536
"""Uids of a range: what a Linux user database holds without surprises."""

CONTAINER_UID = 1000
"""Who a notebook server is inside its container."""


@dataclass(frozen=True)
class UidRange:
    """``RANGE_SIZE`` host uids (and gids) from ``base`` on."""

    base: int

    @classmethod
    def of(cls, uid: int) -> Self:
        """The range whose user's processes have this uid."""
        return cls(uid - CONTAINER_UID)

    @property
    def uid(self) -> int:
        """The host's uid of the user's processes and files."""
        return self.base + CONTAINER_UID


class UidRanges:
    """The ranges given out so far, in a JSON file (``{"alice": 0, "bob": 1}``).

    A range that was given out is never another's: it is read once.
    """

    _read_before: ClassVar[dict[tuple[Path, str], UidRange]] = {}

    def __init__(self, path: Path, base: int) -> None:
        self._path = path
        self._base = base

    async def range_for(self, username: str) -> UidRange:
        """The user's range, given out and written down at the first call.

        Raises
        ------
        EngineError
            If the file can't be read or written, or no uid is left below 2**32.
        """
        if known := self._read_before.get((self._path, username)):
            return known
        return await asyncio.to_thread(self._given, username)

    def _given(self, username: str) -> UidRange:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                found = self._range_for(username)
        except OSError as error:
            raise EngineError(
                f"{self._path}: {error.strerror}; mend the file's mode"
            ) from error
        self._read_before[self._path, username] = found
        return found

    def _range_for(self, username: str) -> UidRange:
        ranges = self._read()
        index = ranges.get(username)
        if index is None:
            index = ranges[username] = max(ranges.values(), default=-1) + 1
            if self._base + (index + 1) * RANGE_SIZE > 2**32 - 2:
                raise EngineError(f"{self._path}: no uid is left; lower engine.uid_base")
            self._write(ranges)
        return UidRange(self._base + index * RANGE_SIZE)

    def _read(self) -> dict[str, int]:
        try:
            ranges = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise EngineError(f"{self._path}: {error}; restore it from a backup") from error
        if not isinstance(ranges, dict) or not all(
            isinstance(index, int) for index in ranges.values()
        ):
            raise EngineError(f"{self._path}: no map of names to numbers; restore a backup")
        return ranges

    def _write(self, ranges: dict[str, int]) -> None:
        temporary = self._path.with_suffix(".new")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(ranges, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
