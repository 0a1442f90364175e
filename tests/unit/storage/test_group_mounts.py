from __future__ import annotations

import pytest

from taccuino.errors import SettingsError
from taccuino.settings import Settings
from taccuino.storage.groups import GroupMount, group_mounts
from taccuino.storage.mount_client import MountRequest
from taccuino.storage.names import bucket_name


def settings(*entries: dict) -> Settings:
    return Settings.parse({"storage": {"group_buckets": list(entries)}})


LAB = {"group": "lab", "bucket": "lab-data"}
READERS = {"group": "readers", "bucket": "lab-data", "read_only": True, "directory": "lab"}
NESTED = {"group": "/exp/analysis team", "bucket": "exp"}


@pytest.mark.parametrize(
    ("entries", "username", "groups", "found"),
    [
        ([LAB], "ann", ["lab"], [GroupMount("lab", "lab-data")]),
        ([LAB], "ann", ["/lab/"], [GroupMount("lab", "lab-data")]),
        ([LAB], "ann", ["Lab", "lab2", "x/lab"], []),
        ([LAB], "ann", [], []),
        ([NESTED], "ann", ["exp/analysis team"], [GroupMount("exp-analysis-team", "exp")]),
        ([LAB, READERS], "ann", ["readers"], [GroupMount("lab", "lab-data", True)]),
        ([LAB, READERS], "ann", ["readers", "lab"], [GroupMount("lab", "lab-data")]),
        ([READERS, LAB], "ann", ["readers", "lab"], [GroupMount("lab", "lab-data")]),
        # A user called as a group's directory is keeps their own.
        ([LAB], "lab", ["lab"], [GroupMount("lab--group", "lab-data")]),
    ],
)
def test_the_buckets_of_a_users_groups(entries, username, groups, found) -> None:
    mounts = group_mounts(settings(*entries), username, groups)
    assert list(mounts) == found
    request = {"uid": 3001000, "gid": 3001000, "bucket": "own", "scratch_bucket": "scratch"}
    MountRequest(username=username, slug=username, groups=mounts, **request)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([LAB, {"group": "x", "bucket": "other", "directory": "lab"}], "another directory"),
        ([{"group": "scratch", "bucket": "own-scratch"}], "would be mounted as 'scratch'"),
        ([{"group": "x", "bucket": "scratch"}], "shared by all users"),
        ([LAB, {**READERS, "quota": "1G"}], "two different quotas"),
        ([{"group": " / ", "bucket": "xyz"}], "names no group"),
        ([{"group": "../x", "bucket": "xyz"}], "give it a directory"),
        ([{"group": "é", "bucket": "xyz"}], "give it a directory"),
        ([{**LAB, "directory": "a/b"}], "give it a directory"),
        ([{**LAB, "directory": "alice--group"}], "give it a directory"),
    ],
)
def test_groups_that_can_not_be_kept_apart_are_refused(entries, said) -> None:
    with pytest.raises(SettingsError, match=said):
        settings(*entries)


def test_no_users_bucket_is_a_groups() -> None:
    hostile = bucket_name(settings(LAB), "lab-data")
    assert hostile != "lab-data"
    assert hostile.startswith("lab-data--")
