"""Files that only their owner may read: keys, passwords, and what holds them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["keep_private", "write_private"]


def write_private(path: Path, text: str) -> None:
    """Write a file in one step; it is never readable by others, not even for a moment."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def keep_private(path: Path, make: Callable[[], str]) -> str:
    """Read the file, or write what ``make`` gives if there is none: a choice made once."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, make())
    return path.read_text(encoding="utf-8")
