"""Earlier versions of files, and files that were deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taccuino.storage.snapshots import RESERVED

from .copying import Source, copy
from .deleting import delete_each
from .errors import CallError
from .keys import name_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["deleted_files", "purge", "restore", "versions_of"]

_SECONDS = 6.0
_MOST = 1000
_BATCH = 1000


def _entries(client: S3Client, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """All versions and markers below a prefix; within a page in no order."""
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for item in page.get("Versions", []):
            yield {**item, "Deleted": False}
        for marker in page.get("DeleteMarkers", []):
            yield {**marker, "Deleted": True, "Size": 0}


def versions_of(client: S3Client, bucket: str, key: str) -> list[dict[str, Any]]:
    """The versions of one file, the newest first; a deletion is one of them."""
    found = []
    for item in _entries(client, bucket, key):
        if item["Key"] == key:
            found.append(item)
        elif item["Key"] > key and not item["Key"].startswith(key):
            break
    found.sort(key=lambda item: (item["IsLatest"], item["LastModified"]), reverse=True)
    return [
        {
            "id": item["VersionId"],
            "size": item["Size"],
            "modified": int(item["LastModified"].timestamp()),
            "current": item["IsLatest"],
            "deleted": item["Deleted"],
        }
        for item in found
    ]


def restore(client: S3Client, bucket: str, key: str, version: str) -> None:
    """Make an earlier version the current one; what was current becomes an earlier one.

    Raises
    ------
    CallError
        404, if there is no such version.
    """
    head = client.head_object(Bucket=bucket, Key=key, VersionId=version)
    source = Source(bucket, key, head["ContentLength"], head["ETag"].strip('"'), version)
    copy(client, source, bucket, key)


def deleted_files(
    client: S3Client, bucket: str, prefix: str, *, seconds: float = _SECONDS
) -> dict[str, Any]:
    """Files below a prefix that were deleted and can be had back.

    ``complete`` tells whether all were looked at in the time there is.
    """
    end = time.monotonic() + seconds
    hidden: dict[str, Any] = {}
    newest: dict[str, Any] = {}
    complete = True
    for item in _entries(client, bucket, prefix):
        if time.monotonic() > end or len(hidden) > _MOST:
            complete = False
            break
        if item["Key"].startswith(RESERVED):
            continue
        key = item["Key"]
        if item["Deleted"]:
            if item["IsLatest"]:
                hidden[key] = item
        elif key not in newest or item["LastModified"] > newest[key]["LastModified"]:
            newest[key] = item
    files = [
        {
            "key": key,
            "name": name_of(key),
            "version": newest[key]["VersionId"],
            "size": newest[key]["Size"],
            "deleted_at": int(marker["LastModified"].timestamp()),
        }
        for key, marker in hidden.items()
        if key in newest and not key.endswith("/")
    ]
    files.sort(key=lambda file: file["deleted_at"], reverse=True)
    return {"files": files, "complete": complete}


def purge(client: S3Client, bucket: str, prefix: str) -> int:
    """Drop all earlier versions and deleted files below a prefix; the bytes that frees.

    What is current stays.

    Raises
    ------
    CallError
        502, if the storage refused some; the rest is gone.
    """
    freed = 0
    # A marker goes last: without it, the newest version it hides would be current again.
    markers: list[tuple[str, str | None]] = []
    sizes: dict[tuple[str, str | None], int] = {}

    def drop() -> None:
        nonlocal freed
        for item, (_, size) in zip(
            delete_each(client, bucket, list(sizes)), list(sizes.items()), strict=True
        ):
            if item.failure is not None:
                raise CallError(
                    502, f"The object storage does not drop {item.key}.", reason="partial"
                )
            freed += size
        sizes.clear()

    for entry in _entries(client, bucket, prefix):
        version = (entry["Key"], entry["VersionId"])
        if entry["Deleted"]:
            markers.append(version)
        elif not entry["IsLatest"]:
            sizes[version] = entry["Size"]
        if len(sizes) == _BATCH:
            drop()
    drop()
    sizes.update(dict.fromkeys(markers, 0))
    drop()
    return freed
