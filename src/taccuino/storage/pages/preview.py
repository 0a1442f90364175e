"""A look at a file without opening it. What it holds is taken for hostile.

Text is given as text, for the page to show as such. A notebook becomes HTML, of which only
what is on a list of harmless tags and attributes stays; and the page's policy lets no script
run that is not the service's own.
"""

from __future__ import annotations

import csv
import io
import json
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import nh3

from taccuino.settings import Settings

from .presigned import download_url, image_type

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["decoded", "notebook_html", "preview", "sanitized", "table"]

TEXT_BYTES = 512 * 1024
NOTEBOOK_BYTES = 10 * 1024**2
IMAGE_BYTES = 50 * 1024**2
_ROWS, _COLUMNS, _CELL = 500, 100, 500
_TABLES = {".csv": ",", ".tsv": "\t"}
_IMAGE_DATA = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "gif", "webp"))
_TAGS = nh3.ALLOWED_TAGS - {"map", "area"}
_ATTRIBUTES = {
    **{tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items() if tag in _TAGS},
    "img": {"src", "alt", "width", "height"},
    "*": {"class", "title"},
}


def preview(settings: Settings, client: S3Client, bucket: str, key: str) -> dict[str, Any]:
    """What the page shows of a file; ``kind`` is ``none`` with a ``reason`` where it can't."""
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
        data = client.get_object(Bucket=bucket, Key=key)["Body"].read(NOTEBOOK_BYTES)
        html = notebook_html(data)
        if html is None:
            return _none("This file is called a notebook, but can't be read as one.")
        return {"kind": "notebook", "html": html}
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


def notebook_html(data: bytes) -> str | None:
    """A notebook as harmless HTML; None if it is none."""
    import nbformat

    try:
        notebook = nbformat.reads(json.dumps(json.loads(data)), as_version=4)  # type: ignore[no-untyped-call]
        html, _ = _exporter().from_notebook_node(notebook)
    except Exception:  # noqa: BLE001 -- nbformat and nbconvert raise whatever they stumble on
        return None
    return sanitized(html)


@cache
def _exporter() -> Any:
    from nbconvert import HTMLExporter  # here: it takes 0.7 s

    # Its templates' own clean-up knows less than ours, which comes after it.
    return HTMLExporter(template_name="basic", sanitize_html=False)  # type: ignore[no-untyped-call]


def sanitized(html: str) -> str:
    """HTML without anything that runs, loads from elsewhere, or looks like our own page."""
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_kept,
        url_schemes={"http", "https", "mailto", "data"},
        clean_content_tags={"script", "style"},
        link_rel="noopener noreferrer nofollow",
    )


def _kept(tag: str, attribute: str, value: str) -> str | None:
    text = value.strip()
    if tag == "img" and attribute == "src":
        # From elsewhere, an image would tell who looks at this notebook.
        return text if text.startswith(_IMAGE_DATA) else None
    if attribute in {"href", "src", "cite"} and text.lower().startswith("data:"):
        return None
    return value
