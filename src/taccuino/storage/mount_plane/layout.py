"""Where one user's mounts, caches and records lie, and the record that survives restarts."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from taccuino.private_files import write_private
from taccuino.settings import Settings
from taccuino.storage.mount_client import PLACES, MountRequest, MountRequestError

__all__ = [
    "RcloneIdentity",
    "Record",
    "UserPaths",
    "boot_id",
    "node_name",
    "read_records",
]

_RECORD = "record.json"


def boot_id() -> str:
    """The kernel's identity of this boot: after another one no process or mount is left."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def users_directory(settings: Settings) -> Path:
    """Where each user's private files of the mount plane lie (mode 0700)."""
    return settings.state_dir / "mount-plane/users"


def node_name(settings: Settings) -> str:
    """What tells this mount plane's uploads from those of others: ``<site>.<id>``.

    The id is made once: two nodes of one site must differ, also where one is a copy of the
    other's machine.
    """
    path = settings.state_dir / "mount-plane/node"
    try:
        known = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        known = secrets.token_hex(4)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, known)
    return f"{settings.site}.{known}"


@dataclass(frozen=True)
class UserPaths:
    """One user's paths: ``root`` is what servers see, ``private`` what only root reads."""

    root: Path
    private: Path
    cache: Path
    image: Path
    plain_area: Path
    places: Path

    @classmethod
    def of(cls, settings: Settings, slug: str, cache: Path | None = None) -> Self:
        """The paths of the user with this slug; ``cache`` is where theirs lies already."""
        plane, area = settings.mount_plane, settings.workarea.directory
        assert plane.directory is not None
        assert plane.cache_directory is not None
        assert area is not None
        return cls(
            root=plane.directory / slug,
            private=users_directory(settings) / slug,
            cache=cache or plane.cache_directory / slug,
            image=area / f"{slug}.img",
            plain_area=area / slug,
            places=plane.directory / PLACES,
        )

    @property
    def workarea(self) -> Path:
        """Mount point of the workarea."""
        return self.root / "workarea"

    @property
    def cloud_storage(self) -> Path:
        """Directory with the mounts of the object storage; nobody but root writes there."""
        return self.root / "cloud_storage"

    @property
    def own_scratch(self) -> Path:
        """Mount point of what the user may write of scratch; see `rclone.parts`."""
        return self.cloud_storage / ".scratch-own"

    @property
    def scratch_overlay(self) -> Path:
        """Local directory that is joined into the view of scratch; see `rclone.parts`."""
        return self.private / "scratch-overlay"

    @property
    def cache_texts(self) -> Path:
        """What rclone notes about cached files; see `texts.keep_apart`."""
        return self.private / "cache-texts"

    @property
    def recovered(self) -> Path:
        """What could be neither uploaded nor thrown away; see `cache.repair`."""
        return self.private / "recovered"

    @property
    def rclone_socket(self) -> Path:
        """The unix socket of rclone's remote control."""
        return self.private / "rc.sock"

    @property
    def rclone_log(self) -> Path:
        """Rclone's log, one JSON object a line."""
        return self.private / "rclone.log"


@dataclass(frozen=True)
class RcloneIdentity:
    """A process, told from a later one with the same pid by its start time (in ticks)."""

    pid: int
    started: int


@dataclass
class Record:
    """What is known of a user's mounts, kept on disk so that a killed daemon loses nothing.

    ``wanted`` is whether a server may use them; if not, only uploads are left to finish.
    ``proven`` names the mounts that were usable once: after rclone died these are mounted
    again even while the storage is away, since the cache may hold what the user wrote.
    ``cache`` is where that is: with another directory in the settings, only users of whom
    nothing waits any more go there.
    """

    request: MountRequest
    wanted: bool = True
    rclone: RcloneIdentity | None = None
    proven: set[str] = field(default_factory=set)
    boot: str = field(default_factory=boot_id)
    cache: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """The record as it is written."""
        return {
            "request": self.request.as_json(),
            "wanted": self.wanted,
            "rclone": asdict(self.rclone) if self.rclone else None,
            "proven": sorted(self.proven),
            "boot": self.boot,
            "cache": str(self.cache) if self.cache else None,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """A record as it was written."""
        return cls(
            request=MountRequest.from_json(data["request"]),
            wanted=bool(data["wanted"]),
            rclone=RcloneIdentity(**data["rclone"]) if data["rclone"] else None,
            proven=set(data["proven"]),
            boot=str(data["boot"]),
            cache=Path(data["cache"]) if data.get("cache") else None,
        )

    def save(self, paths: UserPaths) -> None:
        """Write the record in one step, mode 0600."""
        text = json.dumps(self.as_json(), indent=2) + "\n"
        write_private(paths.private / _RECORD, text, synced=False)


def forget(paths: UserPaths) -> None:
    """Remove the record: nothing is mounted and nothing waits for its upload."""
    (paths.private / _RECORD).unlink(missing_ok=True)


def read_records(settings: Settings) -> tuple[list[Record], list[str]]:
    """The records of all users, and a sentence for each that can't be read."""
    records, faults = [], []
    for path in sorted(users_directory(settings).glob(f"*/{_RECORD}")):
        try:
            record = Record.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, MountRequestError) as error:
            faults.append(f"{path} can't be read ({error}); its user is left alone")
        else:
            if record.request.slug == path.parent.name:
                records.append(record)
            else:
                faults.append(f"{path} is of {record.request.slug!r}; it is left alone")
    return records, faults
