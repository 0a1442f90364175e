"""The write-back cache on disk, seen while no rclone has it open.

For each cached file rclone keeps the data in ``vfs/<remote>/<path>`` and a JSON text about
it in ``vfsMeta/<remote>/<path>``, which it writes in place.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["dirty_files", "repair"]

log = logging.getLogger(__name__)


def dirty_files(cache: Path) -> int:
    """How many files have not been uploaded; blocking.

    One whose text can't be read counts: what may be unsaved is not thrown away.
    """
    return sum(
        about is None or bool(about.get("Dirty")) for _, about in _texts(cache / "vfsMeta")
    )


def repair(cache: Path, aside: Path) -> list[str]:
    """Save what a killed rclone left half-described; blocking, with no rclone running.

    Killed while it writes the text about a file, rclone leaves an empty one, and the next
    rclone deletes the file: what a user had just saved would be lost. A file that is there
    in full is marked for its upload. One with holes may be only partly fetched, and its
    upload would destroy the object; it is kept in ``aside``, and its path is returned.
    """
    kept = []
    for text, about in _texts(cache / "vfsMeta"):
        if about is not None:
            continue
        path = text.relative_to(cache / "vfsMeta")
        data = cache / "vfs" / path
        try:
            complete, found = _complete(data), data.stat()
        except FileNotFoundError:
            text.unlink()
            continue
        if complete:
            _describe(text, found)
            log.warning("%s: marked for its upload; its description was lost", data)
        else:
            target = aside / path
            target.parent.mkdir(parents=True, exist_ok=True)
            data.replace(target)
            text.unlink()
            kept.append(str(path))
            log.error("%s: written to when rclone was killed; kept as %s", data, target)
    return kept


def _texts(directory: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Each text about a cached file, and what it says; None if it can't be read."""
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            try:
                about = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                about = None
            yield path, about if isinstance(about, dict) else None


def _complete(path: Path) -> bool:
    """Whether a file has no holes (lseek(2), SEEK_HOLE)."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return size == 0 or os.lseek(file.fileno(), 0, os.SEEK_HOLE) >= size


def _describe(text: Path, found: os.stat_result) -> None:
    """Write the text of a file that waits for its upload, in one step."""
    time = datetime.fromtimestamp(found.st_mtime, UTC).isoformat().replace("+00:00", "Z")
    ranges = [{"Pos": 0, "Size": found.st_size}] if found.st_size else []
    about = {
        "ModTime": time,
        "ATime": time,
        "Size": found.st_size,
        "Rs": ranges,
        "Fingerprint": "",
        "Dirty": True,
    }
    temporary = text.with_name(f"{text.name}.taccuino-new")
    temporary.write_text(json.dumps(about), encoding="utf-8")
    temporary.replace(text)
