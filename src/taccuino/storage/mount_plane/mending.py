"""Looks after the files that a running rclone gives up on; see `held`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from .cache import hold_unfinished
from .configuration import Part, RcloneError
from .held import held_files, restore
from .journal import log_files
from .layout import UserPaths
from .rclone import Rclone

__all__ = ["LogTail", "mend", "unfinished"]

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_LONGEST_PAUSE = 30.0
_GIVEN_UP = "failed to download missing parts of cache file"
_HANDLE = re.compile(r"\(0x[0-9a-f]+\)$")


def unfinished(line: str) -> tuple[str, float] | None:
    """The file that a line of rclone's log says was given up on, and when; else None."""
    if _GIVEN_UP not in line:
        return None
    try:
        entry = json.loads(line)
        name = _HANDLE.sub("", str(entry["object"]))
        return name, datetime.fromisoformat(entry["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None


class LogTail:
    """The lines that were added to a log since the last look, also across its rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._position = 0

    @property
    def has_news(self) -> bool:
        """Whether the log has changed since the last look; costs one stat."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        return (found.st_ino, found.st_size) != (self._inode, self._position)

    def read(self) -> list[str]:
        """The new lines that are complete, of a log that was rotated first; blocking."""
        return [line for path in self._unread() for line in self._read(path)]

    def _unread(self) -> list[Path]:
        """The file that was read last and those after it; only the log if it is gone."""
        files = log_files(self._path)
        for index, path in enumerate(files):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == self._inode:
                    return files[index:]
        return [self._path]

    def _read(self, path: Path) -> list[str]:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._position:
                self._inode, self._position = found.st_ino, 0
            file.seek(self._position)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return whole.decode(errors="replace").splitlines()


async def mend(
    rclone: Rclone,
    tail: LogTail,
    paths: UserPaths,
    parts: Callable[[], Awaitable[list[Part]]],
    site: str,
    tell: Callable[[list[str]], None],
) -> None:
    """Hold what rclone gives up on, and save what is held once the storage answers.

    Runs as long as rclone does. ``parts`` are the mounts that are there, and ``tell`` is
    given the name of each file that can't be put together, and is kept aside.
    """
    pause, rest = _LOOK_SECONDS, 0.0
    given_up: list[tuple[str, float]] = []
    while not rclone.exited.is_set():
        try:
            if tail.has_news:
                lines = await asyncio.to_thread(tail.read)
                given_up += filter(None, map(unfinished, lines))
            given_up = await _hold_each(given_up, paths.cache)
            # Most users never have any: a look that costs no thread, once a second for each.
            some = (paths.cache / "held").exists()
            held = await asyncio.to_thread(held_files, paths.cache) if some else []
            if held and rest <= 0:
                tell(await restore(rclone, await parts(), paths, site))
                pause, rest = _LOOK_SECONDS, pause
        except (OSError, RcloneError, ValueError) as error:
            log.warning("%s: %s; tried again in %g s", paths.cache, error, pause)
            rest, pause = pause, min(pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(_LOOK_SECONDS)
        rest -= _LOOK_SECONDS


async def _hold_each(given_up: list[tuple[str, float]], cache: Path) -> list[tuple[str, float]]:
    """Hold what rclone gave up on; those that can't be held yet, the disk being full."""
    left = []
    for name, at in given_up:
        try:
            held = await asyncio.to_thread(hold_unfinished, cache, name, at)
        except (OSError, ValueError) as error:
            log.warning("%s: it can't be held yet: %s", name, error)
            left.append((name, at))
            continue
        for file in held:
            log.warning("%s: held, since rclone could not fetch the rest", file.path)
    return left
