"""Uploads to what is mounted no more: a bucket of another name, a group that was left.

Their files wait in the cache, and no mount of rclone looks after them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from .configuration import Part, RcloneError
from .rclone import Rclone
from .texts import texts

__all__ = ["former_files", "upload_former"]

log = logging.getLogger(__name__)

_UPLOAD_SECONDS = 600.0


def former_files(cache: Path, parts: Iterable[Part]) -> list[str]:
    """What waits in the cache and belongs to none of the parts; blocking.

    A path is ``<remote>/<bucket>/<name>``. What can't be read is not among them.
    """
    roots = tuple(part.vfs.replace(":", "/", 1) + "/" for part in parts)
    paths = (
        str(text.relative_to(cache / "vfsMeta"))
        for text, about in texts(cache)
        if about and about.get("Dirty")
    )
    return [path for path in paths if not path.startswith(roots)]


async def upload_former(rclone: Rclone, parts: Iterable[Part], cache: Path) -> list[str]:
    """Upload what belongs to no part, with `repair` done; a sentence for each that fails."""
    told = []
    for path in await asyncio.to_thread(former_files, cache, list(parts)):
        remote, _, name = path.partition("/")
        try:
            await rclone.call(
                "operations/copyfile",
                _UPLOAD_SECONDS,
                srcFs=str(cache / "vfs" / remote),
                srcRemote=name,
                dstFs=f"{remote}:",
                dstRemote=name,
            )
        except RcloneError as error:
            log.warning("%s: %s", path, error)
            told.append(
                f"Not uploaded, kept and tried again: {name}, which was saved when another "
                "bucket or group was mounted."
            )
            continue
        await asyncio.to_thread(_forget, cache, path)
        log.warning("%s: uploaded, though it is mounted no more", path)
    return told


def _forget(cache: Path, path: str) -> None:
    (cache / "vfs" / path).unlink(missing_ok=True)
    (cache / "vfsMeta" / path).unlink(missing_ok=True)
