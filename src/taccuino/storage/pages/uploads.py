"""Uploads in parts, which a cut of the network does not throw back to the beginning."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from taccuino.settings import Settings
from taccuino.storage.errors import is_missing

from .errors import CallError
from .presigned import put_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["abort", "begin", "complete", "exists", "part_size", "parts", "urls"]

_MIB = 1024**2
SMALLEST_PART = 8 * _MIB
"""A smaller file is put whole; S3's own limit for a part is 5 MiB."""
MOST_PARTS = 10_000
LARGEST_PART = 5 * 1024**3
LARGEST_FILE = 5 * 1024**4
MOST_URLS = 1000


def part_size(size: int) -> int:
    """Bytes of a part, such that a file has 10,000 parts at most: whole MiB.

    Raises
    ------
    CallError
        413, if S3 takes no file of this size.
    """
    if size < 0:
        raise CallError(400, "size: the file's size in bytes.")
    if size > LARGEST_FILE:
        raise CallError(413, "The object storage takes files of up to 5 TiB.")
    needed = -(-size // MOST_PARTS)
    return max(SMALLEST_PART, -(-needed // _MIB) * _MIB)


def exists(client: S3Client, bucket: str, key: str) -> bool:
    """Whether there is such a file."""
    try:
        client.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if is_missing(error):
            return False
        raise
    return True


def begin(
    settings: Settings, client: S3Client, bucket: str, key: str, size: int, media_type: str
) -> dict[str, Any]:
    """Begin an upload: of a small file by one ``PUT``, of another in parts."""
    each = part_size(size)
    if size <= each == SMALLEST_PART:
        url = put_url(settings, client, bucket, key)
        return {"upload_id": None, "part_size": each, "url": url}
    made = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType=media_type)
    return {"upload_id": made["UploadId"], "part_size": each}


def parts(client: S3Client, bucket: str, key: str, upload_id: str) -> list[dict[str, Any]]:
    """The parts that have arrived whole."""
    pages = client.get_paginator("list_parts").paginate(
        Bucket=bucket, Key=key, UploadId=upload_id
    )
    return [
        {"number": part["PartNumber"], "size": part["Size"], "etag": part["ETag"].strip('"')}
        for page in pages
        for part in page.get("Parts", [])
    ]


def urls(
    settings: Settings,
    client: S3Client,
    bucket: str,
    key: str,
    upload_id: str,
    numbers: list[int],
) -> dict[str, str]:
    """Where these parts are put."""
    return {
        str(number): put_url(
            settings, client, bucket, key, UploadId=upload_id, PartNumber=number
        )
        for number in numbers
    }


def complete(
    client: S3Client, bucket: str, key: str, upload_id: str, etags: dict[int, str]
) -> str:
    """Join the parts; the file's ETag.

    May be repeated: where the first answer was lost, the upload has ended and the file is
    there, with the ETag that these parts make.
    """
    joined = [
        {"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in sorted(etags.items())
    ]
    try:
        answer = client.complete_multipart_upload(
            Bucket=bucket,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": joined},  # type: ignore[typeddict-item]
        )
        # RadosGW 16 answers a repeated request with success and no ETag.
        if etag := answer.get("ETag", "").strip('"'):
            return etag
    except ClientError as error:
        if not is_missing(error):
            raise
    there = client.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
    if there != joined_etag(etags):
        raise CallError(404, "This upload has ended: begin it anew.", reason="missing")
    return there


def joined_etag(etags: dict[int, str]) -> str:
    """The ETag of a file that was put together of parts with these."""
    try:
        digests = b"".join(bytes.fromhex(etag) for _, etag in sorted(etags.items()))
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


def abort(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    """Give an upload up; one that has ended is none."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except ClientError as error:
        if not is_missing(error):
            raise
