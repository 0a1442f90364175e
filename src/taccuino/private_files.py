"""Files that only their owner may read: keys, passwords, and what holds them."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from .errors import Fault, SettingsError

__all__ = ["keep_private", "secret", "write_private"]

_SECRET_BYTES = 32  # 256 bits: an AES-256 key, and more than any token needs


def write_private(path: Path, text: str, *, synced: bool = True) -> None:
    """Write a file in one step; it is never readable by others, not even for a moment.

    It is on the disk then, unless ``synced`` is false: for what a start would wait for, and
    whose earlier text does no harm after a loss of power.
    """
    _temporary(path, text, synced=synced).replace(path)


def keep_private(path: Path, make: Callable[[], str]) -> str:
    """Read the file, or write what ``make`` gives if there is none: a choice made once.

    Of several who find none at the same time one writes, and all get the same text.
    """
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = _temporary(path, make())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)
        temporary.unlink()
    return path.read_text(encoding="utf-8")


def secret(path: Path) -> str:
    """The secret in a file (hexadecimal); a new one, kept there, where there is none.

    Raises
    ------
    SettingsError
        If the file can't be read or written, or others may read it.
    """
    try:
        text = keep_private(path, lambda: secrets.token_hex(_SECRET_BYTES))
        if path.stat().st_mode & 0o077:
            fault = Fault(str(path), "others may read this secret", f"chmod 600 {path}")
            raise SettingsError("the service's secrets", [fault])
        return text.strip()
    except OSError as error:
        fault = Fault(str(path), str(error.strerror), "let the service read and write it")
        raise SettingsError("the service's secrets", [fault]) from error


def _temporary(path: Path, text: str, *, synced: bool = True) -> Path:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if synced:
                file.flush()
                os.fsync(file.fileno())
    except OSError:  # a full disk: each try would leave another one
        temporary.unlink(missing_ok=True)
        raise
    return temporary
