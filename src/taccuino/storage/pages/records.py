"""What the pages remember: links that share a file, and what a deletion can be undone with.

One SQLite file, for its owner alone. A link's id is kept as it is, not as a digest: the owner
may want to copy the link again, and who can read this file can read the storage's keys too.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Deletion", "Records", "Share"]

_ID_BYTES = 24
"""192 bits of randomness: at a million guesses a second, guessing one of a million links takes
longer than the sun will burn, so guesses need not be counted."""
_UNDO_SECONDS = 3600
_SCHEMA = """
CREATE TABLE IF NOT EXISTS shares (
    id TEXT PRIMARY KEY, username TEXT NOT NULL, bucket TEXT NOT NULL, key TEXT NOT NULL,
    etag TEXT NOT NULL, created REAL NOT NULL, expires REAL NOT NULL);
CREATE INDEX IF NOT EXISTS shares_of ON shares (username);
CREATE TABLE IF NOT EXISTS deletions (
    id TEXT PRIMARY KEY, username TEXT NOT NULL, bucket TEXT NOT NULL, markers TEXT NOT NULL,
    at REAL NOT NULL);
"""


@dataclass(frozen=True)
class Share:
    """A link that shares one file until a moment."""

    id: str
    username: str
    bucket: str
    key: str
    etag: str
    """The file's, when it was shared."""
    created: float
    expires: float


@dataclass(frozen=True)
class Deletion:
    """What was deleted: for each key, the version id of the marker that hides it."""

    bucket: str
    markers: dict[str, str]


class Records:
    """The file; its calls are short, block, and may come from any thread."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._now = now
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript(_SCHEMA)

    def _do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    def add_share(self, username: str, bucket: str, key: str, etag: str, seconds: int) -> Share:
        """Keep a new link."""
        now = self._now()
        self._do("DELETE FROM shares WHERE expires <= ?", now)
        share = Share(
            secrets.token_urlsafe(_ID_BYTES), username, bucket, key, etag, now, now + seconds
        )
        self._do(
            "INSERT INTO shares VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(share.id, username, bucket, key, etag, share.created, share.expires),
        )
        return share

    def share(self, id_: str) -> Share | None:
        """The link of an id, if it has not ended."""
        found = self._do("SELECT * FROM shares WHERE id = ? AND expires > ?", id_, self._now())
        return Share(*found[0]) if found else None

    def shares_of(self, username: str) -> list[Share]:
        """A user's links that have not ended, the newest first."""
        found = self._do(
            "SELECT * FROM shares WHERE username = ? AND expires > ? ORDER BY created DESC",
            *(username, self._now()),
        )
        return [Share(*row) for row in found]

    def revoke(self, id_: str, username: str) -> bool:
        """End a user's own link now; whether there was one."""
        gone = self._do(
            "DELETE FROM shares WHERE id = ? AND username = ? AND expires > ? RETURNING id",
            *(id_, username, self._now()),
        )
        return bool(gone)

    def add_deletion(self, username: str, bucket: str, markers: dict[str, str]) -> str:
        """Keep what an undo needs; its token."""
        self._do("DELETE FROM deletions WHERE at <= ?", self._now() - _UNDO_SECONDS)
        token = secrets.token_urlsafe(_ID_BYTES)
        self._do(
            "INSERT INTO deletions VALUES (?, ?, ?, ?, ?)",
            *(token, username, bucket, json.dumps(markers), self._now()),
        )
        return token

    def deletion(self, token: str, username: str) -> Deletion | None:
        """A user's own deletion, if it is not long ago."""
        found = self._do(
            "SELECT bucket, markers FROM deletions WHERE id = ? AND username = ? AND at > ?",
            *(token, username, self._now() - _UNDO_SECONDS),
        )
        return Deletion(found[0][0], json.loads(found[0][1])) if found else None

    def drop_deletion(self, token: str) -> None:
        """Forget a deletion that was undone."""
        self._do("DELETE FROM deletions WHERE id = ?", token)
