"""What rclone's log tells of files: queued, uploaded, failed, renamed.

rclone has no feed of its uploads; its log, one JSON object a line, is the only place that
names each of them (rclone: ``vfs/vfscache``, at the level INFO). `Journal` reads on where an
earlier one ended, through rotations and restarts of either side.

`Failed` and `Uploaded` are also the quickest news of what can't be uploaded: who shows
upload errors may take them from `Journal.read` instead of asking rclone's queue.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "Copied",
    "Entry",
    "Failed",
    "Journal",
    "Position",
    "Queued",
    "Renamed",
    "Uploaded",
    "log_files",
]

_MOST_BYTES = 1 << 20
_MARK_BYTES = 80
_SIGNS = (b"vfs cache: ", b"server-side copy")
_QUEUED = "vfs cache: queuing for upload in "
_UPLOADED = "vfs cache: upload succeeded try #"
_RENAMED = "vfs cache: renamed in cache to "
_COPIED = "Copied (server-side copy) to: "
_FAILED = re.compile(
    r"vfs cache: failed to upload try #(\d+), will retry in [^:]+: (.*)", re.DOTALL
)


@dataclass(frozen=True)
class Entry:
    """Something that happened to a file; ``name`` is its path in the mount.

    The log does not say in which of the user's mounts. ``at`` is the node's unix time.
    """

    name: str
    at: float


class Queued(Entry):
    """It was closed with changes, which wait for their upload from now on."""


class Uploaded(Entry):
    """Its upload succeeded."""


@dataclass(frozen=True)
class Failed(Entry):
    """An upload failed, will be tried again; ``reason`` is rclone's text."""

    tries: int
    reason: str


@dataclass(frozen=True)
class Renamed(Entry):
    """It has a new name in the cache."""

    new: str


@dataclass(frozen=True)
class Copied(Entry):
    """Its object was copied within the storage: a rename of what had been uploaded."""

    new: str


@dataclass(frozen=True)
class Position:
    """How far the log was read.

    ``mark`` is the beginning of the file, which tells it from others after a rotation: it
    holds the time of its first line to the nanosecond.
    """

    mark: str = ""
    offset: int = 0


class Journal:
    """Reads what was added to the log since ``position``; blocking.

    A log that was rotated away altogether is skipped: its entries are lost.
    """

    def __init__(self, log: Path, position: Position | None = None) -> None:
        self._log = log
        self.position = position or Position()
        self._seen: tuple[int, int] = (0, -1)

    @property
    def has_news(self) -> bool:
        """Whether the log has changed since it was last read to its end; costs one stat."""
        try:
            found = self._log.stat()
        except FileNotFoundError:
            return False
        return (found.st_ino, found.st_size) != self._seen

    def read(self) -> list[Entry]:
        """The entries since the last time, at most those of a MiB of the log."""
        left, entries = _MOST_BYTES, []
        for path in self._unread():
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue  # renamed or removed by a rotation just now
            with file:
                found = _stat(file)
                mark = _mark(file)
                if mark != self.position.mark:
                    self.position = Position(mark)
                file.seek(self.position.offset)
                data = file.read(left)
            whole = data.rfind(b"\n") + 1
            entries += list(_entries(data[:whole]))
            self.position = Position(mark, self.position.offset + whole)
            left -= whole
            if path == self._log and len(data) == whole:
                self._seen = found
            if left <= 0 or len(data) > whole:
                break
        return entries

    def _unread(self) -> list[Path]:
        """The file that was read last and those after it; all of them if it is gone."""
        files = log_files(self._log)
        for index, path in enumerate(files):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                if self.position.mark and _mark(file) == self.position.mark:
                    return files[index:]
        return files


def log_files(log: Path) -> list[Path]:
    """The parts of a log in their order, the last of which may be missing for a moment.

    rclone names a rotated log by its time: ``rclone-2026-11-24T03-38-05.508.log``.
    """
    return [*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), log]


def _stat(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_size


def _mark(file: BinaryIO) -> str:
    """The beginning of a file's first line; "" while there is none."""
    line = file.read(_MARK_BYTES)
    return line.decode("utf-8", "replace") if len(line) == _MARK_BYTES else ""


def _entries(data: bytes) -> Iterator[Entry]:
    for line in data.splitlines():
        if any(sign in line for sign in _SIGNS):
            try:
                entry = _entry(json.loads(line))
            except (ValueError, KeyError, TypeError, SyntaxError):
                continue  # no line of rclone's
            if entry:
                yield entry


def _entry(record: dict[str, Any]) -> Entry | None:
    text, name = str(record["msg"]), str(record["object"])
    at = datetime.fromisoformat(record["time"]).timestamp()
    if text.startswith(_QUEUED):
        return Queued(name, at)
    if text.startswith(_UPLOADED):
        return Uploaded(name, at)
    if text.startswith(_RENAMED):
        # Go's %q, whose escapes Python shares.
        return Renamed(name, at, str(ast.literal_eval(text.removeprefix(_RENAMED))))
    if text.startswith(_COPIED):
        return Copied(name, at, text.removeprefix(_COPIED))
    if found := _FAILED.match(text):
        return Failed(name, at, int(found[1]), found[2])
    return None
