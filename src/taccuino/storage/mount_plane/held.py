"""Files that were changed while only a part of them was in the cache.

They are held beside rclone's cache, ``held/<n>/data`` with ``held/<n>/note.json``, until the
object that the rest is in can be read; then they are put together and saved through the
mount. rclone itself uploads such a file with holes when it starts without its storage, and
forgets it when the rest can't be fetched (rclone 1.75, ``Item.reload`` and ``Item.Close``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taccuino.private_files import write_private

from .configuration import Part
from .conflicts import conflict_name
from .layout import UserPaths
from .ranges import Range
from .rclone import Rclone
from .texts import described, write_text

__all__ = ["HeldFile", "held_files", "held_notes", "hold", "restore", "restore_before_mount"]

log = logging.getLogger(__name__)

_FETCH_SECONDS = 600.0
_CHUNK = 1 << 20

_told: set[Path] = set()


@dataclass(frozen=True)
class HeldFile:
    """A changed file whose rest is in its object.

    ``path`` is its place in the cache, ``<remote>/<directory>/<name>``, and ``fingerprint``
    is rclone's of the object that was changed: size, time, hash.
    """

    directory: Path
    path: str
    size: int
    ranges: tuple[Range, ...]
    fingerprint: str

    @property
    def data(self) -> Path:
        """What there is of it."""
        return self.directory / "data"

    @property
    def whole(self) -> Path:
        """The file put together, while that is done."""
        return self.directory / "whole"

    def is_of(self, stat: dict[str, Any]) -> bool:
        """Whether an object (rclone: ``operations/stat``) is the one it was changed from."""
        size, _, rest = self.fingerprint.partition(",")
        digest = rest.rpartition(",")[2]
        hashes = (stat.get("Hashes") or {}).values()
        return size == str(stat.get("Size")) and (not hashes or digest in hashes)


def held_files(cache: Path) -> list[HeldFile]:
    """All that are held, in the order in which they were; blocking."""
    found = []
    for note in _notes(cache):
        try:
            found.append(_read(note))
        except FileNotFoundError:
            continue  # put together meanwhile
        except (OSError, ValueError, KeyError, TypeError) as error:
            if note not in _told:
                _told.add(note)
                log.warning("%s can't be read (%r); what it tells of is kept", note, error)
    return [file for _, file in sorted(found, key=lambda item: item[0])]


def held_notes(cache: Path) -> int:
    """How many are held, also those whose note can't be read; blocking."""
    return sum(1 for _ in _notes(cache))


def _notes(cache: Path) -> Iterator[Path]:
    return (cache / "held").glob("*/note.json")


def _read(note: Path) -> tuple[float, HeldFile]:
    """When a file was held, and the file."""
    about = json.loads(note.read_text(encoding="utf-8"))
    ranges = tuple(Range(*item) for item in about["ranges"])
    file = HeldFile(note.parent, about["path"], about["size"], ranges, about["fingerprint"])
    return float(about["at"]), file


def hold(
    cache: Path, path: Path, about: dict[str, Any], ranges: Iterable[Range], *, move: bool
) -> HeldFile:
    """Hold a file of the cache: take it out, or with an rclone running link it; blocking.

    Its note is on the disk before the file is taken out, so that a kill, or a loss of power,
    leaves one of the two at the least.
    """
    data = cache / "vfs" / path
    (cache / "held").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(dir=cache / "held"))
    file = HeldFile(
        directory,
        str(path),
        data.stat().st_size,
        tuple(ranges),
        str(about.get("Fingerprint") or ""),
    )
    note = {
        "path": file.path,
        "size": file.size,
        "ranges": file.ranges,
        "fingerprint": file.fingerprint,
        "at": datetime.now(UTC).timestamp(),
    }
    try:
        file.data.hardlink_to(data)
        write_private(directory / "note.json", json.dumps(note))
    except OSError:  # a full disk: each try would leave another one
        shutil.rmtree(directory, ignore_errors=True)
        raise
    for earlier in held_files(cache):
        with contextlib.suppress(FileNotFoundError):  # put together meanwhile
            same = earlier.path == file.path and earlier.data.samefile(data)
            if same and earlier.directory.name != directory.name:
                shutil.rmtree(earlier.directory)  # it has grown since
    if move:
        data.unlink()
    return file


