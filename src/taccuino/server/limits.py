"""The container's limits as seen from inside: what was killed for memory, what room is left."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = [
    "memory_kills",
    "memory_room",
    "room_for_a_spare",
    "size_in_words",
    "workarea_warning",
]

_LEAST_MEMORY = 1024**3  # bytes that a server with a spare kernel may use
_LEAST_FREE = 256 * 1024**2  # bytes; a spare kernel takes some 36 MB
_V1 = Path("/sys/fs/cgroup/memory/memory.oom_control")
_V2 = Path("/sys/fs/cgroup/memory.events")


def memory_kills(files: tuple[Path, ...] = (_V2, _V1)) -> int | None:
    """How many processes the kernel killed for the container's memory limit; None if unknown.

    ``oom_kill`` is in ``memory.events`` (cgroup v2) and ``memory.oom_control`` (v1); engines'
    own ``OOMKilled`` tells only of the container's first process.
    """
    for path in files:
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdecimal():
                return int(value)
    return None


def memory_room(
    groups: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")
) -> tuple[int | None, int | None]:
    """The memory limit, and how much memory is free, in bytes; `None` where it is unknown.

    Files that were read count as used in a control group, and make room when it is needed.
    """
    limit, used = _number(groups / "memory.max"), _number(groups / "memory.current")
    cache = _field(groups / "memory.stat", "inactive_file")
    v1 = groups / "memory"
    if used is None:
        limit = _number(v1 / "memory.limit_in_bytes")
        used = _number(v1 / "memory.usage_in_bytes")
        cache = _field(v1 / "memory.stat", "total_inactive_file")
    free = [kib * 1024] if (kib := _field(meminfo, "MemAvailable:")) is not None else []
    if limit is not None and used is not None:
        free.append(limit - used + (cache or 0))
    return limit, min(free, default=None)


def room_for_a_spare(limit: int | None, free: int | None) -> bool:
    """Whether the memory of a spare kernel is not missed (bytes; `None` is unknown)."""
    return (limit is None or limit >= _LEAST_MEMORY) and (free is None or free >= _LEAST_FREE)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _field(path: Path, name: str) -> int | None:
    """The number that stands behind a name at the beginning of a line."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None


def size_in_words(size: int) -> str:
    """A size in bytes as the offers write it: ``2147483648`` is ``2G``."""
    for unit, power in (("T", 4), ("G", 3), ("M", 2)):
        amount = size / 1024**power
        if amount >= 1:
            return f"{amount:.1f}".removesuffix(".0") + unit
    return f"{size // 1024}K"


def workarea_warning(
    path: str, *, share: float = 0.05, room: int = 100 * 1024**2
) -> str | None:
    """A sentence when less than ``share``, and than ``room`` bytes, of the workarea is free.

    Inodes count as well: an area full of small files is full.
    """
    try:
        status = os.statvfs(path)
    except OSError as error:
        return f"Your workarea {path} cannot be read: {error.strerror}."
    free = status.f_bavail * status.f_frsize
    total = status.f_blocks * status.f_frsize
    if total and free < total * share and free < room:
        return (
            f"Your workarea is nearly full: {size_in_words(free)} of {size_in_words(total)} "
            "are free. Remove files, or move them to cloud_storage."
        )
    if status.f_files and status.f_favail < status.f_files * share and status.f_favail < 1000:
        return (
            f"Your workarea has room for only {status.f_favail} more files. Remove some, or "
            "pack them into an archive."
        )
    return None
