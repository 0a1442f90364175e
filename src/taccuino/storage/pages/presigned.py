"""Presigned URLs, as browsers reach them: at the service's own origin.

botocore signs for the storage's own address. The edge restores that host and path from
``<url>/storage-data/...``, so the signature holds and the browser never leaves the origin.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from taccuino.edge.storage_data import STORAGE_DATA
from taccuino.settings import Settings

from .keys import name_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["IMAGES", "data_url", "disposition", "download_url", "image_type", "put_url"]

DOWNLOAD_SECONDS = 300
"""A download may begin so long after it was asked for; it may then take its time."""
UPLOAD_SECONDS = 3600

IMAGES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
"""What is shown as an image. An SVG only in ``<img>``, where its scripts don't run: the edge
lets no browser open it as a document."""


def data_url(settings: Settings, signed: str) -> str:
    """The address at the edge of one that botocore signed."""
    url = urlsplit(signed)
    prefix = urlsplit(settings.storage.endpoint or "").path.rstrip("/")
    path = url.path.removeprefix(prefix).removeprefix("/")
    return f"{settings.url}{STORAGE_DATA}{path}?{url.query}"


def disposition(key: str, kind: Literal["attachment", "inline"]) -> str:
    """A Content-Disposition with a name that any browser understands (RFC 6266)."""
    name = name_of(key)
    plain = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name
    )
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def image_type(key: str) -> str | None:
    """The type of an image that may be shown; None for anything else."""
    return IMAGES.get(PurePosixPath(key).suffix.lower())


def download_url(
    settings: Settings,
    client: S3Client,
    bucket: str,
    key: str,
    *,
    inline: bool = False,
    seconds: int = DOWNLOAD_SECONDS,
    version: str | None = None,
) -> str:
    """Where a file is downloaded, or shown if its type is harmless."""
    parameters: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if version:
        parameters["VersionId"] = version
    shown = (image_type(key) or "text/plain; charset=utf-8") if inline else None
    parameters["ResponseContentDisposition"] = disposition(
        key, "inline" if shown else "attachment"
    )
    parameters["ResponseContentType"] = shown or "application/octet-stream"
    signed = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
    return data_url(settings, signed)


def put_url(settings: Settings, client: S3Client, bucket: str, key: str, **part: Any) -> str:
    """Where a whole file is put, or (with ``UploadId`` and ``PartNumber``) a part of one."""
    signed = client.generate_presigned_url(
        "upload_part" if part else "put_object",
        Params={"Bucket": bucket, "Key": key, **part},
        ExpiresIn=UPLOAD_SECONDS,
    )
    return data_url(settings, signed)
