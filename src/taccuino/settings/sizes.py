"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["Size", "format_size", "parse_size"]

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?\s*$", re.IGNORECASE)
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_size(text: str | float) -> int:
    """Bytes of a size such as ``"2G"``, ``"512M"`` or ``1073741824`` (powers of 1024).

    Raises
    ------
    ValueError
        If the text is no size, or not greater than zero.
    """
    match = _SIZE.match(str(text))
    if not match:
        raise ValueError(f"{str(text)[:40]!r} is not a size; write it such as 512M, 2G or 1.5G")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size <= 0:
        raise ValueError(f"{str(text)[:40]!r} is not a size greater than zero")
    return size


def format_size(size: int) -> str:
    """The shortest exact text of a size in bytes: ``2147483648`` is ``"2G"``."""
    for unit in ("T", "G", "M", "K"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _canonical_size(text: str) -> str:
    return format_size(parse_size(text))


Size = Annotated[str, AfterValidator(_canonical_size)]
"""A size in bytes, written such as ``"2G"`` (powers of 1024) and kept in its shortest form."""
