"""What waits in rclone's cache for its upload, and why some of it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .cache import dirty_files
from .configuration import Part, RcloneError
from .faults import upload_errors
from .held import held_files
from .journal import Entry, Failed, Journal, Queued, Renamed
from .rclone import Rclone

__all__ = ["FailureReasons", "Pending", "pending"]

log = logging.getLogger(__name__)

_REMEMBERED = 10_000


@dataclass
class Pending:
    """How many files wait, and ``(directory, name, tries)`` of those that failed so far."""

    files: int = 0
    failing: list[tuple[str, str, int]] = field(default_factory=list)


async def pending(rclone: Rclone, parts: Iterable[Part], cache: Path) -> Pending:
    """What waits in the mounts of a running rclone, and what is held until it can be saved."""
    found = Pending(len(await asyncio.to_thread(held_files, cache)))
    for part in parts:
        if part.read_only:
            continue
        try:
            waiting, failed = await rclone.pending(part.vfs)
        except RcloneError as error:
            log.warning("%s: %s", part.target, error)
            waiting, failed = await asyncio.to_thread(dirty_files, cache), []
        found.files += waiting
        found.failing += [(part.title, name, tries) for name, tries in failed]
    return found


class FailureReasons:
    """Why each file's upload failed last; only rclone's log tells.

    The log is read on from where it was read last, and anew by another daemon, so that a
    reason is known however much was logged since, until the log is rotated away.
    """

    def __init__(self, rclone_log: Path) -> None:
        self._journal = Journal(rclone_log)
        self._texts: dict[str, str] = {}
        self._turn = asyncio.Lock()

    async def explain(self, waiting: Pending, endpoint: str) -> list[str]:
        """A sentence for each file whose upload fails."""
        if not waiting.failing:
            return []
        async with self._turn:
            await asyncio.to_thread(self._read)
        return upload_errors(waiting.failing, self._texts, endpoint)

    def _read(self) -> None:
        before = None
        while self._journal.has_news and self._journal.position != before:
            before = self._journal.position
            for entry in self._journal.read():
                self._note(entry)

    def _note(self, entry: Entry) -> None:
        reason = self._texts.pop(entry.name, None)
        match entry:
            case Failed():
                self._texts[entry.name] = entry.reason
                while len(self._texts) > _REMEMBERED:
                    self._texts.pop(next(iter(self._texts)))
            case Renamed() if reason is not None:
                self._texts[entry.new] = reason
            case Queued() if reason is not None:
                self._texts[entry.name] = reason  # until its next try
            case _:
                pass
