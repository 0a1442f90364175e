"""Group rules: who may use the service, and who administers it.

A group is written with a leading slash by some issuers (Keycloak, ``wlcg.groups``) and
without by others (INDIGO IAM's ``groups``, canaille): a leading slash never matters, while
case and the slashes inside do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["groups_of", "is_member", "normalize_group", "normalize_groups"]

_LONGEST: Final = 255
"""Characters of JupyterHub's column for a group's name."""


def normalize_group(name: str) -> str:
    """A group's name without surrounding space and slashes."""
    return name.strip().strip("/").strip()


def normalize_groups(names: Iterable[Any]) -> frozenset[str]:
    """Usable groups of a list: what is no text, empty or too long for a name is dropped.

    canaille and SCIM-like issuers may list objects: their ``display`` or ``name`` is taken.
    """
    found = set()
    for item in names:
        name = item.get("display") or item.get("name") if isinstance(item, Mapping) else item
        if isinstance(name, str) and 0 < len(group := normalize_group(name)) <= _LONGEST:
            found.add(group)
    return frozenset(found)


def groups_of(claim: str, *sources: Mapping[str, Any]) -> frozenset[str] | None:
    """The groups in the first source that has the claim; ``None`` when none has it.

    The claim's name may itself contain dots (``wlcg.groups``); only when no source has it is
    it read as a path (``resource_access.roles``). One group may come as plain text.
    """
    for source in sources:
        value: Any = source.get(claim)
        if value is None:
            value = source
            for part in claim.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            return normalize_groups([value])
        if isinstance(value, list | tuple | set | frozenset):
            return normalize_groups(value)
    return None


def is_member(groups: Iterable[str], of: Iterable[str]) -> bool:
    """Whether one of the groups is among those named."""
    return not normalize_groups(groups).isdisjoint(normalize_groups(of))
