"""What a node's workarea descends from, and what a start must do about the newest snapshot.

Pure, but for the two records: `Newest` lies in the user's bucket and names the newest snapshot
with those that it follows; `Lineage` lies on the node, beside the workarea.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from taccuino.private_files import write_private
from taccuino.storage.snapshots import Snapshot, is_snapshot_id

__all__ = [
    "Lineage",
    "Newest",
    "advanced",
    "course",
    "facts_of",
    "folder_name",
    "with_apart",
]

_SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_ANCESTORS = 500
"""How many the newest is known to follow; what goes on from an older one is kept beside."""
_APART = 8


def _snapshot(data: Any) -> Snapshot:
    """A snapshot out of an object that the user can write: nothing in it is believed."""
    number = (int, float)
    size, files = data.get("bytes"), data.get("files")
    if (
        not is_snapshot_id(data["id"])
        or type(data["at"]) not in number
        or not 0 <= data["at"] < 1e11
        or not isinstance(data["site"], str)
        or not _SITE.fullmatch(data["site"])
        or not all(value is None or type(value) is int for value in (size, files))
    ):
        raise ValueError("it describes no snapshot")
    return Snapshot(data["id"], float(data["at"]), data["site"], size, files)


@dataclass(frozen=True)
class Newest:
    """The newest snapshot, the ids of those it follows (the latest first), and those apart."""

    snapshot: Snapshot
    ancestors: tuple[str, ...] = ()
    apart: tuple[Snapshot, ...] = ()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """The object's content.

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            data = json.loads(text)
            ancestors = tuple(data["ancestors"])
            if not all(map(is_snapshot_id, ancestors)):
                raise ValueError("it names no snapshots")
            others = tuple(_snapshot(item) for item in data["apart"][:_APART])
            return cls(_snapshot(data["snapshot"]), ancestors[:_ANCESTORS], others)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it describes no snapshot ({error})") from None

    def as_text(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


@dataclass(frozen=True)
class Lineage:
    """What is known of the workarea on this node.

    ``base`` is the snapshot that it goes on from; none for one that was just made.
    ``changed``: a server may have written since. ``coming`` is a snapshot of it that may or
    may not have become the newest before the daemon was killed; ``apart`` one of it that did
    not, since another site's had. ``mark`` stands for all files as they were when the last one
    was made (`area.survey`). ``username`` and ``bucket`` are for what is made after the user
    has gone.
    """

    username: str = ""
    bucket: str = ""
    base: str | None = None
    at: float = 0.0
    site: str = ""
    changed: bool = False
    coming: str | None = None
    apart: str | None = None
    mark: str | None = None
    thinned: float = 0.0

    @classmethod
    def read(cls, path: Path, *, there: bool) -> Self:
        """The record of a workarea; of one without, it is not known what lies in it."""
        if not there:
            return cls()
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls(changed=True)

    def save(self, path: Path) -> None:
        """Write the record in one step; it is on the disk then. Blocking."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, json.dumps(asdict(self)))

    def on(self, snapshot: Snapshot) -> Lineage:
        """The same workarea, which goes on from this snapshot."""
        return replace(
            self, base=snapshot.id, at=snapshot.at, site=snapshot.site, coming=None, apart=None
        )


def course(here: Lineage, newest: Newest | None) -> Literal["keep", "replace", "beside"]:
    """What a start does: a workarea is replaced only if all that is in it is in a snapshot."""
    if newest is None or newest.snapshot.id in (here.base, here.coming):
        return "keep"
    if not here.changed and (here.base is None or here.base in newest.ancestors):
        return "replace"
    return "beside"


def advanced(newest: Newest | None, here: Lineage, made: Snapshot) -> Newest | None:
    """What names the newest once ``made`` is; None if it does not follow the newest.

    What this site had made apart is in it.
    """
    if newest is None:
        return Newest(made, (here.base,) if here.base else ())
    if newest.snapshot.id != here.base:
        return None
    others = tuple(item for item in newest.apart if item.site != made.site)
    ancestors = (newest.snapshot.id, *newest.ancestors)[:_ANCESTORS]
    return Newest(made, ancestors, others)


def with_apart(newest: Newest, made: Snapshot) -> Newest:
    """The same newest, which tells of a snapshot apart; of each site the last one."""
    others = [item for item in newest.apart if item.site != made.site]
    return replace(newest, apart=(made, *others)[:_APART])


def folder_name(snapshot: Snapshot) -> str:
    """Where a snapshot is restored to: ``restored-bari-20261125T183000Z``."""
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(snapshot.at))
    return f"restored-{snapshot.site}-{when}"


def facts_of(tags: object) -> Mapping[str, int]:
    """The sizes that a snapshot's tags tell: ``bytes``, ``files``."""
    found = {}
    for tag in tags if isinstance(tags, list) else []:
        name, _, value = str(tag).partition("=")
        if name in ("bytes", "files") and value.isdecimal():
            found[name] = int(value)
    return found
