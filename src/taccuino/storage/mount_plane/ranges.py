"""Ranges of bytes: which parts of a cached file are really here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Range", "covers", "local_ranges", "merged"]


class Range(NamedTuple):
    """Bytes from ``start`` to ``end``, that one excluded."""

    start: int
    end: int


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes in order, without overlaps and empty ranges."""
    found: list[Range] = []
    for item in sorted(ranges):
        if item.start >= item.end:
            continue
        if found and item.start <= found[-1].end:
            found[-1] = Range(found[-1].start, max(found[-1].end, item.end))
        else:
            found.append(item)
    return found


def covers(ranges: Iterable[Range], wanted: Range) -> bool:
    """Whether all bytes of ``wanted`` are in merged ranges."""
    return wanted.start >= wanted.end or any(
        item.start <= wanted.start and wanted.end <= item.end for item in ranges
    )


def local_ranges(
    size: int, size_before: int, recorded: Iterable[Range], written: Iterable[Range]
) -> list[Range]:
    """The ranges of a changed file that are here; what is between them is in the object.

    Parameters
    ----------
    size
        Of the file now, in bytes.
    size_before
        When rclone wrote its text, at the first change: what lies beyond can only be new. A
        file that was emptied before it was written has nothing in the object any more.
    recorded
        What was here then.
    written
        What was seen to be written to on disk, whenever that was.
    """
    known = [*recorded, *written, Range(min(size_before, size), size)]
    return merged(Range(item.start, min(item.end, size)) for item in known)
