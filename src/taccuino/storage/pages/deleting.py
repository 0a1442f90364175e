"""Deletions, one request an object and some at a time.

Not S3's call for a thousand keys: RadosGW 16 asks for the right to delete in the whole bucket
before it looks at the keys, which nobody has in scratch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Deleted", "delete_each"]

_AT_ONCE = 12
_BATCH = 1000


@dataclass(frozen=True)
class Deleted:
    """What became of one object's deletion."""

    key: str
    marker: str | None = None
    """The version id of the marker that hides the file; None where it is gone for good."""
    failure: str | None = None
    """Why it is still there, in the storage's words."""


def delete_each(
    client: S3Client, bucket: str, objects: Iterable[tuple[str, str | None]]
) -> Iterator[Deleted]:
    """Delete keys (with a version id: that version for good); a failure stops no other.

    Raises
    ------
    botocore.exceptions.BotoCoreError
        If the storage gives no answer.
    """

    def delete(item: tuple[str, str | None]) -> Deleted:
        key, version = item
        try:
            if version is not None:
                client.delete_object(Bucket=bucket, Key=key, VersionId=version)
                return Deleted(key)
            answer = client.delete_object(Bucket=bucket, Key=key)
        except ClientError as error:
            return Deleted(key, failure=str(error.response.get("Error", {}).get("Code", error)))
        return Deleted(key, marker=answer.get("VersionId"))

    remaining = iter(objects)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pages-delete") as threads:
        while batch := list(islice(remaining, _BATCH)):
            yield from threads.map(delete, batch)
