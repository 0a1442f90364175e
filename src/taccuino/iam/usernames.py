"""Usernames: what may become a user's name in the hub.

The name goes into paths, bucket names, policies and host names, so it is held to letters
that are safe in all of them and everything else is refused, not mended: two accounts of the
IAM must never become one user here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, Final

from taccuino.errors import TaccuinoError

__all__ = ["UsernameError", "checked_username"]

_USERNAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}", re.ASCII)


class UsernameError(TaccuinoError):
    """A name that can't be a user's name here."""


def checked_username(value: Any, *, reserved: Collection[str] = ()) -> str:
    """The user's name in lower case.

    Raises
    ------
    UsernameError
        If there is no name, it has characters other than ``a-z 0-9 . _ @ -``, does not begin
        with a letter or a digit, contains two dots in a row, is longer than 64 characters, or
        is reserved.
    """
    if not isinstance(value, str) or not value:
        raise UsernameError(
            "The identity service sent no username. The administrators of this service must "
            "ask for another scope, or name another claim in iam.username_claim."
        )
    name = value.lower() if value.isascii() else value
    shown = ascii(value[:64])
    if not _USERNAME.fullmatch(name) or ".." in name:
        raise UsernameError(
            f"The username {shown} can't be used here: it must be 1 to 64 characters of "
            "a-z, 0-9, '.', '_', '@' and '-', and begin with a letter or a digit."
        )
    if name in reserved:
        raise UsernameError(
            f"The username {shown} is reserved by this service. Ask its administrators."
        )
    return name
