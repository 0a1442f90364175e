"""Rules of keys: which are taken, what is a folder, names that are free. All pure."""

from __future__ import annotations

import re
from collections.abc import Container

from taccuino.storage.snapshots import RESERVED

from .errors import CallError

__all__ = ["check_folder", "check_key", "check_prefix", "name_of", "numbered"]

_LONGEST = 1024
"""Bytes of a key (S3)."""
_DOTS = {".", ".."}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_key(key: object, *, what: str = "key") -> str:
    """A key that may be written, read, or put into an address.

    A segment ``.`` or ``..`` is refused: browsers take it out of an address, and in the
    mounted directory it would mean another file.

    Raises
    ------
    CallError
        400 with a sentence, if it is none.
    """
    if not isinstance(key, str) or not key:
        raise CallError(400, f"{what}: name a file or a folder.")
    if key.startswith("/"):
        raise CallError(400, f"{what}: a path here does not begin with a slash.")
    return _check(key, what)


def check_prefix(prefix: object) -> str:
    """A folder to look into; the empty one is the whole bucket."""
    if prefix is None or prefix == "":
        return ""
    if not isinstance(prefix, str):
        raise CallError(400, "prefix: name a folder.")
    return _check(prefix, "prefix")


def check_folder(key: object, *, what: str = "key") -> str:
    """A folder's key, with the slash at its end."""
    key = check_key(key, what=what)
    return key if key.endswith("/") else f"{key}/"


def _check(key: str, what: str) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise CallError(400, f"{what}: this is no text in UTF-8.") from None
    if size > _LONGEST:
        raise CallError(
            400, f"{what}: {size} bytes are too long; the path may have {_LONGEST} bytes."
        )
    if _CONTROL.search(key):
        raise CallError(400, f"{what}: a name has no control characters.")
    if _DOTS & set(key.split("/")):
        raise CallError(400, f"{what}: a file or a folder can't be called '.' or '..'.")
    if f"{key}/".startswith(RESERVED):
        raise CallError(400, f"{what}: {RESERVED} is what this service keeps for itself.")
    return key


def name_of(key: str) -> str:
    """The last part of a key, without a folder's slash."""
    return key.rstrip("/").rpartition("/")[2] or key


def numbered(key: str, taken: Container[str]) -> str:
    """The key, or the first free one that is made of it: ``notes (2).ipynb``."""
    if key not in taken:
        return key
    folder = key.endswith("/")
    base, _, name = key.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if folder or not stem:
        stem, dot, suffix = name, "", ""
    lead, tail = (f"{base}/" if base else ""), ("/" if folder else "")
    number = 2
    while (candidate := f"{lead}{stem} ({number}){dot}{suffix}{tail}") in taken:
        number += 1
    return candidate
