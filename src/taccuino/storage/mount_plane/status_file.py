"""How a user's mounts are, in a file that their servers read without asking anybody.

It lies in ``cloud_storage`` beside the mounts, not in one: it is there while the object
storage is away. The directory is root's, so nobody in a container writes to it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taccuino.storage.mount_client import MountStatus

__all__ = ["StatusFile"]


class StatusFile:
    """``.taccuino/status.json``, replaced in one step when something changed; blocking."""

    def __init__(self, cloud_storage: Path) -> None:
        self._directory = cloud_storage / ".taccuino"
        self._path = self._directory / "status.json"
        self._written: dict[str, Any] | None = None

    def write(self, status: MountStatus, conflicts: Sequence[dict[str, Any]]) -> None:
        """Tell the status, if it is another one than before."""
        told = {
            "state": status.state,
            "fault": status.fault,
            "uploads_pending": status.uploads_pending,
            "upload_errors": status.upload_errors,
            "conflicts": list(conflicts),
        }
        if told == self._written or not self._directory.parent.is_dir():
            return
        self._directory.mkdir(mode=0o755, exist_ok=True)
        temporary = self._directory / "status.json.new"
        text = json.dumps({"at": int(time.time()), **told})
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            os.fchmod(descriptor, 0o644)
            file.write(text)
        temporary.replace(self._path)
        self._written = told

    def remove(self) -> None:
        """Take it away: nothing is mounted any more."""
        self._path.unlink(missing_ok=True)
        self._written = None
