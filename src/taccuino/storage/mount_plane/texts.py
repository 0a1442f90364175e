"""The texts that rclone keeps about cached files: JSON, a file each.

``Size`` and ``Rs`` (the ranges that are here) are as of when it was written, ``Dirty`` is
whether the file waits for its upload, and ``Fingerprint`` is of its object.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .ranges import Range, merged

__all__ = [
    "as_json",
    "described",
    "dirty_texts",
    "keep_apart",
    "read_text",
    "recorded",
    "texts",
    "write_text",
]


def keep_apart(cache: Path, directory: Path) -> None:
    """Keep a cache's texts in ``directory``, on the state's disk; blocking, without rclone.

    rclone writes a text over the old one whenever a file is opened. Where that fails, the
    disk being full, it deletes the file, also one that waits for its upload (rclone 1.75,
    ``Item.open``). The users' data can't fill a disk that it isn't on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    link = cache / "vfsMeta"
    if link.is_symlink() and link.readlink() == directory:
        return
    if link.is_dir() and not link.is_symlink():
        shutil.copytree(link, directory, dirs_exist_ok=True)
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(directory)


def texts(cache: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Each text about a cached file, and what it says; None if it can't be read."""
    return _read_below(cache / "vfsMeta")


def dirty_texts(directory: Path) -> int:
    """How many texts that were kept apart tell of a file that waits for its upload."""
    return sum(about is None or bool(about.get("Dirty")) for _, about in _read_below(directory))


def _read_below(directory: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            try:
                yield path, read_text(path)
            except FileNotFoundError:
                continue


def read_text(path: Path) -> dict[str, Any] | None:
    """What a text says; None if it can't be read.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError):
        return None
    return about if isinstance(about, dict) else None


def recorded(about: dict[str, Any]) -> list[Range]:
    """The ranges that a text says are here."""
    found = about.get("Rs") or []
    return merged(Range(int(item["Pos"]), int(item["Pos"] + item["Size"])) for item in found)


def as_json(ranges: list[Range]) -> list[dict[str, int]]:
    """Ranges as rclone writes them."""
    return [{"Pos": item.start, "Size": item.end - item.start} for item in ranges]


def described(found: os.stat_result) -> dict[str, Any]:
    """The text of a file that is all here and waits for its upload."""
    time = datetime.fromtimestamp(found.st_mtime, UTC).isoformat().replace("+00:00", "Z")
    whole = [Range(0, found.st_size)] if found.st_size else []
    return {
        "ModTime": time,
        "ATime": time,
        "Size": found.st_size,
        "Rs": as_json(whole),
        "Fingerprint": "",
        "Dirty": True,
    }


def write_text(text: Path, about: dict[str, Any]) -> None:
    """Write a text in one step."""
    temporary = text.with_name(f"{text.name}.taccuino-new")
    temporary.write_text(json.dumps(about), encoding="utf-8")
    temporary.replace(text)
