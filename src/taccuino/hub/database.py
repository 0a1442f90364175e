"""The hub's SQLite file, as quick as it may be."""

from __future__ import annotations

import sqlite3
from typing import Any

__all__ = ["HubDatabase"]


class HubDatabase(sqlite3.Connection):
    """A connection that writes ahead (https://sqlite.org/wal.html).

    JupyterHub commits six times in a start, in its event loop, and each commit waited for the
    disk twice. With a log that is written ahead it waits only now and then. What was committed
    outlives the hub's own end; a power cut may take the last moments, and with them at most
    logins and servers, which it ends too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")
