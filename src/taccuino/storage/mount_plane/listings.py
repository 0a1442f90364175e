"""What the object storage lists in a directory (S3 *ListObjects*), and what changed in it.

Pure functions; who asks and when is in `watching`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree as ET

__all__ = [
    "Listing",
    "ListingTarget",
    "Stamp",
    "is_plain",
    "listing_target",
    "parse_listing",
    "unexplained",
    "with_prefix",
]

_LINK = ".rclonelink"
"""The end of the key of a symbolic link (rclone: ``--links``)."""


@dataclass(frozen=True)
class ListingTarget:
    """Which directory a request lists; ``first`` is whether it asks from its beginning."""

    bucket: str
    prefix: str
    first: bool


@dataclass(frozen=True)
class Stamp:
    """What tells one state of an object from another, as far as a listing does."""

    etag: str
    modified: str
    size: str


@dataclass
class Listing:
    """The objects of a directory by their keys, and the keys of the directories in it."""

    objects: dict[str, Stamp] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)

    def extend(self, page: Listing) -> None:
        """Add another page of the same directory."""
        self.objects |= page.objects
        self.directories |= page.directories

    def names(self, prefix: str) -> list[str]:
        """The files' names in the directory, as a mount with links shows them."""
        found = (key.removeprefix(prefix).removesuffix(_LINK) for key in self.objects)
        return [name for name in found if name and "/" not in name]


def listing_target(target: str) -> ListingTarget | None:
    """What a request's path and query list; None if it lists no directory."""
    url = urlsplit(target)
    bucket = unquote(url.path.strip("/"))
    query = parse_qs(url.query, keep_blank_values=True)
    if not bucket or "/" in bucket or query.get("delimiter") != ["/"]:
        return None
    if any(name in query for name in ("versions", "uploads")):
        return None
    goes_on = any(name in query for name in ("marker", "continuation-token", "start-after"))
    return ListingTarget(bucket, query.get("prefix", [""])[0], not goes_on)


def with_prefix(target: str, directory: ListingTarget) -> str:
    """The same request for another directory, its parameters in the same order and form."""
    prefix = f"prefix={quote(directory.prefix, safe='-_.~')}"
    items = urlsplit(target).query.split("&")
    wanted = [prefix if item.startswith("prefix=") else item for item in items]
    return f"/{quote(directory.bucket)}?{'&'.join(wanted)}"


def is_plain(path: str) -> bool:
    """Whether rclone calls a directory as the storage does (rclone: *Encoding*)."""
    odd = any(part in ("", ".", "..") for part in path.split("/")) if path else False
    return not odd and not any(sign in path for sign in "\0\ufffd\u201b")


def parse_listing(body: bytes) -> Listing:
    """The entries of an answer.

    Raises
    ------
    ValueError
        If it can't be read as one.
    """
    try:
        root = ET.fromstring(body)  # noqa: S314 - of the storage that holds it all
    except ET.ParseError as error:
        raise ValueError(f"a listing that is no XML: {error}") from error
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if root.tag != f"{space}ListBucketResult":
        raise ValueError(f"no listing but {root.tag[-60:]!r}")

    def text(element: ET.Element, name: str) -> str:
        return element.findtext(space + name, "")

    encoded = text(root, "EncodingType") == "url"
    decode = unquote if encoded else str
    found = Listing()
    for item in root.iter(f"{space}Contents"):
        stamp = Stamp(
            text(item, "ETag").strip('"'), text(item, "LastModified"), text(item, "Size")
        )
        found.objects[decode(text(item, "Key"))] = stamp
    for item in root.iter(f"{space}CommonPrefixes"):
        found.directories.add(decode(text(item, "Prefix")))
    return found


def unexplained(before: Listing, after: Listing, own: Mapping[str, str | None]) -> bool:
    """Whether a directory changed in a way that this mount does not know of.

    ``own`` are the keys that it changed itself since: with the new object's ETag, None where
    the storage did not tell it, and an empty text for one that was deleted.
    """
    keys = before.objects.keys() | after.objects.keys()
    for key in keys:
        then, now = before.objects.get(key), after.objects.get(key)
        if then != now and own.get(key) != (now.etag if now else ""):
            return True
    changed = before.directories ^ after.directories
    return any(not _has_any_below(directory, own) for directory in changed)


def _has_any_below(directory: str, keys: Iterable[str]) -> bool:
    return any(key.startswith(directory) for key in keys)
