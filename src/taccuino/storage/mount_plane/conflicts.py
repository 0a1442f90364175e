"""Which versions of a file were overwritten unseen, and what their copies are called. Pure.

Two nodes that have one bucket mounted know nothing of each other: each uploads its file when
it was closed, and the last upload is the current version. Buckets keep earlier versions, so
nothing is gone; but a version that nobody saw before it was replaced must not hide there.

Whoever overwrites checks: each of a node's uploads replaced one version, the one before it.
That was known to the node if it is the version the edit began from, or one of the node's own,
or if it had been in the mount's listings for long enough. Otherwise it was overwritten unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Self

__all__ = ["Edit", "Fingerprint", "Metadata", "Version", "conflict_name", "overwritten_unseen"]

_LINK = ".rclonelink"
"""What rclone appends to the name of an object that is a symbolic link."""
_NAME_BYTES = 255


@dataclass(frozen=True)
class Version:
    """A version of an object, or the mark of its deletion. ``at``: unix time of the storage."""

    id: str
    at: float
    etag: str = ""
    size: int = 0
    deleted: bool = False


@dataclass(frozen=True)
class Metadata:
    """What a version's own metadata tells: rclone's, and whose node uploaded it."""

    node: str = ""
    mtime: float | None = None
    md5: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """rclone's description of an object: ``size,modification time,md5``.

    The last is missing for one that another program uploaded in parts.
    """

    size: int
    mtime: float
    md5: str

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """A fingerprint from the text about a cached file; None for "" and what is no one."""
        size, _, rest = text.partition(",")
        time, _, md5 = rest.partition(",")
        moment, _, fraction = time.removesuffix(" +0000 UTC").partition(".")
        try:
            seconds = datetime.fromisoformat(f"{moment}+00:00").timestamp()
            return cls(int(size), seconds + float(f"0.{fraction or 0}"), md5)
        except ValueError:
            return None

    def describes(self, version: Version, metadata: Callable[[Version], Metadata]) -> bool:
        """Whether it is of this version. An ETag is the MD5, but for uploads in parts."""
        if version.deleted or version.size != self.size:
            return False
        if "-" not in version.etag:
            return bool(self.md5) and version.etag == self.md5
        found = metadata(version)
        if self.md5 and found.md5:
            return self.md5 == found.md5
        return abs((found.mtime or version.at) - self.mtime) < 0.01


@dataclass
class Edit:
    """Changes to one file, from the first that was closed to the check of their uploads.

    ``base`` describes the version they began from: "" if there was none, None if that is not
    known; ``known`` are those of later changes. ``since`` is when the first was closed, and
    ``replaced`` when another file was renamed to this name, in the node's unix time.
    ``uploads`` describe what was uploaded.
    """

    base: str | None
    since: float
    replaced: float | None = None
    known: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)

    def uploaded(self, fingerprint: str | None) -> Self:
        """Note an upload. What is read too late describes the upload, not what was before."""
        if fingerprint and fingerprint not in self.uploads:
            self.uploads.append(fingerprint)
        if self.base in self.uploads:
            self.base = None
        return self

    def followed_by(self, later: Self) -> Self:
        """Both, to be checked together."""
        self.known += [item for item in (later.base, *later.known) if item]
        for fingerprint in later.uploads:
            self.uploaded(fingerprint)
        return self


@dataclass(frozen=True)
class Witness:
    """What a node knows of a file's versions.

    ``base``, ``known`` and ``own`` are fingerprints: of what the edit began from, of what was
    seen besides, and of the node's own uploads. ``since`` is when the edit was closed, and
    ``visible`` up to when other clients' versions had surely shown in the mount by then, in
    the storage's time. ``metadata`` asks the storage, as a last resort.
    """

    base: Fingerprint | None
    known: Sequence[Fingerprint]
    own: Sequence[Fingerprint]
    node: str
    since: float
    visible: float | None
    metadata: Callable[[Version], Metadata]

    def is_base(self, version: Version) -> bool:
        """Whether the edit began from this version."""
        return self._one_of([self.base] if self.base else [], version)

    def made(self, version: Version) -> bool:
        """Whether the version was uploaded by this node."""
        if version.deleted:
            return False
        return self._one_of(self.own, version) or self.metadata(version).node == self.node

    def knew(self, version: Version) -> bool:
        """Whether the node replaced the version knowingly."""
        if self.visible is not None and version.at <= self.visible:
            return True
        return self._one_of(self.known, version) or self.made(version)

    def _one_of(self, fingerprints: Iterable[Fingerprint], version: Version) -> bool:
        return any(item.describes(version, self.metadata) for item in fingerprints)


def overwritten_unseen(
    versions: Sequence[Version], witness: Witness, *, settled: str = "", fresh: float = 6.0
) -> list[Version]:
    """Those of a file's versions, newest first, that this node replaced without knowing them.

    ``settled`` is the id of the version up to which this was checked before. A deletion hides
    what it removed; but who deletes and writes anew, as some editors save, may do so within
    the ``fresh`` seconds in which a version may not have shown yet.
    """
    found: list[Version] = []
    for index, version in enumerate(versions):
        if version.id == settled or version.at < witness.since or witness.is_base(version):
            break
        if not witness.made(version):
            continue
        before = _replaced(versions[index + 1 :], fresh)
        if before is None or (before.etag, before.size) == (version.etag, version.size):
            continue
        if before.id == settled or witness.is_base(before):
            break
        if not witness.knew(before):
            found.append(before)
    return found


def _replaced(earlier: Sequence[Version], fresh: float) -> Version | None:
    """The version that one was written over, which a deletion may lie on."""
    deleted = None
    for version in earlier:
        if version.deleted:
            deleted = deleted or version
        elif deleted and deleted.at - version.at > fresh:
            return None
        else:
            return version
    return None


def conflict_name(key: str, at: datetime, where: str, number: int = 1) -> str:
    """What the copy of an overwritten version is called: the name, when, and where it is from.

    ``notes.ipynb`` becomes ``notes (conflict 2026-11-24 10.31.07 bari).ipynb``.
    """
    folder, slash, name = key.rpartition("/")
    link = _LINK if name.endswith(_LINK) else ""
    path = PurePosixPath(name.removesuffix(_LINK))
    more = f" {number}" if number > 1 else ""
    note = f" (conflict {at:%Y-%m-%d %H.%M.%S} {where}{more})"
    room = _NAME_BYTES - len(f"{note}{path.suffix}{link}".encode())
    stem = path.stem.encode()[: max(room, 1)].decode("utf-8", "ignore")
    return f"{folder}{slash}{stem}{note}{path.suffix}{link}"
