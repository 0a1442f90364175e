"""Names in the object storage made from a user's name: bucket, role, prefix in scratch.

A user's name is what an IAM says it is, so it is hostile input: a ``*`` in a policy's
resource would open every user's objects, and a ``/`` another one's. A plain name is used as
it is; any other is replaced by a form that no plain name has, so two users never share one.
"""

from __future__ import annotations

import hashlib
import re

from taccuino.settings import Settings

from .errors import StorageError

__all__ = [
    "bucket_name",
    "directory_name",
    "own_role",
    "role_arn",
    "role_name",
    "scratch_prefix",
    "storage_name",
]

_PLAIN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,47}", re.ASCII)
_REPLACED = re.compile(r".*--[0-9a-f]{20}", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_NOT_A_BUCKET = re.compile(r".*(\.\.|\.-|-\.).*|\d+\.\d+\.\d+\.\d+|xn--.*|.*(-s3alias|--ol-s3)")
_GATEWAYS_OWN = {"admin", "auth", "swift"}
"""Paths that RadosGW keeps for its other APIs (``rgw admin entry``, ``rgw swift url prefix``,
``rgw swift auth entry``): a bucket of that name is answered with 405."""
_ROLE = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}", re.ASCII)
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}", re.ASCII)
_PLACE = "{username}"


def storage_name(username: str) -> str:
    """The name itself if it is plain, else a safe and unique replacement.

    The replacement ends in 80 bits of the name's SHA-256: to find a second name with the same
    one would take 2^80 tries, and where people register themselves somebody may try.
    """
    plain = _PLAIN.fullmatch(username) and ".." not in username
    return username if plain and not _REPLACED.fullmatch(username) else _replacement(username)


def _replacement(username: str) -> str:
    digest = hashlib.sha256(username.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    safe = re.sub(r"[^a-z0-9]+", "-", username.lower()).strip("-")[:16].strip("-")
    if safe in {"", "xn"}:  # what begins with xn-- is no bucket
        safe = "user"
    return f"{safe}--{digest}"


def bucket_name(settings: Settings, username: str) -> str:
    """The user's own bucket: legal in S3, and never the shared one, a group's or an API's.

    Where people register themselves, somebody may take the name of a group's bucket.

    Raises
    ------
    StorageError
        If ``storage.bucket`` makes one name for all users, or one that S3 refuses.
    """
    template = settings.storage.bucket
    if template.count(_PLACE) != 1:
        raise StorageError(
            f"storage.bucket: {template!r} must contain {_PLACE} once, or users share a bucket"
        )
    storage = settings.storage
    taken = {storage.scratch_bucket, *(entry.bucket for entry in storage.group_buckets)}
    taken |= _GATEWAYS_OWN
    for name in (storage_name(username), _replacement(username)):
        bucket = template.replace(_PLACE, name)
        legal = _BUCKET.fullmatch(bucket) and not _NOT_A_BUCKET.fullmatch(bucket)
        if legal and bucket not in taken:
            return bucket
    raise StorageError(
        f"storage.bucket: {template!r} gives the bucket {bucket!r}, which S3 refuses; use 3 to "
        "63 lower-case letters, digits, hyphens and dots, of which the name takes up to 38"
    )


def directory_name(username: str) -> str:
    """What the user's bucket is called in ``cloud_storage``: their name, if it is safe."""
    if username == "scratch":
        return "scratch--own"
    return username if _FILE_NAME.fullmatch(username) else storage_name(username)


def scratch_prefix(username: str) -> str:
    """The only part of the shared bucket that the user writes to, with its slash."""
    return f"{storage_name(username)}/"


def own_role(settings: Settings) -> bool:
    """Whether each user has a role of their own, and not one that an operator made for all."""
    return _PLACE in settings.storage.role_arn


def role_arn(settings: Settings, username: str) -> str:
    """The role that the user assumes."""
    return settings.storage.role_arn.replace(_PLACE, storage_name(username))


def role_name(settings: Settings, username: str) -> str:
    """The name of that role, without its path.

    Raises
    ------
    StorageError
        If ``storage.role_arn`` names no role.
    """
    arn = role_arn(settings, username)
    name = arn.rpartition(":role/")[2].rpartition("/")[2]
    if ":role/" not in arn or not _ROLE.fullmatch(name):
        raise StorageError(
            f"storage.role_arn: {arn!r} is no role's ARN; write it such as "
            "arn:aws:iam:::role/taccuino-{username}"
        )
    return name
