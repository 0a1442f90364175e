"""Keeps the caches within their limits: one user's, all users', and the disk's free room.

rclone's own limits are for each mount, and a user has several; and one rclone knows nothing
of another's. So the files that were unused for longest are taken out from outside, beside a
running rclone, which fetches such a file again when it is opened (rclone 1.75,
``Item._truncate``: "detected external removal of cache file").

Only a file that nobody has open may go. The kernel tells: it grants a write lease (fcntl(2),
``F_SETLEASE``) on no other, and whoever opens the file then waits until we gave it back.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from taccuino.settings import Settings, parse_size

from .cache import dirty_files
from .configuration import least_free
from .held import held_notes
from .layout import UserPaths
from .texts import read_text

__all__ = ["CacheBudget", "CachedFile", "cached_files", "evict", "to_evict"]

log = logging.getLogger(__name__)

_AT_ONCE = 256
_GRACE_SECONDS = 0.1
"""Longer than an open() takes from finding the file to asking for the lease."""
_EVICTED = "evicted"
_DROPPED = ".dropped-"
_KEEP_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class CachedFile:
    """A file in the cache of a user: ``bytes`` on disk, ``used`` last at that unix time."""

    cache: Path
    path: str
    bytes: int
    used: float

    @property
    def user(self) -> str:
        """The slug of the user whose cache it is in."""
        return self.cache.name

    @property
    def data(self) -> Path:
        """What was fetched or written."""
        return self.cache / "vfs" / self.path

    @property
    def text(self) -> Path:
        """What rclone knows about it."""
        return self.cache / "vfsMeta" / self.path


def used_bytes(cache: Path) -> int:
    """How much of the disk a cache takes; blocking."""
    return sum(found.st_blocks * 512 for _, found in _stats(cache))


def cached_files(cache: Path) -> list[CachedFile]:
    """What could be taken out of a cache: all that does not wait for its upload; blocking."""
    found = []
    for data, stat in _stats(cache):
        path = str(data.relative_to(cache / "vfs"))
        file = CachedFile(cache, path, stat.st_blocks * 512, _used(cache / "vfsMeta" / path))
        if file.used and file.bytes:
            found.append(file)
    return found


def to_evict(
    files: Iterable[CachedFile],
    used: dict[str, int],
    *,
    per_user: int,
    total: int,
    short: int = 0,
    mounted: Collection[str] = (),
) -> list[CachedFile]:
    """Which files go, so that all limits hold or nothing is left that may go.

    Parameters
    ----------
    used
        Bytes that each user's cache takes, with what can't be taken out.
    per_user, total
        The limits, in bytes.
    short
        Bytes that the disk lacks of what must be free.
    mounted
        Users with something mounted: files of others go first.
    """
    over = {user: size - per_user for user, size in used.items()}
    excess = max(sum(used.values()) - total, short)
    chosen = []
    oldest = sorted(files, key=lambda file: file.used)
    for file in oldest:
        if over.get(file.user, 0) > 0:
            over[file.user] -= file.bytes
            excess -= file.bytes
            chosen.append(file)
    taken = set(chosen)
    for file in sorted(oldest, key=lambda file: file.user in mounted):
        if excess <= 0:
            break
        if file not in taken:
            excess -= file.bytes
            chosen.append(file)
    return chosen


def evict(files: Iterable[CachedFile]) -> int:
    """Take files out of their caches; the bytes that became free. Blocking.

    One that is open, or waits for its upload by now, stays.
    """
    waiting, freed = list(files), 0
    while waiting:
        some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        freed += _evict_some(some)
    return freed


def put_back(cache: Path) -> None:
    """Put back what a killed daemon had moved out of the way; blocking."""
    for moved in (cache / _EVICTED).rglob("*"):
        data = cache / "vfs" / moved.relative_to(cache / _EVICTED)
        if moved.is_file() and not data.exists() and data.parent.is_dir():
            moved.replace(data)
    shutil.rmtree(cache / _EVICTED, ignore_errors=True)


def _evict_some(files: Iterable[CachedFile]) -> int:
    freed = 0
    with contextlib.ExitStack() as leases:
        moved: list[tuple[CachedFile, int]] = []
        for file in files:
            try:
                descriptor = leases.enter_context(_lease(file.data))
                if not _used(file.text) or descriptor is None:
                    continue
                aside = file.cache / _EVICTED / file.path
                aside.parent.mkdir(parents=True, exist_ok=True)
                file.data.rename(aside)
            except OSError as error:
                log.debug("%s: %s", file.data, error)
                continue
            moved.append((file, descriptor))
        if moved:
            time.sleep(_GRACE_SECONDS)
        for file, descriptor in moved:
            aside = file.cache / _EVICTED / file.path
            if fcntl.fcntl(descriptor, fcntl.F_GETLEASE) != fcntl.F_WRLCK:
                aside.rename(file.data)  # somebody waits for it
                continue
            aside.unlink()  # the text may be a new file's by now; rclone drops it otherwise
            freed += file.bytes
    return freed


@contextlib.contextmanager
def _lease(path: Path) -> Iterator[int | None]:
    """A descriptor of a file that nobody else has open, nor can open now; else None."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Told of an open() by a signal that nobody minds; SIGIO would end the process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            yield None
            return
        try:
            yield descriptor
        finally:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def _used(text: Path) -> float:
    """When a file was used last; 0 if it is not known to be as its object is."""
    try:
        about = read_text(text)
        if about is None or about.get("Dirty") is not False:
            return 0.0
        return datetime.fromisoformat(about["ATime"]).timestamp()
    except (FileNotFoundError, KeyError, ValueError, TypeError):
        return 0.0


