"""What the mount plane says of the user's mounts, read from a file beside them.

``cloud_storage/.taccuino/status.json`` is there while the hub or the object storage is away,
and costs one stat(2) to ask: see ``docs/developers/architecture.md``, *storage*. It lies in
the directory that holds the mounts, which is no mount of rclone's and does not hang.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["STATUS_FILE", "MountReport", "StatusFile"]

STATUS_FILE = "cloud_storage/.taccuino/status.json"
"""Below the workarea."""

_LARGEST = 1024 * 1024  # bytes


class MountReport:
    """The state of a user's mounts; fields of another type than agreed are left out."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.state = str(told.get("state") or "")
        self.fault = _text(told.get("fault"))
        pending = told.get("uploads_pending")
        self.uploads_pending = pending if isinstance(pending, int) and pending > 0 else 0
        self.upload_errors = [
            text for item in _list(told, "upload_errors") if (text := _text(item))
        ]
        self.conflicts = [
            {"path": path, "copy": copy}
            for item in _list(told, "conflicts")
            if isinstance(item, dict)
            and (path := _text(item.get("path")))
            and (copy := _text(item.get("copy")))
        ]

    @property
    def away(self) -> bool:
        """Whether the object storage, or a part of it, can't be used now."""
        return bool(self.fault) or self.state in ("failed", "absent")


def _list(told: Mapping[str, Any], name: str) -> list[Any]:
    value = told.get(name)
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


class StatusFile:
    """The file, read anew when it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._report: MountReport | None = None

    def read(self) -> MountReport | None:
        """What it says; `None` without one. One that can't be understood is as good as none."""
        try:
            found = self._path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen != self._seen:
                with self._path.open("rb") as file:
                    told = json.loads(file.read(_LARGEST))
                self._report = MountReport(told) if isinstance(told, dict) else None
                self._seen = seen
        except (OSError, ValueError):
            self._seen = self._report = None
        return self._report
