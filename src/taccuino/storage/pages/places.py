"""The buckets that a user has to do with: the own one, scratch, and the groups'."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from taccuino.iam.groups import normalize_group, normalize_groups
from taccuino.settings import Settings
from taccuino.storage.names import bucket_name, scratch_prefix

__all__ = ["Place", "places_of"]


@dataclass(frozen=True)
class Place:
    """A bucket as one user sees it; what really may be done, the storage decides."""

    bucket: str
    directory: str
    """What it is called in ``cloud_storage``."""
    kind: Literal["own", "scratch", "group"]
    writable: bool
    write_prefix: str = ""
    """Where in it the user may write: everywhere, if it is empty."""

    def may_write(self, key: str) -> bool:
        """Whether the user may write to a key."""
        return self.writable and key.startswith(self.write_prefix)


def places_of(settings: Settings, username: str, groups: Iterable[str]) -> list[Place]:
    """The user's buckets, in the order in which they are shown."""
    storage, own = settings.storage, normalize_groups(groups)
    places = [
        Place(bucket_name(settings, username), username, "own", writable=True),
        Place(
            storage.scratch_bucket,
            "scratch",
            "scratch",
            writable=True,
            write_prefix=scratch_prefix(username),
        ),
    ]
    for group in storage.group_buckets:
        name = normalize_group(group.group)
        if name in own:
            directory = group.directory or name.replace("/", "-")
            places.append(Place(group.bucket, directory, "group", writable=not group.read_only))
    return places
