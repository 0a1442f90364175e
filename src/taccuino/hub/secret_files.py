"""The hub's secrets: one file each, mode 0600, made at first use."""

from __future__ import annotations

import secrets
from pathlib import Path

from taccuino.errors import Fault, SettingsError
from taccuino.private_files import keep_private

__all__ = ["secret"]

_BYTES = 32  # 256 bits: an AES-256 key, and more than any token needs


def secret(path: Path) -> str:
    """The secret in a file (hexadecimal); a new one, kept there, where there is none.

    Raises
    ------
    SettingsError
        If the file can't be read or written, or others may read it.
    """
    try:
        text = keep_private(path, lambda: secrets.token_hex(_BYTES))
        if path.stat().st_mode & 0o077:
            fault = Fault(str(path), "others may read this secret", f"chmod 600 {path}")
            raise SettingsError("the hub's secrets", [fault])
        return text.strip()
    except OSError as error:
        fault = Fault(str(path), str(error.strerror), "let the hub's user read and write it")
        raise SettingsError("the hub's secrets", [fault]) from error
