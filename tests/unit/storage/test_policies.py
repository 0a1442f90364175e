"""What the policies say, and how they are written."""

from __future__ import annotations

import json

import pytest

from taccuino.storage.groups import GroupMount
from taccuino.storage.issuer import condition_prefix, thumbprints
from taccuino.storage.policies import (
    permission_policy,
    policy_text,
    provider_arn,
    subjects,
    trust_policy,
    widened,
)


@pytest.mark.parametrize(
    ("issuer", "prefix"),
    [
        ("https://iam.example.org/", "iam.example.org/"),
        ("https://iam.example.org", "iam.example.org"),
        ("http://localhost:8001", "localhost:8001"),
        ("https://example.org/realms/https://x", "example.org/realms/https://x"),
    ],
)
def test_the_issuer_in_conditions(issuer: str, prefix: str) -> None:
    assert condition_prefix(issuer) == prefix
    assert provider_arn(issuer) == f"arn:aws:iam:::oidc-provider/{prefix}"
    statement = trust_policy(issuer, "abc", ["client"])["Statement"][0]
    assert statement["Principal"] == {"Federated": [provider_arn(issuer)]}
    assert statement["Condition"] == {
        "StringEquals": {f"{prefix}:sub": "abc", f"{prefix}:app_id": ["client"]}
    }
    assert statement["Action"] == ["sts:AssumeRoleWithWebIdentity"]


def allowed(policy: dict, action: str, resource: str) -> bool:
    """A policy of this module's form: exact actions, resources with one star at the end."""

    def covers(pattern: str) -> bool:
        if pattern.endswith("*"):
            return resource.startswith(pattern[:-1])
        return resource == pattern

    return any(
        action in statement["Action"] and any(map(covers, statement["Resource"]))
        for statement in policy["Statement"]
    )


@pytest.mark.parametrize(
    ("action", "path", "may"),
    [
        ("s3:PutObject", "alice/notes/a", True),
        ("s3:GetObject", "alice/notes/a", True),
        ("s3:AbortMultipartUpload", "alice/big", True),
        ("s3:ListMultipartUploadParts", "alice/big", True),
        ("s3:ListBucket", "alice", True),
        ("s3:ListBucket", "scratch", True),
        ("s3:GetObject", "scratch/bruno/x", True),
        ("s3:PutObject", "scratch/alice/x", True),
        ("s3:DeleteObject", "scratch/alice/x", True),
        ("s3:PutObject", "scratch/bruno/x", False),
        ("s3:PutObject", "scratch/alicette/x", False),
        ("s3:DeleteObject", "scratch/x", False),
        ("s3:ListBucket", "bruno", False),
        ("s3:GetObject", "alice2/x", False),
        ("s3:PutObject", "bruno/x", False),
        ("s3:PutBucketPolicy", "alice", False),
        ("s3:PutBucketAcl", "alice", False),
        ("s3:DeleteBucket", "alice", False),
        ("s3:CreateBucket", "alice", False),
    ],
)
def test_what_a_user_may_do(action: str, path: str, *, may: bool) -> None:
    policy = permission_policy("alice", "scratch", "alice/")
    assert allowed(policy, action, f"arn:aws:s3:::{path}") is may


@pytest.mark.parametrize(
    ("trust", "named"),
    [
        (trust_policy("https://a.org/", "s", ["c"]), {"a.org/": "s"}),
        (None, {}),
        ("text", {}),
        ({"Statement": []}, {}),
        ({"Statement": [{"Condition": {"StringLike": {"a:sub": "*"}}}]}, {}),
    ],
)
def test_who_a_trust_policy_names(trust: object, named: dict[str, str]) -> None:
    assert subjects(trust) == named


def test_policies_are_sent_without_a_space() -> None:
    policy = trust_policy("https://iam.example.org/", 'a b"c é +', ["my client"])
    text = policy_text(policy)
    assert " " not in text
    assert text.isascii()
    assert json.loads(text) == policy


def test_thumbprints_are_of_signing_keys_each_once() -> None:
    certificate, other = "aGVsbG8=", "d29ybGQ="
    keys = [
        {"use": "sig", "x5c": [certificate, other]},
        {"x5c": [certificate]},
        {"use": "enc", "x5c": [other]},
        {"use": "sig"},
    ]
    # SHA-1 of "hello"
    assert thumbprints({"keys": keys}) == ("AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D",)


@pytest.mark.parametrize(
    ("there", "audiences"),
    [
        (trust_policy("https://a.org/", "s", ["other"]), ["mine", "other"]),
        (trust_policy("https://a.org/", "s", ["mine", "other"]), ["mine", "other"]),
        (trust_policy("https://b.org/", "s", ["other"]), ["mine"]),
        ({"Statement": []}, ["mine"]),
        (None, ["mine"]),
    ],
)
def test_another_service_keeps_its_audience(there: object, audiences: list[str]) -> None:
    ours = trust_policy("https://a.org/", "s", ["mine"])
    assert widened(ours, there) == trust_policy("https://a.org/", "s", audiences)


def test_users_make_their_bucket_only_where_nobody_else_does() -> None:
    made, own = (
        permission_policy("b", "scratch", "u/", may_create=may)["Statement"][0]
        for may in (False, True)
    )
    assert set(own["Action"]) - set(made["Action"]) == {"s3:CreateBucket"}


def test_groups_buckets_are_given_as_far_as_they_are_shared() -> None:
    groups = [GroupMount("w", "wide", read_only=False), GroupMount("r", "read", read_only=True)]
    plain = permission_policy("b", "scratch", "u/")["Statement"]
    read, wide = permission_policy("b", "scratch", "u/", groups)["Statement"][len(plain) :]
    assert read["Resource"] == ["arn:aws:s3:::read", "arn:aws:s3:::read/*"]
    assert wide["Resource"] == ["arn:aws:s3:::wide", "arn:aws:s3:::wide/*"]
    assert "s3:GetObject" in read["Action"]
    assert not any("Put" in action or "Delete" in action for action in read["Action"])
    assert wide["Action"] == plain[0]["Action"]
