"""The versions of a bucket's objects, asked for and copied with the user's own credentials.

All calls block.
"""

from __future__ import annotations

import base64
import contextlib
import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from taccuino.storage.errors import is_missing

from .configuration import NODE_METADATA
from .conflicts import Metadata, Version

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["UnversionedBucketError", "VersionedBucket"]

_PAGE = 25
_WHOLE_PAGE = 1000
_TOGETHER = 4
"""As many files of a folder are asked for with one listing of the folder."""
_LARGEST_COPY = 5 * 1000**3
_NAMES = 50


class UnversionedBucketError(Exception):
    """The bucket keeps no earlier versions: what was overwritten there is gone."""


class VersionedBucket:
    """A bucket that keeps earlier versions.

    ``clock_offset`` is how far the storage's clock is ahead of this node's, in seconds, to
    within one: its answers tell the time in whole ones.
    """

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self.clock_offset = 0.0
        self._s3 = s3
        self._bucket = bucket
        self._metadata: dict[tuple[str, str], Metadata] = {}

    def versions(self, since: Mapping[str, float]) -> dict[str, list[Version]]:
        """The versions of each key, newest first, back to the one before ``since`` (unix time).

        Raises
        ------
        UnversionedBucketError
            If the bucket does not keep versions.
        """
        folders: dict[str, list[str]] = defaultdict(list)
        for key in since:
            folders[key.rpartition("/")[0]].append(key)
        found: dict[str, list[Version]] = {}
        for keys in folders.values():
            if len(keys) >= _TOGETHER:
                found |= self._together(sorted(keys))
        for key in since:
            if key not in found:
                found[key] = self._alone(key, since[key])
        if any(version.id == "null" for chain in found.values() for version in chain[:1]):
            raise UnversionedBucketError
        return found

    def _together(self, keys: list[str]) -> dict[str, list[Version]]:
        """The versions of those of a folder's files that a few pages hold in full."""
        wanted = set(keys)
        chains: dict[str, list[Version]] = defaultdict(list)
        last, limit = "", 2 + len(keys) // 100
        prefix = keys[0].rpartition("/")[0]
        pages = self._pages(f"{prefix}/" if prefix else "", _WHOLE_PAGE, after=keys[0][:-1])
        for number, page in enumerate(pages):
            for last, version in page:
                if last in wanted:
                    chains[last].append(version)
            if last > keys[-1] or number + 1 >= limit:
                break
        else:
            return {key: chains[key] for key in keys}
        return {key: chains[key] for key in keys if key < last}

    def _alone(self, key: str, since: float) -> list[Version]:
        chain: list[Version] = []
        for page in self._pages(key, _PAGE):
            chain += [version for name, version in page if name == key]
            if page and page[-1][0] != key:
                break
            if any(version.at < since and not version.deleted for version in chain):
                break
        return chain

    def _pages(
        self, prefix: str, size: int, after: str = ""
    ) -> Iterator[list[tuple[str, Version]]]:
        """The versions in the storage's order: by key, newest first."""
        marker: dict[str, Any] = {"KeyMarker": after} if len(after) > len(prefix) else {}
        while True:
            asked = time.time()
            answer = self._s3.list_object_versions(
                Bucket=self._bucket, Prefix=prefix, MaxKeys=size, **marker
            )
            self._note_time(answer["ResponseMetadata"], (asked + time.time()) / 2)
            yield _in_order(answer)
            if not answer.get("IsTruncated"):
                return
            marker = {"KeyMarker": answer["NextKeyMarker"]}
            if answer.get("NextVersionIdMarker"):
                marker["VersionIdMarker"] = answer["NextVersionIdMarker"]

    def _note_time(self, response: Mapping[str, Any], now: float) -> None:
        with contextlib.suppress(KeyError, ValueError):
            told = parsedate_to_datetime(response["HTTPHeaders"]["date"]).timestamp()
            self.clock_offset = told + 0.5 - now

    def metadata(self, key: str, version: Version) -> Metadata:
        """What a version's metadata tells; nothing if it is gone."""
        known = self._metadata.get((key, version.id))
        if known is None:
            try:
                answer = self._s3.head_object(
                    Bucket=self._bucket, Key=key, VersionId=version.id
                )
            except ClientError as error:
                if not is_missing(error):
                    raise
                return Metadata()
            known = self._metadata[key, version.id] = _metadata(answer["Metadata"])
        return known

    def keep(self, key: str, version: Version, name: Callable[[int], str]) -> str | None:
        """Copy a version to a key of its own, once; the key, or None if the version is gone.

        ``name`` gives a key for each number, for the case that a first one is taken.
        """
        for number in range(1, _NAMES):
            target = name(number)
            try:
                there = self._s3.head_object(Bucket=self._bucket, Key=target)
            except ClientError as error:
                if not is_missing(error):
                    raise
                return target if self._copy(key, version, target) else None
            if there["ContentLength"] == version.size and _etag(there) == version.etag:
                return target
        return None

    def _copy(self, key: str, version: Version, target: str) -> bool:
        source: Any = {"Bucket": self._bucket, "Key": key, "VersionId": version.id}
        try:
            if version.size < _LARGEST_COPY:
                self._s3.copy_object(Bucket=self._bucket, Key=target, CopySource=source)
            else:
                self._s3.copy(source, self._bucket, target)
        except ClientError as error:
            if not is_missing(error):
                raise
            return False
        return True


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).strip('"')


def _in_order(answer: Mapping[str, Any]) -> list[tuple[str, Version]]:
    """Versions and marks of deletion, which an answer tells apart, by key and newest first.

    Each of the two keeps its order: two uploads of one millisecond have one too.
    """

    def items(name: str) -> Iterator[tuple[str, bool, Version]]:
        for item in answer.get(name, []):
            version = Version(
                id=str(item["VersionId"]),
                at=item["LastModified"].timestamp(),
                etag=_etag(item),
                size=int(item.get("Size", 0)),
                deleted=name == "DeleteMarkers",
            )
            yield str(item["Key"]), not item["IsLatest"], version

    both = heapq.merge(
        items("Versions"),
        items("DeleteMarkers"),
        key=lambda found: (found[0], found[1], -found[2].at),
    )
    return [(key, version) for key, _, version in both]


def _metadata(found: Mapping[str, str]) -> Metadata:
    """What rclone writes: the time in seconds, and the MD5 of what it uploads in parts."""
    mtime, md5 = None, ""
    with contextlib.suppress(KeyError, ValueError):
        mtime = float(found["mtime"])
    with contextlib.suppress(KeyError, ValueError):
        md5 = base64.b64decode(found["md5chksum"]).hex()
    return Metadata(node=found.get(NODE_METADATA, ""), mtime=mtime, md5=md5)
