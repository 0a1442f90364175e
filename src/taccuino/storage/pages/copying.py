"""Copies within the storage: no byte passes through here, and each is verified."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from .errors import CallError
from .listing import walk

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["MOST", "Source", "below", "copy", "copy_all"]

SIMPLE_COPY = 5 * 1024**3
"""Bytes that one copy request takes; more is copied in parts."""
_PART = 512 * 1024**2
_AT_ONCE = 8
MOST = 20_000
"""Objects that one call moves or copies."""


@dataclass(frozen=True)
class Source:
    """What is copied: a file as it is now, or an earlier version of it."""

    bucket: str
    key: str
    size: int
    etag: str
    version: str | None = None

    @property
    def reference(self) -> Any:
        """As S3's calls name it."""
        reference = {"Bucket": self.bucket, "Key": self.key}
        return {**reference, "VersionId": self.version} if self.version else reference


def below(client: S3Client, bucket: str, prefix: str) -> list[Source]:
    """All that a folder holds, its markers too.

    Raises
    ------
    CallError
        413, if it is more than one call can work on.
    """
    found = []
    for item in walk(client, bucket, prefix):
        found.append(Source(bucket, item["Key"], item["Size"], item["ETag"].strip('"')))
        if len(found) > MOST:
            raise CallError(
                413,
                f"There are more than {MOST:,} files below {prefix}: take it in parts, or use "
                "a notebook server.",
            )
    return found


def copy(client: S3Client, source: Source, bucket: str, key: str) -> None:
    """Copy one file with its metadata, and see that it arrived whole.

    Raises
    ------
    CallError
        409, if the source changed meanwhile; 502, if the copy is not whole.
    """
    head: Any = client.head_object(**source.reference)
    if head["ETag"].strip('"') != source.etag:
        raise CallError(409, f"{source.key} has changed meanwhile. Look again, and repeat it.")
    told = {
        name: head[name]
        for name in ("ContentType", "ContentEncoding", "ContentDisposition", "Metadata")
        if head.get(name)
    }
    if source.size > SIMPLE_COPY:
        _copy_in_parts(client, source, bucket, key, told)
    else:
        client.copy_object(
            Bucket=bucket,
            Key=key,
            CopySource=source.reference,
            CopySourceIfMatch=source.etag,
            MetadataDirective="REPLACE",  # so that a version may be copied over its own file
            **told,
        )
    arrived = client.head_object(Bucket=bucket, Key=key)
    if arrived["ContentLength"] != source.size:
        raise CallError(502, f"{source.key} was not copied whole; the original is untouched.")


def _copy_in_parts(
    client: S3Client, source: Source, bucket: str, key: str, told: dict[str, Any]
) -> None:
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, **told)["UploadId"]
    try:
        parts = []
        for number, start in enumerate(range(0, source.size, _PART), 1):
            end = min(start + _PART, source.size) - 1
            answer = client.upload_part_copy(
                Bucket=bucket,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                CopySource=source.reference,
                CopySourceIfMatch=source.etag,
                CopySourceRange=f"bytes={start}-{end}",
            )
            parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        client.complete_multipart_upload(
            Bucket=bucket,
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
        )
    except BaseException:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
        raise


def copy_all(
    client: S3Client, pairs: Iterable[tuple[Source, str]], bucket: str
) -> tuple[int, Exception | None]:
    """Copy many, some at a time, until one fails; how many arrived, and the first failure."""
    failures: list[Exception] = []

    def attempt(pair: tuple[Source, str]) -> bool:
        if failures:
            return False
        try:
            copy(client, pair[0], bucket, pair[1])
        except (CallError, ClientError, BotoCoreError) as error:
            failures.append(error)
            return False
        return True

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="pages-copy") as threads:
        copied = sum(threads.map(attempt, pairs))
    return copied, failures[0] if failures else None
