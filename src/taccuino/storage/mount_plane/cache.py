"""The write-back cache on disk: what rclone wrote there, and what it did not write down.

For each cached file rclone keeps the data, a sparse file, in ``vfs/<remote>/<path>`` and a
JSON text about it in ``vfsMeta/<remote>/<path>``. It writes the text in place when a file is
opened, when it is first changed, and once more some time after its last ``close()``; not at
``fsync()``, which rclone's mount ignores (rclone 1.75, ``vfs/vfscache/item.go``). A killed
rclone so leaves a text that knows only the first of many changes; the next rclone believes
it, and fetches the rest of the file from the object, over what was saved.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from .held import HeldFile, held_files, hold
from .ranges import Range, covers, local_ranges
from .texts import as_json, described, recorded, texts, write_text

__all__ = ["dirty_files", "hold_unfinished", "repair"]

log = logging.getLogger(__name__)

_BLOCK = 4096


def dirty_files(cache: Path) -> int:
    """How many files have not been uploaded; blocking.

    One whose text can't be read counts: what may be unsaved is not thrown away.
    """
    waiting = sum(about is None or bool(about.get("Dirty")) for _, about in texts(cache))
    return waiting + len(held_files(cache))


def repair(cache: Path, aside: Path) -> list[str]:
    """Save what a killed rclone left half-described; blocking, with no rclone running.

    - A file that was changed, and whose data is all here, is described as such.
    - One that was changed while only a part of its object was here is held until the
      object can be read (`held`): an rclone that starts without its storage would upload
      it with holes.
    - One whose text can't be read, left empty by a kill or by a full disk: it is marked
      for its upload if it has no holes. Otherwise nobody knows whether it was changed; it
      is kept in ``aside``, and its path is returned.
    """
    kept = []
    for text, about in texts(cache):
        path = text.relative_to(cache / "vfsMeta")
        data = cache / "vfs" / path
        try:
            found = data.stat()
        except FileNotFoundError:
            if about is None:
                text.unlink()
            continue
        if about is None:
            if _has_no_holes(data):
                write_text(text, described(found))
                log.warning("%s: marked for its upload; its description was lost", data)
            else:
                _put_aside(data, aside / path)
                text.unlink()
                kept.append(str(path))
        elif about.get("Dirty"):
            _complete_text(cache, path, text, about)
    kept += _adopt_orphans(cache, aside)
    return kept


def hold_unfinished(cache: Path, name: str, before: float) -> list[HeldFile]:
    """Hold a file that rclone gave up on when it was closed; blocking, beside a live rclone.

    When a file of which only a part is here is changed and closed, rclone fetches the rest
    first. If that fails, the change is neither queued nor told, and the next ``open()``
    deletes it. ``name`` is what rclone's log calls the file, in whichever mount, and
    ``before`` is the time of the log's line: what was changed later is another matter.
    """
    held = []
    for text, about in texts(cache):
        path = text.relative_to(cache / "vfsMeta")
        if not (about and about.get("Dirty") and f"/{path}".endswith(f"/{name}")):
            continue
        data = cache / "vfs" / path
        try:
            if text.stat().st_mtime > before:
                continue
            ranges, size = _local(data, about), data.stat().st_size
            if not covers(ranges, Range(0, size)):
                held.append(hold(cache, path, about, ranges, move=False))
        except FileNotFoundError:
            continue
    return held


def _complete_text(cache: Path, path: Path, text: Path, about: dict[str, Any]) -> None:
    """Let the text of a changed file tell all that is here of it, or hold the file."""
    data = cache / "vfs" / path
    size = data.stat().st_size
    ranges = _local(data, about)
    if not covers(ranges, Range(0, size)):
        hold(cache, path, about, ranges, move=True)
        text.unlink()
        log.warning("%s: a part of it is held until its object can be read", data)
        return
    whole = [Range(0, size)] if size else []
    if whole != recorded(about) or about.get("Size") != size:
        write_text(text, {**about, "Size": size, "Rs": as_json(whole)})
        log.warning("%s: described anew; rclone was killed while it was open", data)


def _local(data: Path, about: dict[str, Any]) -> list[Range]:
    """The ranges of a changed file that hold what was written, or fetched before."""
    with data.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        before = int(about.get("Size") or 0)
        return local_ranges(size, before, recorded(about), _written(file.fileno()))


def _written(descriptor: int) -> list[Range]:
    """The parts of a sparse file that were written to (lseek(2), SEEK_DATA).

    The file system knows blocks, not bytes: zeros in the first and the last block of a
    part, before and after its content, are left out.
    """
    size, end, found = os.fstat(descriptor).st_size, 0, []
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            break
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        first = os.pread(descriptor, min(_BLOCK, end - start), start)
        last = os.pread(descriptor, min(_BLOCK, end - start), max(start, end - _BLOCK))
        begin = start + len(first) - len(first.lstrip(b"\0"))
        finish = end - (len(last) - len(last.rstrip(b"\0")))
        if begin < finish:
            found.append(Range(begin, finish))
    return found


def _has_no_holes(path: Path) -> bool:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return size == 0 or os.lseek(file.fileno(), 0, os.SEEK_HOLE) >= size


def _adopt_orphans(cache: Path, aside: Path) -> list[str]:
    """Describe the data that has no text; rclone would delete it.

    A rename is two: rclone killed between them leaves the data under its new name and the
    text under the old one.
    """
    kept = []
    for folder, _, names in os.walk(cache / "vfs"):
        for name in names:
            data = Path(folder, name)
            path = data.relative_to(cache / "vfs")
            text = cache / "vfsMeta" / path
            found = data.stat()
            if text.exists() or not found.st_blocks:
                continue
            if _has_no_holes(data):
                text.parent.mkdir(parents=True, exist_ok=True)
                write_text(text, described(found))
                log.warning("%s: marked for its upload; it had no description", data)
            else:
                _put_aside(data, aside / path)
                kept.append(str(path))
    return kept


def _put_aside(data: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(data, target)
    log.error("%s: written to when rclone was killed; kept as %s", data, target)
