"""What happens to earlier versions and to uploads that nobody finished: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .snapshots import PREFIX

__all__ = ["RULE_ID", "SNAPSHOTS_RULE_ID", "lifecycle_rules", "same_rules", "version_state"]

RULE_ID: Final = "taccuino-versions"
SNAPSHOTS_RULE_ID: Final = "taccuino-snapshots"
_UNFINISHED_DAYS: Final = 7


def lifecycle_rules(
    there: Iterable[Mapping[str, Any]], keep_versions_days: int
) -> list[dict[str, Any]]:
    """A bucket's lifecycle rules: an operator's own as they are, and ours.

    Without versioning, the versions of earlier days end too: after one day, the least that S3
    knows. A delete marker goes with the last version that it hides. What the snapshots of
    workareas no longer need goes after a day: it is no earlier version of a file, and counts.
    """
    ours = {
        "ID": RULE_ID,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
        "NoncurrentVersionExpiration": {"NoncurrentDays": max(keep_versions_days, 1)},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UNFINISHED_DAYS},
    }
    snapshots = {
        "ID": SNAPSHOTS_RULE_ID,
        "Status": "Enabled",
        "Filter": {"Prefix": PREFIX},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
    }
    known = (RULE_ID, SNAPSHOTS_RULE_ID)
    others = [_with_filter(rule) for rule in there if rule.get("ID") not in known]
    return [*others, ours, snapshots]


def _with_filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule in S3's present form: RadosGW 16 answers with the one before it."""
    plain = {key: value for key, value in rule.items() if key != "Prefix"}
    return (
        plain if "Filter" in plain else {**plain, "Filter": {"Prefix": rule.get("Prefix", "")}}
    )


def same_rules(there: Iterable[Mapping[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the rules are the wanted ones, in whatever order and form."""

    def by_id(rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return sorted(map(_with_filter, rules), key=lambda rule: str(rule.get("ID", "")))

    return by_id(there) == by_id(wanted)


def version_state(there: str | None, keep_versions_days: int) -> str | None:
    """The versioning that a bucket has to be given; ``None`` if it has it.

    It can't be turned off again, only suspended, and one that was never on needs nothing.
    """
    wanted = "Enabled" if keep_versions_days else "Suspended"
    if there == wanted or (not there and not keep_versions_days):
        return None
    return wanted
