"""Buckets as they are wanted: whose each is, its quota, and what happens to earlier versions.

What was done is noted in a bucket's tags, so that one which is as it should be costs a start of
a server a single call. ``taccuino-settings`` stands for all that the settings ask of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from .admin_ops import AdminOps, NoAdminOpsError
from .clients import StorageClients
from .errors import StorageError, is_missing
from .lifecycle import lifecycle_rules, same_rules, version_state
from .names import storage_name

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Bucket", "Buckets", "Owner", "keep_versions", "tag_value"]

_log = logging.getLogger(__name__)

_OWNERS: Final = ("taccuino-user", "taccuino-group", "taccuino-scratch")
_QUOTA: Final = "taccuino-quota"
_SETTINGS: Final = "taccuino-settings"
_NO_QUOTA: Final = "none"
_FORM: Final = 2
"""Raised when `Buckets` begins to ask more of a bucket than it did."""
_NOT_IN_TAGS: Final = re.compile(r"[^\w \t+\-=.:/@]")


@dataclass(frozen=True)
class Owner:
    """Whose a bucket is: a tag of it. ``known_as`` are values that earlier versions wrote."""

    key: str
    value: str
    known_as: frozenset[str] = frozenset()
    takes_untagged: bool = False
    """Whether a bucket with files in it and no such tag may be taken for theirs."""

    @classmethod
    def user(cls, username: str) -> Owner:
        """A user: their name, if a tag can hold it. No bucket is theirs by its name alone."""
        plain = tag_value(username) == username
        value = username if plain else storage_name(username)
        return cls("taccuino-user", value, frozenset({username[:256]}))

    @classmethod
    def groups(cls) -> Owner:
        """The members of groups; an operator named the bucket, so it is theirs."""
        return cls("taccuino-group", "members", takes_untagged=True)

    @classmethod
    def everybody(cls) -> Owner:
        """All users: scratch."""
        return cls("taccuino-scratch", "all", takes_untagged=True)

    def check(self, bucket: str, tags: Mapping[str, str]) -> None:
        """Look whether a bucket is theirs or has no owner.

        Raises
        ------
        StorageError
            With the reason ``conflict``, if it is another's.
        """
        for key in _OWNERS:
            value = tags.get(key)
            if value is None:
                continue
            if key != self.key or value not in {self.value, *self.known_as}:
                raise StorageError(
                    f"the bucket {bucket!r} is another's: its tag {key} is {value!r}, not "
                    f"{self.key} {self.value!r}; choose another name for it in the "
                    "settings, or see to its content and change the tag",
                    reason="conflict",
                )


@dataclass(frozen=True)
class Bucket:
    """A bucket as it is wanted. ``notes`` are tags for those who look after the storage."""

    name: str
    owner: Owner
    quota_bytes: int | None
    keep_versions_days: int
    notes: tuple[tuple[str, str], ...] = ()

    @property
    def tags(self) -> dict[str, str]:
        """The tags that say whose it is."""
        return {self.owner.key: self.owner.value, **dict(self.notes)}

    @property
    def fingerprint(self) -> str:
        """Stands for all that is wanted of the bucket."""
        wanted = [_FORM, self.quota_bytes, self.keep_versions_days]
        return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]


class Buckets:
    """Makes buckets and mends them, with the administrator's keys; blocking.

    Raises
    ------
    StorageError
        With the reason ``conflict``, if a bucket of that name is another's.
    ClientError, BotoCoreError
        As boto3 has them.
    """

    def __init__(
        self, clients: StorageClients, admin: AdminOps, changed: Callable[[str], None]
    ) -> None:
        self._clients = clients
        self._admin = admin
        self._changed = changed
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._no_quotas = False
        self._done: dict[str, str] = {}
        """What this process has done where the tags could not take note of all of it."""

    def ensure(self, bucket: Bucket) -> None:
        """Make a bucket what it must be."""
        tags = self._tags(bucket.name)
        if tags is not None and self._is_as_wanted(bucket, tags):
            return
        with self._locks[bucket.name]:
            tags = self._tags(bucket.name)
            if tags is None:
                tags = self._make(bucket)
            elif not any(key in tags for key in _OWNERS):
                self._take(bucket)
            if not self._is_as_wanted(bucket, tags):
                self._mend(bucket, tags)

    def _is_as_wanted(self, bucket: Bucket, tags: Mapping[str, str]) -> bool:
        bucket.owner.check(bucket.name, tags)
        done = bucket.fingerprint in (tags.get(_SETTINGS), self._done.get(bucket.name))
        return done and bucket.tags.items() <= tags.items()

    def _make(self, bucket: Bucket) -> dict[str, str]:
        self._clients.s3().create_bucket(Bucket=bucket.name)
        self._tag(bucket.name, bucket.tags)
        _log.info("Made the bucket %s", bucket.name)
        return bucket.tags

    def _take(self, bucket: Bucket) -> None:
        """Take a bucket without an owner: an operator's, or one whose making was cut off."""
        if bucket.owner.takes_untagged:
            return
        found = self._clients.s3().list_object_versions(Bucket=bucket.name, MaxKeys=1)
        if found.get("Versions") or found.get("DeleteMarkers"):
            raise StorageError(
                f"the bucket {bucket.name!r} was there before, with files and no owner; if it "
                f"belongs to {bucket.owner.value!r}, give it the tag {bucket.owner.key}",
                reason="conflict",
            )

    def _mend(self, bucket: Bucket, tags: Mapping[str, str]) -> None:
        s3 = self._clients.s3()
        keep_versions(s3, bucket.name, bucket.keep_versions_days)
        s3.put_public_access_block(
            Bucket=bucket.name,
            # RadosGW 16 asks no policy about the ACL of a copy or of an upload in parts. The
            # other switches are off: with BlockPublicAcls it refuses every PUT.
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": False,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": False,
                "RestrictPublicBuckets": False,
            },
        )
        done = {**tags, **bucket.tags, _SETTINGS: bucket.fingerprint}
        try:
            done[_QUOTA] = self._mend_quota(bucket, tags.get(_QUOTA))
        except NoAdminOpsError as error:
            if bucket.quota_bytes is not None and not self._no_quotas:
                self._no_quotas = True
                _log.warning("The object storage takes no quotas from us: %s", error)
            done.pop(_SETTINGS)  # another process asks again
        self._tag(bucket.name, done)
        self._done[bucket.name] = bucket.fingerprint

    def _mend_quota(self, bucket: Bucket, ours: str | None) -> str:
        """Give a bucket its quota unless an operator gave it another; the tag that notes ours.

        A quota that is not the one we set last was set by hand, and stays.
        """
        quota = self._admin.usage(bucket.name).quota_bytes
        there = _NO_QUOTA if quota is None else str(quota)
        wanted = (
            _NO_QUOTA
            if bucket.quota_bytes is None
            else str(-(-bucket.quota_bytes // 1024) * 1024)
        )
        if there == wanted:
            return wanted
        if there != (ours or _NO_QUOTA):
            _log.info("The bucket %s keeps the quota that it was given by hand", bucket.name)
            return ours or _NO_QUOTA
        self._admin.set_quota(bucket.name, bucket.quota_bytes)
        self._changed(bucket.name)
        return wanted

    def _tags(self, bucket: str) -> dict[str, str] | None:
        """A bucket's tags; ``None`` if there is no such bucket."""
        try:
            found = self._clients.s3().get_bucket_tagging(Bucket=bucket)["TagSet"]
        except ClientError as error:
            if not is_missing(error):
                raise
            return None if error.response["Error"].get("Code") == "NoSuchBucket" else {}
        return {tag["Key"]: tag["Value"] for tag in found}

    def _tag(self, bucket: str, tags: Mapping[str, str]) -> None:
        pairs: Any = [{"Key": key, "Value": value} for key, value in tags.items()]
        self._clients.s3().put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": pairs})


def keep_versions(s3: S3Client, bucket: str, days: int) -> None:
    """Keep earlier versions of a bucket's files for so many days, or none with 0; blocking.

    Raises
    ------
    ClientError, BotoCoreError
        As boto3 has them.
    """
    there = s3.get_bucket_versioning(Bucket=bucket).get("Status")
    if state := version_state(there, days):
        configuration: Any = {"Status": state}
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=configuration)
    try:
        found: Any = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        if not is_missing(error):
            raise
        found = []
    rules: Any = lifecycle_rules(found, days)
    if not same_rules(found, rules):
        s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": rules}
        )


def tag_value(text: str) -> str:
    """A text as AWS takes it for a tag: letters, digits, spaces and ``+ - = . _ : / @``."""
    return _NOT_IN_TAGS.sub("_", text)[:256]
