"""Which groups' buckets a user has, and where: a pure function of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from taccuino.iam.groups import normalize_groups
from taccuino.settings import OWN_NAME_TAKEN, Settings

from .names import directory_name

__all__ = ["GroupMount", "group_mounts"]


@dataclass(frozen=True)
class GroupMount:
    """A group's bucket, mounted at ``cloud_storage/<directory>``."""

    directory: str
    bucket: str
    read_only: bool = False


def group_mounts(
    settings: Settings, username: str, groups: Iterable[str]
) -> tuple[GroupMount, ...]:
    """The buckets of a user's groups, each once.

    Where two of the groups have one bucket, the stronger right counts. A user whose own
    directory is called as a group's is, finds the group's with ``--group`` at its end: people
    choose their names themselves, and nobody's own files may hide behind a group's.
    """
    member, taken = normalize_groups(groups), directory_name(username)
    found: dict[str, GroupMount] = {}
    for entry in settings.storage.group_buckets:
        known = found.get(entry.bucket)
        if entry.group not in member or (known and entry.read_only >= known.read_only):
            continue
        name = entry.mounted_as
        directory = f"{name}{OWN_NAME_TAKEN}" if name == taken else name
        found[entry.bucket] = GroupMount(directory, entry.bucket, entry.read_only)
    return tuple(found.values())
