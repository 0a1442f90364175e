"""Changing what is in a bucket: folders, moves, deletions and their undoing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .copying import Source, below, copy, copy_all
from .deleting import delete_each
from .errors import CallError
from .keys import name_of, numbered
from .listing import list_page, walk
from .uploads import exists

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["copy_aside", "delete", "make_folder", "move", "undelete"]


def make_folder(client: S3Client, bucket: str, key: str) -> None:
    """Make an empty folder.

    Raises
    ------
    CallError
        409, if there is one.
    """
    if next(walk(client, bucket, key), None):
        raise CallError(409, f"There is a folder {name_of(key)} already.", reason="exists")
    client.put_object(Bucket=bucket, Key=key, Body=b"")


def move(
    client: S3Client, bucket: str, source: str, target: str, *, if_absent: bool = True
) -> int:
    """Move or rename a file or a folder; how many objects were moved.

    Nothing is deleted before all was copied and verified.

    Raises
    ------
    CallError
        404, if there is no such thing; 409, if something is there already; 502 in the middle:
        the original is whole then, and the message says so.
    """
    folder = source.endswith("/")
    if folder != target.endswith("/"):
        raise CallError(400, "to: a folder's path ends with a slash, and a file's does not.")
    if source == target or (folder and target.startswith(source)):
        raise CallError(400, "to: a folder can't be moved into itself.")
    if not folder:
        if if_absent and exists(client, bucket, target):
            raise CallError(409, f"There is a file {name_of(target)} already.", reason="exists")
        copy(client, _source(client, bucket, source), bucket, target)
        client.delete_object(Bucket=bucket, Key=source)
        return 1
    sources = below(client, bucket, source)
    if not sources:
        raise CallError(404, "There is no such folder.", reason="missing")
    if if_absent and next(walk(client, bucket, target), None):
        raise CallError(409, f"There is a folder {name_of(target)} already.", reason="exists")
    pairs = [(item, target + item.key.removeprefix(source)) for item in sources]
    if too_long := [key for _, key in pairs if len(key.encode()) > 1024]:
        raise CallError(400, f"to: the path of {name_of(too_long[0])} would be too long.")
    copied, failure = copy_all(client, pairs, bucket)
    if failure is not None:
        raise CallError(
            502,
            f"Only {copied} of {len(pairs)} files were copied to {target}, so nothing was "
            f"taken out of {source}. Repeat it, or delete the copies.",
            reason="partial",
        ) from failure
    _, failed = delete(client, bucket, [item.key for item in sources])
    if failed:
        raise CallError(
            502,
            f"All files were copied to {target}, but {len(failed)} of them could not be taken "
            f"out of {source}.",
            reason="partial",
        )
    return len(pairs)


def _source(client: S3Client, bucket: str, key: str) -> Source:
    head = client.head_object(Bucket=bucket, Key=key)
    return Source(bucket, key, head["ContentLength"], head["ETag"].strip('"'))


def delete(
    client: S3Client, bucket: str, keys: Iterable[str]
) -> tuple[dict[str, str | None], list[dict[str, str]]]:
    """Delete files, and folders with all that is in them.

    Returns
    -------
    tuple
        For each key that is gone, the version id of the marker that hides it (None in a bucket
        without versions); and what could not be deleted, with the reason.

    Raises
    ------
    CallError
        403, if the storage let none of them be deleted.
    """
    gone: dict[str, str | None] = {}
    failed: list[dict[str, str]] = []
    names = ((key, None) for key in _all_keys(client, bucket, keys))
    for item in delete_each(client, bucket, names):
        if item.failure is None:
            gone[item.key] = item.marker
        else:
            failed.append({"key": item.key, "message": item.failure})
    if failed and not gone:
        raise CallError(403, f"The object storage does not let you delete {failed[0]['key']}.")
    return gone, failed


def _all_keys(client: S3Client, bucket: str, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        if key.endswith("/"):
            yield from (item["Key"] for item in walk(client, bucket, key))
        else:
            yield key


def undelete(client: S3Client, bucket: str, markers: dict[str, str]) -> int:
    """Take the markers away that hide files; how many are to be seen again.

    Raises
    ------
    CallError
        502, if some could not be brought back; the message says how many.
    """
    results = list(delete_each(client, bucket, markers.items()))
    failed = [item for item in results if item.failure is not None]
    if failed:
        raise CallError(
            502,
            f"{len(results) - len(failed)} of {len(results)} files were brought back; the "
            f"object storage refused {failed[0].key}. Repeat it.",
            reason="partial",
        )
    return len(results)


def copy_aside(
    client: S3Client, bucket: str, key: str, target_bucket: str, target_prefix: str
) -> str:
    """Copy a file or a folder to a place where its name may be taken; the key it got.

    Raises
    ------
    CallError
        404, if it is not there; 502, if not all was copied.
    """
    wanted = f"{target_prefix}{name_of(key)}" + ("/" if key.endswith("/") else "")
    taken, token = set(), None
    while True:
        page = list_page(client, target_bucket, target_prefix, token)
        taken |= {item["key"].rstrip("/") for item in (*page["folders"], *page["files"])}
        if not (token := page["next"]):
            break
    target = numbered(wanted.rstrip("/"), taken)
    if not key.endswith("/"):
        copy(client, _source(client, bucket, key), target_bucket, target)
        return target
    sources = below(client, bucket, key)
    if not sources:
        raise CallError(404, "There is no such folder.", reason="missing")
    pairs = [(item, f"{target}/{item.key.removeprefix(key)}") for item in sources]
    copied, failure = copy_all(client, pairs, target_bucket)
    if failure is not None:
        raise CallError(
            502, f"Only {copied} of {len(pairs)} files were copied.", reason="partial"
        ) from failure
    return f"{target}/"
