"""RadosGW's Admin Ops API: how full a bucket is, and the most that it may hold.

S3 has no quotas. RadosGW keeps them beside it (*Admin Operations*, Ceph's documentation), for
an account with the capability ``buckets=*``. It signs its calls as S3's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as SigningKeys
from botocore.httpsession import URLLib3Session

from taccuino.settings import Settings

from .errors import StorageError

__all__ = ["AdminOps", "BucketUsage", "NoAdminOpsError"]

_CONNECT_SECONDS: Final = 2.0
_READ_SECONDS: Final = 10.0
_KIB: Final = 1024


@dataclass(frozen=True)
class BucketUsage:
    """How full a bucket is, earlier versions of its files and unfinished uploads included."""

    bytes: int
    objects: int
    quota_bytes: int | None
    """The most it may hold; ``None`` is no limit."""


class NoAdminOpsError(StorageError):
    """The storage has no such API, or our account may not use it."""


class AdminOps:
    """The calls that the provisioner needs; blocking.

    Raises
    ------
    NoAdminOpsError
        From each call, if there is no such API for us.
    StorageError, BotoCoreError
        For what else the storage answers, and if it can't be reached.
    """

    def __init__(self, settings: Settings, admin_keys: Callable[[], tuple[str, str]]) -> None:
        self._settings = settings
        self._admin_keys = admin_keys
        bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        timeouts: Any = (_CONNECT_SECONDS, _READ_SECONDS)  # the stubs know botocore's own uses
        verify: Any = bundle or True
        self._http = URLLib3Session(verify=verify, timeout=timeouts)

    def usage(self, bucket: str) -> BucketUsage:
        """What is in a bucket; one call, which reads the bucket's index and no object."""
        return bucket_usage(self._bucket(bucket))

    def set_quota(self, bucket: str, size: int | None) -> None:
        """Let a bucket hold so many bytes (rounded up to KiB), or with ``None`` any number."""
        limit = {"enabled": "false"} if size is None else {"enabled": "true"}
        kib = {} if size is None else {"max-size-kb": -(-size // _KIB)}
        owner = self._bucket(bucket)["owner"]
        self._call("PUT", "quota", uid=owner, bucket=bucket, **limit, **kib)

    def _bucket(self, bucket: str) -> dict[str, Any]:
        text = self._call("GET", "", bucket=bucket, stats="true", format="json")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "owner" not in answer:
            # Another S3 may have a bucket named "admin" and list it.
            raise NoAdminOpsError("the answer is none of RadosGW's")
        return answer

    def _call(self, method: str, resource: str, **query: object) -> bytes:
        parameters = "&".join(part for part in (resource, urlencode(query)) if part)
        url = f"{(self._settings.storage.endpoint or '').rstrip('/')}/admin/bucket?{parameters}"
        request = AWSRequest(method, url, data=b"")
        keys, region = SigningKeys(*self._admin_keys()), self._settings.storage.region
        S3SigV4Auth(keys, "s3", region).add_auth(request)
        answer = self._http.send(request.prepare())
        if answer.status_code == HTTPStatus.OK:
            return bytes(answer.content)
        code = _code(answer.content)
        said = f"{code or 'an error'} ({answer.status_code})"
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise StorageError(said, reason="unreachable")
        if answer.status_code == HTTPStatus.NOT_FOUND and code:
            raise StorageError(said)
        raise NoAdminOpsError(said)


def bucket_usage(stats: dict[str, Any]) -> BucketUsage:
    """The usage that an answer of ``GET /admin/bucket?stats`` tells.

    It is kept in categories: files (``rgw.main``), and what parts of uploads belong to.
    """
    categories = stats.get("usage", {}).values()
    quota = stats.get("bucket_quota", {})
    size = int(quota.get("max_size", -1))
    return BucketUsage(
        bytes=sum(int(category.get("size", 0)) for category in categories),
        objects=sum(int(category.get("num_objects", 0)) for category in categories),
        quota_bytes=size if quota.get("enabled") and size >= 0 else None,
    )


def _code(content: bytes) -> str:
    """RadosGW's own error code; empty for what others answer, which is XML or HTML."""
    try:
        return str(json.loads(content)["Code"])[:100]
    except (ValueError, KeyError, TypeError):
        return ""
