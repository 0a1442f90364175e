"""A look at a file without opening it. What it holds is taken for hostile.

Text is given as text, for the page to show as such. A notebook becomes harmless HTML, in a
process of its own; and the page's policy lets no script run that is not the service's own.
"""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from asyncio.subprocess import PIPE
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from taccuino.settings import Settings

from .errors import CallError
from .presigned import download_url, image_type
from .turns import Turns

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["decoded", "notebook_preview", "preview", "table"]

TEXT_BYTES = 512 * 1024
NOTEBOOK_BYTES = 10 * 1024**2
IMAGE_BYTES = 50 * 1024**2
_ROWS, _COLUMNS, _CELL = 500, 100, 500
_TABLES = {".csv": ",", ".tsv": "\t"}
_NOTEBOOK_SECONDS = 6.0
_LINE_SECONDS = 9.0
_NOTEBOOKS = asyncio.Semaphore(2)
"""Notebooks that are rendered at once, each by a processor of its own."""
_TURNS = Turns(1, waiting=5)
_TOO_MUCH = "This notebook takes too much time or room to be shown here: download it."


def preview(
    settings: Settings, client: S3Client, bucket: str, key: str
) -> dict[str, Any] | bytes:
    """What the page shows of a file; ``kind`` is ``none`` with a ``reason`` where it can't.

    Of a notebook it is the content, for `notebook_preview`.
    """
    head = client.head_object(Bucket=bucket, Key=key)
    size, suffix = head["ContentLength"], PurePosixPath(key).suffix.lower()
    if image_type(key):
        if size > IMAGE_BYTES:
            return _none("This image is too large to be shown here: download it.")
        return {
            "kind": "image",
            "url": download_url(settings, client, bucket, key, inline=True),
        }
    if suffix == ".ipynb":
        if size > NOTEBOOK_BYTES:
            return _none("This notebook is too large to be shown here: download it.")
        return client.get_object(Bucket=bucket, Key=key)["Body"].read(NOTEBOOK_BYTES)
    if size == 0:
        return {"kind": "text", "text": "", "truncated": False}
    range_ = f"bytes=0-{TEXT_BYTES - 1}"
    data = client.get_object(Bucket=bucket, Key=key, Range=range_)["Body"].read()
    text = decoded(data)
    if text is None:
        return _none("There is no preview of this kind of file: download it.")
    truncated = size > len(data)
    if delimiter := _TABLES.get(suffix):
        rows, cut = table(text, delimiter, whole=not truncated)
        return {"kind": "table", "rows": rows, "truncated": truncated or cut}
    return {"kind": "text", "text": text, "truncated": truncated}


async def notebook_preview(username: str, data: bytes) -> dict[str, Any]:
    """What the page shows of a notebook.

    Raises
    ------
    CallError
        429, if its turn does not come in time.
    """
    end_turn = await _TURNS.take(username, _LINE_SECONDS)
    try:
        async with asyncio.timeout(_LINE_SECONDS):
            await _NOTEBOOKS.acquire()
        try:
            return await _rendered(data)
        finally:
            _NOTEBOOKS.release()
    except TimeoutError:
        raise CallError(
            429, "Many notebooks are looked at just now. Try again soon.", reason="busy"
        ) from None
    finally:
        end_turn()


async def _rendered(data: bytes) -> dict[str, Any]:
    module = "taccuino.storage.pages.notebook"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", module, stdin=PIPE, stdout=PIPE
    )
    try:
        async with asyncio.timeout(_NOTEBOOK_SECONDS):
            html, _ = await process.communicate(data)
    except TimeoutError:
        return _none(_TOO_MUCH)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return {"kind": "notebook", "html": html.decode()}
    if process.returncode == 1:
        return _none("This file is called a notebook, but can't be read as one.")
    return _none(_TOO_MUCH)


def _none(reason: str) -> dict[str, Any]:
    return {"kind": "none", "reason": reason}


def decoded(data: bytes) -> str | None:
    """The text in the first bytes of a file; None if it is none."""
    if b"\0" in data:
        return None
    try:
        # The last character may have been cut.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(data) - 4:
            return data[: error.start].decode("utf-8-sig")
    text = data.decode("latin-1")
    odd = sum(not (c.isprintable() or c in "\n\r\t\f") for c in text)
    return None if odd > len(text) // 20 else text


def table(text: str, delimiter: str, *, whole: bool = True) -> tuple[list[list[str]], bool]:
    """The first rows and columns of a table, and whether there is more of it."""
    lines = text.splitlines(keepends=True)
    if not whole and len(lines) > 1:
        lines.pop()  # it was cut
    rows: list[list[str]] = []
    cut = False
    try:
        for row in csv.reader(io.StringIO("".join(lines)), delimiter=delimiter):
            if len(rows) == _ROWS:
                return rows, True
            cut = cut or len(row) > _COLUMNS
            rows.append([cell[:_CELL] for cell in row[:_COLUMNS]])
    except csv.Error:  # a field beyond the reader's own limit
        return rows, True
    return rows, cut