def _stats(cache: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, _, names in os.walk(cache / "vfs"):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()


class CacheBudget:
    """Holds all caches of this node to the settings' limits."""

    def __init__(self, settings: Settings) -> None:
        plane = settings.mount_plane
        assert plane.cache_directory is not None
        self._settings = settings
        self._directory = plane.cache_directory
        self._per_user = parse_size(plane.cache_size)
        self._total = parse_size(plane.cache_total_size)

    def put_back(self) -> None:
        """After a start: put back what a killed daemon had moved out of the way; blocking."""
        for cache in self._caches():
            put_back(cache)

    def short(self) -> int:
        """How many bytes the disk lacks of what is to be free; blocking."""
        disk = shutil.disk_usage(self._directory)
        return max(0, least_free(self._directory) - disk.free)

    def is_full(self) -> bool:
        """Whether so little is left of the disk that files are refused, or soon will be."""
        return shutil.disk_usage(self._directory).free < least_free(self._directory) // 4

    def enforce(self, mounted: Collection[str]) -> int:
        """Take out what is too much; the bytes that became free. Blocking."""
        caches = self._caches()
        used = {cache.name: used_bytes(cache) for cache in caches}
        short = self.short()
        over = short or sum(used.values()) > self._total
        over = over or any(size > self._per_user for size in used.values())
        if not over:
            return 0
        chosen = to_evict(
            [file for cache in caches for file in cached_files(cache)],
            used,
            per_user=self._per_user,
            total=self._total,
            # Half as much again, so that not every file that is saved has others dropped.
            short=short and short + least_free(self._directory) // 2,
            mounted=mounted,
        )
        freed = evict(chosen)
        if freed:
            log.info("%d bytes of cached files were dropped", freed)
        return freed

    def drop_unused(self, known: Callable[[], Collection[str]]) -> None:
        """Drop the caches that nobody used for a day and nothing of which is dirty; blocking.

        ``known`` are the users with something mounted or waiting, as they are right now.
        """
        for begun in self._directory.glob(f"{_DROPPED}*"):  # by a daemon that was killed
            shutil.rmtree(begun, ignore_errors=True)
        for cache in self._caches():
            old = time.time() - cache.stat().st_mtime > _KEEP_SECONDS
            if not old or cache.name in known():
                continue
            if left := dirty_files(cache) or held_notes(cache):
                log.error("%s: %d file(s) were never uploaded; it is kept", cache, left)
                continue
            dropped = cache.with_name(f"{_DROPPED}{cache.name}")
            if cache.name not in known():
                cache.rename(dropped)
                texts = UserPaths.of(self._settings, cache.name).cache_texts
                shutil.rmtree(texts, ignore_errors=True)
                shutil.rmtree(dropped, ignore_errors=True)

    def _caches(self) -> list[Path]:
        return [
            path
            for path in self._directory.iterdir()
            if path.is_dir() and not path.name.startswith((_DROPPED, "lost+found"))
        ]
