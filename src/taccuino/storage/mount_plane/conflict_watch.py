"""Keeps what one user's uploads from this node overwrote unseen, as conflict copies.

It follows rclone's journal, looks at what each edit began from while that is still written in
the cache, and when the upload is done compares with the object's versions (`conflicts`).
What is to be checked is written down, so that neither a kill nor a cut of the network loses it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from taccuino.private_files import write_private
from taccuino.settings import Settings
from taccuino.storage.clients import off_loop, s3_client

from .configuration import Part
from .conflicts import Edit, Fingerprint, Version, Witness, conflict_name, overwritten_unseen
from .credentials import CredentialError, CredentialSource, StorageCredentials
from .journal import Copied, Entry, Journal, Position, Queued, Renamed, Uploaded
from .layout import UserPaths
from .versions import UnversionedBucketError, VersionedBucket

__all__ = ["Conflict", "ConflictWatch"]

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_CHECK_SECONDS = 1.0
_SHARE = 0.1
"""The part of the time that checks may take: after a burst of uploads they come together."""
_LONGEST_PAUSE = 60.0
_TOLD_SECONDS = 24 * 3600.0
_MARGIN_SECONDS = 1.0
"""For clocks that are compared by whole seconds."""
_WALK_SECONDS = 30.0
"""How long before an edit was noted its upload may lie: what was copied is told afterwards."""
_COPY_SECONDS = 5.0
"""How long a rename within the storage may take; it is told when it is done."""
_KERNEL_SECONDS = 1.0
"""How long the kernel believes what it was told of a name (rclone's ``attr-timeout``)."""
_FASTEST_CLOCK = 60.0
"""How far this node's clock may be ahead of the storage's when its versions are listed."""
_REMEMBERED = 4096
_UPLOADS_REMEMBERED = 8
_MOST_AT_ONCE = 1000

Key = tuple[str, str]
"""A file: the name of its mount, and its path there."""


@dataclass(frozen=True)
class Conflict:
    """A conflict copy as it is told. Paths are as the user knows them; ``at``: unix time."""

    path: str
    copy: str
    at: float

    @property
    def sentence(self) -> str:
        """What the user is told."""
        return (
            f"{self.path} was also changed elsewhere; the other version is kept as {self.copy}."
        )


@dataclass
class _Notes:
    """What is written down: how far the journal was read, and what is not checked yet."""

    position: Position = field(default_factory=Position)
    pending: dict[Key, Edit] = field(default_factory=dict)
    checks: dict[Key, Edit] = field(default_factory=dict)
    found: list[Conflict] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> _Notes:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                position=Position(**data["position"]),
                pending={(item[0], item[1]): Edit(**item[2]) for item in data["pending"]},
                checks={(item[0], item[1]): Edit(**item[2]) for item in data["checks"]},
                found=[Conflict(**item) for item in data["found"]],
            )
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            log.exception("%s can't be read; the journal is read anew", path)
            return cls()

    def write(self, path: Path) -> None:
        data = {
            "position": asdict(self.position),
            "pending": [[*key, asdict(edit)] for key, edit in self.pending.items()],
            "checks": [[*key, asdict(edit)] for key, edit in self.checks.items()],
            "found": [asdict(item) for item in self.found],
        }
        write_private(path, json.dumps(data), synced=False)


