"""What waits in rclone's cache for its upload, and why some of it fails."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .cache import dirty_files
from .configuration import Part, RcloneError
from .faults import upload_errors
from .rclone import Rclone

__all__ = ["Pending", "explain", "hurry", "pending"]

log = logging.getLogger(__name__)

_LOG_LINES = 400


@dataclass
class Pending:
    """How many files wait, and ``(directory, name, tries)`` of those that failed so far."""

    files: int = 0
    failing: list[tuple[str, str, int]] = field(default_factory=list)


async def pending(rclone: Rclone, parts: Iterable[Part], cache: Path) -> Pending:
    """What waits in the mounts of a running rclone."""
    found = Pending()
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


async def hurry(rclone: Rclone, parts: Iterable[Part]) -> None:
    """Begin all uploads that wait for their delay or their next try."""
    for part in parts:
        if part.read_only:
            continue
        try:
            await rclone.upload_now(part.vfs)
        except RcloneError as error:
            # A file may have left the queue in the meantime.
            log.debug("%s: %s", part.target, error)


async def explain(waiting: Pending, rclone_log: Path, endpoint: str) -> list[str]:
    """A sentence for each file whose upload fails, with the reason from rclone's log."""
    if not waiting.failing:
        return []

    def lines() -> list[str]:
        try:
            with rclone_log.open(encoding="utf-8", errors="replace") as file:
                return list(deque(file, maxlen=_LOG_LINES))
        except FileNotFoundError:
            return []

    return upload_errors(waiting.failing, await asyncio.to_thread(lines), endpoint)
