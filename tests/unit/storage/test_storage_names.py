"""Names from hostile user names: legal, unique, and never someone else's."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taccuino.settings import Settings
from taccuino.storage.errors import StorageError
from taccuino.storage.names import (
    bucket_name,
    own_role,
    role_arn,
    role_name,
    scratch_prefix,
    storage_name,
)

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def settings(**storage: object) -> Settings:
    return Settings.parse({"storage": storage})


@pytest.mark.parametrize(
    "name", ["alice", "al", "a", "john.doe", "john_doe", "x@example.org", "user-1", "0day"]
)
def test_plain_names_stay(name: str) -> None:
    assert storage_name(name) == name
    assert scratch_prefix(name) == f"{name}/"
    assert role_arn(settings(), name) == f"arn:aws:iam:::role/taccuino-{name}"
    assert role_name(settings(), name) == f"taccuino-{name}"


@pytest.mark.parametrize(
    "name",
    ["*", "?", "a/b", "../alice", "..", "a..b", "Alice", "alice ", "ALICE", "", "$", "${aws:x}",
     "josé", "a\nb", "-a", "x" * 49, "alice--" + "0" * 20, "\udc80", "\uff41lice"],
)  # fmt: skip
def test_other_names_are_replaced(name: str) -> None:
    replaced = storage_name(name)
    assert re.fullmatch(r"[a-z0-9-]+--[0-9a-f]{20}", replaced)
    assert len(replaced) <= 38
    assert storage_name(replaced) != replaced, "nobody can be called what another is given"


@pytest.mark.parametrize(
    ("name", "bucket"),
    [
        ("alice", "alice"),
        ("john.doe", "john.doe"),
        ("al", None),  # three characters or more
        ("john_doe", None),
        ("scratch", None),  # the shared one
        ("admin", None),  # RadosGW's own
        ("swift", None),
        ("auth", None),
        ("10.0.0.1", None),
        ("xn--alice", None),
        ("alice-s3alias", None),
        ("a.-b", None),
        ("ends-", None),
    ],
)
def test_buckets_are_legal(name: str, bucket: str | None) -> None:
    made = bucket_name(settings(), name)
    assert made == bucket if bucket else re.fullmatch(r"[a-z0-9-]+--[0-9a-f]{20}", made)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_two_users_share_anything(one: str, other: str) -> None:
    shared = settings()
    names = {bucket_name(shared, one), bucket_name(shared, other)}
    assert all(BUCKET.fullmatch(name) and name != "scratch" for name in names)
    assert len(names) == len({one, other})
    assert len({scratch_prefix(one), scratch_prefix(other)}) == len({one, other})
    assert len({role_name(shared, one), role_name(shared, other)}) == len({one, other})


def test_a_template_never_meets_the_shared_bucket() -> None:
    shared = settings(bucket="nb-{username}", scratch_bucket="nb-scratch")
    assert bucket_name(shared, "alice") == "nb-alice"
    assert bucket_name(shared, "scratch") != "nb-scratch"


@pytest.mark.parametrize("template", ["everyone", "{username}{username}", "Big_{username}"])
def test_a_useless_bucket_template_is_named(template: str) -> None:
    with pytest.raises(StorageError, match=r"storage\.bucket"):
        bucket_name(settings(bucket=template), "alice")


def test_one_role_for_all_is_not_ours() -> None:
    shared = settings(role_arn="arn:aws:iam:::role/IAMaccess")
    assert not own_role(shared)
    assert role_arn(shared, "alice") == "arn:aws:iam:::role/IAMaccess"
    with pytest.raises(StorageError, match=r"storage\.role_arn"):
        role_name(settings(role_arn="{username}"), "alice")