class ConflictWatch:
    """Follows one user's uploads. ``parts`` are the mounts as they are wanted now.

    ``node`` marks this node's uploads. Watching the journal costs four stats a second; the
    storage is asked only after uploads, off the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        username: str,
        paths: UserPaths,
        credentials: CredentialSource,
        parts: Callable[[], Sequence[Part]],
        node: str,
    ) -> None:
        self._settings = settings
        self._username = username
        self._cache = paths.cache
        self._file = paths.private / "conflicts.json"
        self._credentials = credentials
        self._parts = parts
        self._node = node
        plane = settings.mount_plane
        self._fresh = plane.directory_cache_seconds + _KERNEL_SECONDS + _MARGIN_SECONDS
        self._notes = _Notes.read(self._file)
        self._journal = Journal(paths.rclone_log, self._notes.position)
        self._own: dict[Key, list[str]] = {}
        self._settled: dict[Key, str] = {}
        self._unversioned: set[str] = set()
        self._client: tuple[str, Any] = ("", None)
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def conflicts(self) -> list[Conflict]:
        """The conflict copies of the last 24 hours, oldest first."""
        since = time.time() - _TOLD_SECONDS
        return [item for item in self._notes.found if item.at > since]

    def start(self) -> None:
        """Follow the journal from now on, and what was written since an earlier watch ended."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        """Follow no more; what is not checked stays written down."""
        if self._task:
            self._task.cancel()

    async def settle(self) -> bool:
        """Check at once whatever was uploaded; False if that can't be done now."""
        try:
            await self._look()
        except (CredentialError, BotoCoreError, ClientError, OSError) as error:
            log.warning(
                "%s: uploads are checked for conflicts later: %s", self._username, error
            )
            return False
        return True

    async def _watch(self) -> None:
        """Read the journal at once, before the cache forgets; check when there is time."""
        pause, due = _CHECK_SECONDS, 0.0
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                if self._journal.has_news:
                    async with self._turn:
                        await asyncio.to_thread(self._take_notes)
            except OSError as error:
                log.warning("%s: %s", self._username, error)
            if not self._notes.checks or time.monotonic() < due:
                continue
            began = time.monotonic()
            if await self.settle():
                pause = max(_CHECK_SECONDS, (time.monotonic() - began) / _SHARE)
            else:
                pause = pause * 2
            pause = min(pause, _LONGEST_PAUSE)
            due = time.monotonic() + pause

    async def _look(self) -> None:
        async with self._turn:
            await asyncio.to_thread(self._take_notes)
            if self._notes.checks:
                credentials = await self._credentials.get(self._username)
                await off_loop(lambda: self._check(credentials))

    # -- the journal

    def _take_notes(self) -> None:
        changed = False
        while entries := self._journal.read():
            for entry in entries:
                self._note(entry)
            self._notes.position = self._journal.position
            changed = True
        if changed:
            self._notes.write(self._file)

    def _note(self, entry: Entry) -> None:
        match entry:
            case Queued():
                self._note_queued(entry)
            case Uploaded():
                for key in self._keys(entry.name):
                    edit = self._notes.pending.pop(key, Edit(None, entry.at))
                    self._to_check(key, edit)
            case Renamed():
                before = [key for key in self._notes.pending if key[1] == entry.name]
                for key in before:
                    del self._notes.pending[key]
                parts = {part for part, _ in before}
                parts |= {part for part, about in self._cached(entry.new) if about.get("Dirty")}
                for part in parts:
                    edit = Edit("", entry.at, replaced=entry.at)
                    self._notes.pending.setdefault((part, entry.new), edit)
            case Copied():
                for part, _ in self._cached(entry.new):
                    edit = Edit("", entry.at, replaced=entry.at - _COPY_SECONDS)
                    self._to_check((part, entry.new), edit)

    def _note_queued(self, entry: Queued) -> None:
        """Note what the file was based on, while the text about it still tells."""
        for part, about in self._cached(entry.name):
            if not about.get("Dirty"):
                continue  # uploaded by now: what it tells is too late
            fingerprint = str(about.get("Fingerprint", ""))
            key = part, entry.name
            edit = self._notes.pending.setdefault(key, Edit(fingerprint, entry.at))
            # A new file's text takes on what others put at its name meanwhile: not known.
            if edit.base and fingerprint not in ("", edit.base):
                edit.known.append(fingerprint)

    def _to_check(self, key: Key, edit: Edit) -> None:
        fingerprint = self._fingerprint(key)
        edit.uploaded(fingerprint)
        if fingerprint:
            own = self._own.setdefault(key, [])
            own[:] = [*(item for item in own if item != fingerprint), fingerprint]
            del own[:-_UPLOADS_REMEMBERED]
            while len(self._own) > _REMEMBERED:
                self._own.pop(next(iter(self._own)))
        earlier = self._notes.checks.get(key)
        self._notes.checks[key] = earlier.followed_by(edit) if earlier else edit

    def _keys(self, name: str) -> list[Key]:
        """The files that an entry may be about: the journal names no mount."""
        pending = [key for key in self._notes.pending if key[1] == name]
        return pending or [(part, name) for part, _ in self._cached(name)]

    def _cached(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The mounts in which a file of this name is cached, with the text about it."""
        for part in self._parts():
            if not part.read_only and (about := self._about(part, name)) is not None:
                yield part.name, about

    def _about(self, part: Part, name: str) -> dict[str, Any] | None:
        text = self._cache / "vfsMeta" / part.remote.replace(":", "/", 1) / name
        try:
            about = json.loads(text.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return about if isinstance(about, dict) else None

    def _fingerprint(self, key: Key) -> str | None:
        """What describes the file's last upload, or what it was read from."""
        about = next((found for part, found in self._cached(key[1]) if part == key[0]), {})
        return str(about.get("Fingerprint", "")) or None

    # -- the storage

    def _check(self, credentials: StorageCredentials) -> None:
        """Check what was uploaded; what could not be is kept for later."""
        checks = self._notes.checks
        try:
            for part in self._parts():
                names = self._of(part)[:_MOST_AT_ONCE]
                if names and part.name not in self._unversioned:
                    self._check_part(part, names, credentials)
                for name in names:
                    checks.pop((part.name, name), None)
        finally:
            self._notes.found = self.conflicts
            self._notes.write(self._file)

    def _of(self, part: Part) -> list[str]:
        return [name for of, name in self._notes.checks if of == part.name]

    def _check_part(
        self, part: Part, names: list[str], credentials: StorageCredentials
    ) -> None:
        bucket_name, _, prefix = part.remote.partition(":")[2].partition("/")
        bucket = VersionedBucket(self._s3(credentials), bucket_name)
        edits = {f"{prefix}{name}": self._notes.checks[part.name, name] for name in names}
        early = {key: edit.since - _FASTEST_CLOCK for key, edit in edits.items()}
        try:
            chains = bucket.versions(early)
        except UnversionedBucketError:
            self._unversioned.add(part.name)
            log.warning(
                "%s: the bucket %s keeps no earlier versions, so that what another server "
                "overwrites can't be kept as a conflict copy",
                part.title,
                bucket_name,
            )
            return
        for key, edit in edits.items():
            name = key.removeprefix(prefix)
            self._check_file(part, bucket, name, key, edit, chains[key])
            del self._notes.checks[part.name, name]

    def _check_file(
        self,
        part: Part,
        bucket: VersionedBucket,
        name: str,
        key: str,
        edit: Edit,
        chain: list[Version],
    ) -> None:
        own = [*self._own.get((part.name, name), []), *edit.uploads]
        shown = edit.replaced
        witness = Witness(
            base=Fingerprint.parse(edit.base or ""),
            known=_parsed(edit.known),
            own=_parsed(own),
            node=self._node,
            since=edit.since + bucket.clock_offset - _WALK_SECONDS,
            visible=None if shown is None else shown + bucket.clock_offset - self._fresh,
            metadata=lambda version: bucket.metadata(key, version),
        )
        settled = self._settled.get((part.name, name), "")
        for version in overwritten_unseen(chain, witness, settled=settled, fresh=self._fresh):
            self._keep(part, bucket, name, key, version)
        mine = next((version for version in chain if witness.made(version)), None)
        if mine:
            self._settled[part.name, name] = mine.id
            while len(self._settled) > _REMEMBERED:
                self._settled.pop(next(iter(self._settled)))

    def _keep(
        self, part: Part, bucket: VersionedBucket, name: str, key: str, version: Version
    ) -> None:
        node = bucket.metadata(key, version).node
        where = node.rpartition(".")[0] or "elsewhere"
        at = datetime.fromtimestamp(version.at, UTC)
        copy = bucket.keep(key, version, lambda number: conflict_name(key, at, where, number))
        if copy is None:
            log.warning("%s/%s: a version that was overwritten is gone", part.title, name)
            return
        shown = copy.removeprefix(key.removesuffix(name))
        found = Conflict(f"{part.title}/{name}", f"{part.title}/{shown}", time.time())
        if all(item.copy != found.copy for item in self._notes.found):
            self._notes.found.append(found)
        log.warning("%s", found.sentence)

    def _s3(self, credentials: StorageCredentials) -> Any:
        """A client with these credentials: it keeps its connections."""
        if self._client[0] != credentials.access_key:
            made = s3_client(
                self._settings,
                credentials.access_key,
                credentials.secret_key,
                credentials.session_token,
            )
            self._client = credentials.access_key, made
        return self._client[1]


def _parsed(texts: Sequence[str]) -> list[Fingerprint]:
    return [found for text in texts if (found := Fingerprint.parse(text))]
