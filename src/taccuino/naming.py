"""Names made from a user's name: safe in paths, containers and networks, and unique."""

from __future__ import annotations

import hashlib
import re

__all__ = ["is_slug", "slug"]

_SAFE = re.compile(r"^[a-z][a-z0-9-]{1,23}$")
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,23}(--[0-9a-f]{20})?")


def slug(username: str) -> str:
    """A short, path-safe, unique form of a user's name.

    A plain name (lower-case letters, digits, single hyphens, 2 to 24 characters) is its own
    slug; any other is shortened to safe characters and gets twenty hexadecimal digits of its
    SHA-256 after a double hyphen, which no plain name contains: two names never share a slug,
    even where somebody registers names on purpose until their digests meet.
    """
    if _SAFE.match(username) and "--" not in username and not username.endswith("-"):
        return username
    digest = hashlib.sha256(username.encode()).hexdigest()[:20]
    safe = re.sub(r"[^a-z0-9]+", "-", username.lower()).strip("-")[:14].strip("-")
    if not safe or not safe[0].isalpha():
        safe = f"u{safe}"
    return f"{safe}--{digest}"


def is_slug(text: str) -> bool:
    """Whether the text has a slug's form, and so can't lead out of a directory."""
    return _SLUG.fullmatch(text) is not None