async def restore_before_mount(
    rclone: Rclone, part: Part, paths: UserPaths, timeout: float
) -> None:
    """Put together what is held of a part, and lay it into the cache before it is mounted.

    So the user never sees an earlier state of it. What can't be done here in ``timeout``
    seconds, since the storage is slow or the object was changed, is left to `restore`.

    Raises
    ------
    RcloneError, OSError
        If the storage or the disk refuses; what is held stays.
    """
    for file, name in await asyncio.to_thread(_held_of, part, paths.cache):
        if (paths.cache / "vfs" / file.path).exists():
            continue
        stat = await _stat(rclone, part, name)
        if stat and file.is_of(stat):
            await _fetch(rclone, part, name, file, timeout)
            await asyncio.to_thread(_lay, file, paths.cache)
            log.warning("%s: put together from what was held", file.path)


async def restore(
    rclone: Rclone, parts: Iterable[Part], paths: UserPaths, site: str
) -> list[str]:
    """Put together what is held, and save it through the mounts that are there.

    Returns the name of each file that can't be, its object being gone; what there is of it
    is put into ``paths.recovered``. One whose object was changed by somebody else in the
    meantime is saved beside it.

    Raises
    ------
    RcloneError, OSError
        If the storage is away again; what is held stays.
    """
    gone = []
    for part in parts:
        for file, name in await asyncio.to_thread(_held_of, part, paths.cache):
            stat = await _stat(rclone, part, name)
            if stat is None:
                await asyncio.to_thread(_put_aside, file, paths.recovered)
                gone.append(f"{part.title}/{name}")
                continue
            await _fetch(rclone, part, name, file, _FETCH_SECONDS)
            target = part.target / name
            if not file.is_of(stat) or await asyncio.to_thread(_is_changed, paths.cache, file):
                target = target.with_name(conflict_name(target.name, datetime.now(UTC), site))
            await asyncio.to_thread(_save, file, target)
            log.warning("%s: saved, put together from what was held", target)
    return gone


def _held_of(part: Part, cache: Path) -> list[tuple[HeldFile, str]]:
    """What is held of a part, and its name there."""
    root = part.vfs.replace(":", "/", 1) + "/"
    return [
        (file, file.path.removeprefix(root))
        for file in held_files(cache)
        if file.path.startswith(root) and not part.read_only
    ]


async def _stat(rclone: Rclone, part: Part, name: str) -> dict[str, Any] | None:
    """An object as rclone describes it; None if there is none."""
    # Files only: of a missing one rclone would list the directory.
    options = {"showHash": True, "filesOnly": True}
    answer = await rclone.call("operations/stat", fs=part.asked, remote=name, opt=options)
    return answer.get("item")


async def _fetch(rclone: Rclone, part: Part, name: str, file: HeldFile, timeout: float) -> None:
    """Fetch the object, and lay what was written over it: ``whole`` beside the note."""
    await rclone.call(
        "operations/copyfile",
        timeout,
        srcFs=part.asked,
        srcRemote=name,
        dstFs=str(file.directory),
        dstRemote="whole",
    )
    await asyncio.to_thread(_put_together, file)


def _is_changed(cache: Path, file: HeldFile) -> bool:
    """Whether the file was changed again, and waits for its upload."""
    try:
        about = json.loads((cache / "vfsMeta" / file.path).read_text(encoding="utf-8"))
        same = file.data.samefile(cache / "vfs" / file.path)
    except (OSError, ValueError):
        return False
    return bool(about.get("Dirty")) and not same


def _put_aside(file: HeldFile, aside: Path) -> None:
    target = aside / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file.data, target)
    shutil.rmtree(file.directory)
    log.error("%s: its object is gone; what there was of it is kept as %s", file.path, target)


def _put_together(file: HeldFile) -> None:
    with file.whole.open("r+b") as into, file.data.open("rb") as source:
        into.truncate(file.size)
        for item in file.ranges:
            position = item.start
            while position < item.end:
                piece = os.pread(source.fileno(), min(_CHUNK, item.end - position), position)
                if not piece:
                    raise OSError(errno.EIO, "it is shorter than its note says", file.data)
                os.pwrite(into.fileno(), piece, position)
                position += len(piece)


def _lay(file: HeldFile, cache: Path) -> None:
    data = cache / "vfs" / file.path
    text = cache / "vfsMeta" / file.path
    for path in (data, text):
        path.parent.mkdir(parents=True, exist_ok=True)
    found = file.whole.stat()
    file.whole.replace(data)
    write_text(text, described(found))
    shutil.rmtree(file.directory)


def _save(file: HeldFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(file.whole, target)
    except OSError:
        # rclone's first open() of a file that it gave up on only clears it away.
        shutil.copyfile(file.whole, target)
    shutil.rmtree(file.directory)
