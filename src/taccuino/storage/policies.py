"""The policies of buckets and roles: pure functions that give compact JSON.

RadosGW 16 takes the ``+`` that a space becomes in a form for a plus sign and answers 400, so
no policy has a space: `policy_text` writes those within strings as an escape.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .groups import GroupMount
from .issuer import condition_prefix

__all__ = [
    "permission_policy",
    "policy_text",
    "provider_arn",
    "subjects",
    "trust_policy",
    "widened",
]

_LIST = [
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
    "s3:ListBucketMultipartUploads",
]
_READ = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging"]
_WRITE = [
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutObjectTagging",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
]


def policy_text(policy: Mapping[str, Any]) -> str:
    """A policy as it is sent: compact, ASCII, without a space."""
    return json.dumps(policy, separators=(",", ":")).replace(" ", "\\u0020")


def provider_arn(issuer: str) -> str:
    """The ARN that RadosGW gives the OIDC provider of an issuer."""
    return f"arn:aws:iam:::oidc-provider/{condition_prefix(issuer)}"


def trust_policy(issuer: str, subject: str, audiences: Sequence[str]) -> dict[str, Any]:
    """Who may assume a user's role: that subject of that issuer, with a token for us.

    Conditions are compared with ``StringEquals``, which knows no wildcards.
    """
    prefix = condition_prefix(issuer)
    condition = {f"{prefix}:sub": subject, f"{prefix}:app_id": list(audiences)}
    return _policy(
        {
            "Effect": "Allow",
            "Principal": {"Federated": [provider_arn(issuer)]},
            "Action": ["sts:AssumeRoleWithWebIdentity"],
            "Condition": {"StringEquals": condition},
        }
    )


def subjects(trust: object) -> dict[str, str]:
    """Who a trust policy of `trust_policy`'s form names: issuer -> subject; else nobody."""
    match trust:
        case {"Statement": [{"Condition": {"StringEquals": dict(conditions)}}]}:
            return {
                str(key).removesuffix(":sub"): str(value)
                for key, value in conditions.items()
                if str(key).endswith(":sub")
            }
    return {}


def widened(trust: dict[str, Any], there: object) -> dict[str, Any]:
    """A trust policy of ours, with the audiences that one for the same subject has besides.

    Two services on one storage, such as two sites with a client each, share their users'
    roles: neither may lock the other's tokens out.
    """
    ours = trust["Statement"][0]["Condition"]["StringEquals"]
    match there:
        case {"Statement": [{"Condition": {"StringEquals": dict(theirs)}}]}:
            pass
        case _:
            return trust
    conditions = {}
    for key, value in ours.items():
        conditions[key] = value
        if key.endswith(":app_id") and isinstance(known := theirs.get(key), list):
            conditions[key] = sorted({*value, *known})
    statement = {**trust["Statement"][0], "Condition": {"StringEquals": conditions}}
    return _policy(statement)


def permission_policy(
    bucket: str,
    scratch_bucket: str,
    scratch_prefix: str,
    groups: Iterable[GroupMount] = (),
    *,
    may_create: bool = False,
) -> dict[str, Any]:
    """What a user may do: all in the own bucket, read scratch, write to the own part of it.

    And what the groups' buckets are shared for. Where nobody else makes buckets, the user
    ``may_create`` the own one too. None of it changes a bucket's configuration.
    """
    create = ["s3:CreateBucket"] if may_create else []
    scratch = f"arn:aws:s3:::{scratch_bucket}"
    return _policy(
        _allow([*create, *_LIST, *_READ, *_WRITE], bucket),
        _allow([*_LIST, *_READ], scratch_bucket),
        {"Effect": "Allow", "Action": _WRITE, "Resource": [f"{scratch}/{scratch_prefix}*"]},
        *(
            _allow([*_LIST, *_READ, *([] if group.read_only else _WRITE)], group.bucket)
            for group in sorted(groups, key=lambda group: group.bucket)
        ),
    )


def _allow(actions: Sequence[str], bucket: str) -> dict[str, Any]:
    arn = f"arn:aws:s3:::{bucket}"
    return {"Effect": "Allow", "Action": actions, "Resource": [arn, f"{arn}/*"]}


def _policy(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
