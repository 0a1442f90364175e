"""What all parts of HAProxy's configuration are written with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from taccuino.settings import Settings

from .runtime import EdgeError

__all__ = ["RETRY_READS_ONLY", "bind_line", "is_https", "needed", "path_word", "section"]

RETRY_READS_ONLY = (
    "acl reads method GET HEAD OPTIONS",
    # Whatever may have reached the server is repeated only if that can do no harm; what never
    # reached it (a refused connection) is always repeated.
    "http-request disable-l7-retry unless reads",
)
_PLAIN_PATH = re.compile(r"^/[A-Za-z0-9._/+@~-]+$")


def path_word(key: str, path: Path | None) -> str:
    """A path as one word; ``key`` names the setting in the error.

    Raises
    ------
    EdgeError
        If it can't be one.
    """
    text = str(path)
    if not _PLAIN_PATH.match(text):
        raise EdgeError(
            f"{key}: {text!r} can't be written into HAProxy's configuration; "
            "use an absolute path of letters, digits and ._/+@~-"
        )
    return text


def needed(key: str, port: int | None) -> int:
    """A port that must be known by now.

    Raises
    ------
    EdgeError
        If it is not.
    """
    if port is None:
        raise EdgeError(f"{key}: not set; 'taccuino up' picks it, or name it in the settings")
    return port


def bind_line(settings: Settings, port: int, *, tls: bool) -> str:
    """The line by which a frontend listens.

    Raises
    ------
    EdgeError
        If a certificate is needed and not named.
    """
    address = settings.edge.bind
    if ":" in address:
        address = f"[{address}]"
    if not tls:
        return f"bind {address}:{port}"
    if settings.edge.certificate is None:
        raise EdgeError(
            f"edge.certificate: not set, but an address at port {port} begins with https; "
            "name the PEM file with the certificate and its key"
        )
    certificate = path_word("edge.certificate", settings.edge.certificate)
    return f"bind {address}:{port} ssl crt {certificate} alpn h2,http/1.1"


def is_https(url: str | None) -> bool:
    """Whether an address is spoken to with TLS."""
    return (url or "").startswith("https:")


def section(title: str, lines: Sequence[str]) -> str:
    """A section, its lines indented."""
    return f"{title}\n" + "".join(f"    {line}\n" for line in lines)
