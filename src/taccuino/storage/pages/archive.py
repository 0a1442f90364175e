"""A folder as a zip file, made while it is sent: nothing of it is kept here.

Files are stored, not compressed, so that the length is known before the first byte is sent: the
browser shows the progress, and takes a download that was cut off for what it is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from zipstream import ZIP_STORED, ZipStream

from .listing import walk

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Archive"]

_LISTED = 50_000
"""Files up to which all are listed first, for the length; more are listed while they go."""
_CHUNK = 1024**2
_PIECE = 256 * 1024


class Archive:
    """The zip file of a folder; blocks, and is iterated from threads.

    Raises
    ------
    FileNotFoundError
        If the folder holds nothing.
    """

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        items = walk(client, bucket, prefix)
        first = list(islice(items, _LISTED + 1))
        if not first:
            raise FileNotFoundError(prefix)
        self._zip = ZipStream(compress_type=ZIP_STORED, sized=len(first) <= _LISTED)
        self.size: int | None = None
        """Bytes of the whole; None if there is too much to know."""
        if self._zip.sized:
            for item in first:
                self._add(item)
            self.size = len(self._zip)
            self._items: Iterable[Any] = ()
        else:
            self._items = chain(first, items)

    def _add(self, item: Any) -> None:
        name = item["Key"].removeprefix(self._prefix)
        # What no file system takes must not reach the program that unpacks (".." above all).
        name = "/".join("_" if part in {".", ".."} else part for part in name.split("/"))
        name = name.replace("\\", "_").lstrip("/")
        if not name.rstrip("/"):
            return
        if name.endswith("/"):
            self._zip.add(b"", name)
        else:
            self._zip.add(self._content(item), name, size=item["Size"])

    def _content(self, item: Any) -> Iterator[bytes]:
        answer = self._client.get_object(
            Bucket=self._bucket, Key=item["Key"], IfMatch=item["ETag"]
        )
        with closing(answer["Body"]) as body:
            yield from body.iter_chunks(_CHUNK)

    def _raw(self) -> Iterator[bytes]:
        for item in self._items:
            self._add(item)
            yield from self._zip.all_files()
        yield from self._zip

    def pieces(self) -> Generator[bytes, None, None]:
        """The bytes, in pieces that are worth a system call.

        Raises
        ------
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError, RuntimeError
            If a file has changed or can't be read: what was sent is no zip file then.
        """
        kept = bytearray()
        for chunk in self._raw():
            kept += chunk
            if len(kept) >= _PIECE:
                yield bytes(kept)
                kept.clear()
        if kept:
            yield bytes(kept)
