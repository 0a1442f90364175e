"""Opens what a restarted rclone found waiting in its cache, once, before it is uploaded.

rclone uploads what an earlier one left, but does not tell the directory's entry that its
object is there now (rclone 1.75, ``Item.reload`` closes the file without a ``StoreFn``). Until
the directory is listed again, whoever opens the file finds no object, or the one before, and
rclone drops what it has just uploaded as *stale (remote deleted)*: the file reads as empty, and
what is appended to it replaces it. Once a file was read and closed through the mount, its
entry is told. Until then its upload is put off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from .configuration import Part
from .rclone import Rclone

__all__ = ["reopen"]

log = logging.getLogger(__name__)

_PUT_OFF_SECONDS = 600.0
"""Of no consequence but when the daemon ends meanwhile: then it is uploaded all the same."""
_LINK = ".rclonelink"


async def reopen(rclone: Rclone, part: Part) -> set[str]:
    """Open each file that waits in a mount; the names of those that can't be opened yet.

    They can't while the storage is away and their directory is not known; their uploads stay
    put off until this was called again. Each try may take long, so the first that fails is
    the last one, and comes last the next time.

    Raises
    ------
    RcloneError
        If rclone does not answer.
    """
    waiting = sorted(await rclone.waiting(part.vfs), key=lambda item: float(item["expiry"]))
    for item in waiting:
        if not _is_put_off(item):
            await rclone.upload_in(part.vfs, item, _PUT_OFF_SECONDS)
    names = [item["name"] for item in waiting]
    left = await asyncio.to_thread(_open_each, part.target, names)
    for item in await rclone.waiting(part.vfs):
        if left and item["name"] == left[0]:
            await rclone.upload_in(part.vfs, item, _PUT_OFF_SECONDS)
        elif _is_put_off(item) and item["name"] in names and item["name"] not in left:
            log.warning("%s: %s is not there; uploaded all the same", part.target, item["name"])
            await rclone.upload_in(part.vfs, item, 0)
    return set(left)


def _is_put_off(item: dict[str, Any]) -> bool:
    return bool(item["expiry"] > _PUT_OFF_SECONDS / 2)


def _open_each(directory: Path, names: list[str]) -> list[str]:
    """Open and close each until one can't be; its name and those after it."""
    for number, name in enumerate(names):
        try:
            _touch(directory, name)
        except FileNotFoundError:
            continue  # deleted or renamed meanwhile, or its directory does not show it
        except OSError:
            return names[number:]
    return []


def _touch(directory: Path, name: str) -> None:
    path = directory / name
    if name.endswith(_LINK):
        with contextlib.suppress(OSError):
            (directory / name.removesuffix(_LINK)).readlink()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.read(descriptor, 1)  # before that, rclone has not opened it
    finally:
        os.close(descriptor)
