"""Holds up who asks for the object storage while it is being mounted.

A server that was claimed from the pool is ready before the user's bucket is mounted, which
takes a tenth of a second more. Whoever looks at it meanwhile must not see an empty directory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

from .contract import Contract
from .status_file import STATUS_FILE, StatusFile

__all__ = ["PENDING_VARIABLE", "StorageGate"]

PENDING_VARIABLE = "TACCUINO_STORAGE_PENDING"
"""``1``: the object storage is being mounted, and most likely there in a moment."""
_PATIENCE = 5.0
"""Seconds until it is not worth waiting for: what is wrong is told elsewhere."""
_LOOK_SECONDS = 0.01


class StorageGate:
    """Open where nothing is to come, once it has come, or after some seconds."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._open = environment.get(PENDING_VARIABLE) != "1"
        self._file = StatusFile(Path(Contract(environment).workarea, STATUS_FILE))
        self._deadline = time.monotonic() + _PATIENCE

    async def wait(self) -> None:
        """Return when the object storage can be looked at."""
        # The mount plane replaces its file when all is mounted; asking costs one stat(2).
        while not self._open:
            report = self._file.read()
            there = report is not None and report.state == "mounted"
            self._open = there or time.monotonic() > self._deadline
            if not self._open:
                await asyncio.sleep(_LOOK_SECONDS)
