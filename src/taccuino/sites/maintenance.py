"""Maintenance mode: a file in the state directory, so that it outlasts the hub."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import ValidationError

from taccuino.private_files import write_private

from .state import Maintenance

__all__ = ["MaintenanceFile"]


class MaintenanceFile:
    """Whether the site is in maintenance: read again whenever the file changed.

    Parameters
    ----------
    state_dir
        The site's state directory.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "hub/maintenance.json"
        self._read_at: int | None = None
        self._known: Maintenance | None = None

    @property
    def current(self) -> Maintenance | None:
        """What was begun, if it was not ended."""
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            self._read_at, self._known = None, None
            return None
        if changed != self._read_at:
            try:
                self._known = Maintenance.model_validate_json(self._path.read_text())
            except (OSError, UnicodeDecodeError, ValidationError):
                # Somebody made the file: that they meant it is the safe reading.
                self._known = Maintenance(since=changed / 1e9)
            self._read_at = changed
        return self._known

    def begin(self, message: str = "") -> Maintenance:
        """Begin it, or change its message.

        Raises
        ------
        OSError
            If the file can't be written.
        """
        since = self.current.since if self.current else time.time()
        begun = Maintenance(since=since, message=message)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._path, begun.model_dump_json())
        return begun

    def end(self) -> bool:
        """End it; whether it had begun."""
        there = self._path.exists()
        self._path.unlink(missing_ok=True)
        return there
