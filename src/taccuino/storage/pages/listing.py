"""Looking into a bucket: pages of a folder, all keys below it, names that match."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taccuino.storage.snapshots import RESERVED

from .keys import name_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["file_json", "list_page", "search", "walk"]

PAGE = 1000
"""Entries of a page (S3's own limit)."""
SEARCH_SECONDS = 6.0
SEARCH_MOST = 500


def file_json(item: Any) -> dict[str, Any]:
    """A file, from an entry of a listing."""
    return {
        "key": item["Key"],
        "name": name_of(item["Key"]),
        "size": item["Size"],
        "modified": int(item["LastModified"].timestamp()),
        "etag": item["ETag"].strip('"'),
    }


def list_page(
    client: S3Client, bucket: str, prefix: str, token: str | None = None
) -> dict[str, Any]:
    """One page of a folder; ``next`` is the token of the page after it."""
    more: Any = {"ContinuationToken": token} if token else {}
    answer = client.list_objects_v2(
        Bucket=bucket, Prefix=prefix, Delimiter="/", MaxKeys=PAGE, **more
    )
    folders = [
        {"key": item["Prefix"], "name": name_of(item["Prefix"])}
        for item in answer.get("CommonPrefixes", [])
        if item["Prefix"] != RESERVED
    ]
    # The folder's own marker is no file in it.
    files = [file_json(item) for item in answer.get("Contents", []) if item["Key"] != prefix]
    following = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
    return {"folders": folders, "files": files, "next": following}


def walk(client: S3Client, bucket: str, prefix: str) -> Iterator[Any]:
    """All objects below a prefix, folders' markers among them.

    Of the whole bucket, not what the service keeps there for itself.
    """
    for item in _entries(client, bucket, prefix):
        if prefix or not item["Key"].startswith(RESERVED):
            yield item


def _entries(client: S3Client, bucket: str, prefix: str) -> Iterator[Any]:
    """Also what the service keeps, which takes its time too."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        yield from page.get("Contents", [])


def search(
    client: S3Client, bucket: str, prefix: str, words: str, *, seconds: float = SEARCH_SECONDS
) -> dict[str, Any]:
    """Files below a prefix whose name has the words in it; ``complete`` if all were seen."""
    wanted, end = words.casefold(), time.monotonic() + seconds
    found: list[dict[str, Any]] = []
    for item in _entries(client, bucket, prefix):
        if time.monotonic() > end:
            return {"files": found, "complete": False}
        if not prefix and item["Key"].startswith(RESERVED):
            continue
        if not item["Key"].endswith("/") and wanted in name_of(item["Key"]).casefold():
            if len(found) == SEARCH_MOST:
                return {"files": found, "complete": False}
            found.append(file_json(item))
    return {"files": found, "complete": True}
