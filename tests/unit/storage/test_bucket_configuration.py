"""What is asked of a bucket: owner, quota, versions; and how its usage is told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from taccuino.storage import StorageError
from taccuino.storage.admin_ops import BucketUsage, NoAdminOpsError, bucket_usage
from taccuino.storage.buckets import Owner, tag_value
from taccuino.storage.lifecycle import (
    RULE_ID,
    SNAPSHOTS_RULE_ID,
    lifecycle_rules,
    same_rules,
    version_state,
)
from taccuino.storage.usage import UsageCache

ANN = Owner.user("ann")


@pytest.mark.parametrize(
    ("owner", "tags", "theirs"),
    [
        (ANN, {}, True),
        (ANN, {"colour": "red"}, True),
        (ANN, {"taccuino-user": "ann"}, True),
        (ANN, {"taccuino-user": "anna"}, False),
        (ANN, {"taccuino-group": "members"}, False),
        (ANN, {"taccuino-scratch": "all"}, False),
        (ANN, {"taccuino-user": "ann", "taccuino-group": "members"}, False),
        (Owner.user("Ann*"), {"taccuino-user": "Ann*"}, True),
        (Owner.groups(), {"taccuino-user": "ann"}, False),
        (Owner.everybody(), {"taccuino-group": "members"}, False),
    ],
)
def test_whose_a_bucket_is(owner: Owner, tags: dict, theirs: bool) -> None:
    if theirs:
        owner.check("b", tags)
    else:
        with pytest.raises(StorageError) as caught:
            owner.check("b", tags)
        assert caught.value.reason == "conflict"


def test_tags_hold_what_aws_takes() -> None:
    assert tag_value('a+b!"<é>@x.org') == "a+b___é_@x.org"
    assert len(tag_value("x" * 999)) == 256
    assert tag_value(Owner.user("Ann*{}").value) == Owner.user("Ann*{}").value


def test_an_operators_lifecycle_rules_stay() -> None:
    theirs = {"ID": "tmp", "Prefix": "tmp/", "Status": "Enabled", "Expiration": {"Days": 1}}
    first = lifecycle_rules([theirs], 30)
    assert first[0] == {
        "ID": "tmp",
        "Status": "Enabled",
        "Expiration": {"Days": 1},
        "Filter": {"Prefix": "tmp/"},
    }
    again = lifecycle_rules(first, 7)
    assert [rule["ID"] for rule in again] == ["tmp", RULE_ID, SNAPSHOTS_RULE_ID]
    assert again[1]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert again[2]["Filter"] == {"Prefix": ".taccuino/workarea/"}
    assert not same_rules(first, again)
    assert same_rules(reversed([theirs, *first[1:]]), first)


@pytest.mark.parametrize(
    ("there", "days", "change"),
    [
        (None, 30, "Enabled"),
        ("Enabled", 30, None),
        ("Suspended", 30, "Enabled"),
        ("Enabled", 0, "Suspended"),
        ("Suspended", 0, None),
        (None, 0, None),
    ],
)
def test_versioning(there: str | None, days: int, change: str | None) -> None:
    assert version_state(there, days) == change


def test_usage_is_all_that_the_quota_counts() -> None:
    stats = {
        "usage": {
            "rgw.main": {"size": 10, "num_objects": 2},
            "rgw.multimeta": {"size": 0, "num_objects": 1},
        },
        "bucket_quota": {"enabled": True, "max_size": 1024},
    }
    assert bucket_usage(stats) == BucketUsage(10, 3, 1024)
    stats["bucket_quota"]["enabled"] = False
    assert bucket_usage(stats).quota_bytes is None


async def test_usage_is_asked_once_for_all() -> None:
    asked = []

    def ask(bucket: str) -> BucketUsage:
        asked.append(bucket)
        return BucketUsage(1, 1, None)

    cache = UsageCache(ask)
    answers = await asyncio.gather(*(cache.get("b") for _ in range(20)))
    assert set(answers) == {BucketUsage(1, 1, None)}
    await cache.get("b")
    assert asked == ["b"]
    cache.forget("b")
    await cache.get("b")
    assert asked == ["b", "b"]


async def test_a_storage_that_hangs_keeps_nobody_waiting() -> None:
    answer = threading.Event()
    asked = []

    def ask(bucket: str) -> BucketUsage:
        asked.append(bucket)
        answer.wait(20)
        return BucketUsage(1, 1, None)

    cache, loop = UsageCache(ask), asyncio.get_running_loop()
    started = loop.time()
    try:
        assert await asyncio.gather(*(cache.get(f"b{n}") for n in range(50))) == [None] * 50
        assert loop.time() - started < 3
        assert await cache.get("b0") is None
        assert len(asked) <= 4
    finally:
        answer.set()


async def test_a_storage_without_the_api_is_asked_once() -> None:
    asked = []

    def ask(bucket: str) -> BucketUsage:
        asked.append(bucket)
        raise NoAdminOpsError("MethodNotAllowed (405)")

    cache = UsageCache(ask)
    assert [await cache.get("a"), await cache.get("b")] == [None, None]
    assert asked == ["a"]
