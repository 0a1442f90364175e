"""The path at which browsers reach objects: presigned URLs at the service's own origin.

``<url>/storage-data/<bucket>/<key>?X-Amz-...`` is handed to the object storage with the host
that was signed. What comes back is a user's file at the origin of the hub, so it is never
shown as a page: it is sandboxed, and all but a few harmless types are downloads.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from taccuino.settings import Settings

from .runtime import EdgeError
from .words import section

__all__ = ["STORAGE_DATA", "storage_data_backend"]

STORAGE_DATA = "/storage-data/"
"""What such an address's path begins with."""

_BACKEND = "backend storage-data from base"
_HOST = re.compile(r"^[A-Za-z0-9.-]+$")
_PREFIX = re.compile(r"^(/[A-Za-z0-9._~-]+)*$")
_CA_FILE = "@system-ca"
_SHOWN = "image/png image/jpeg image/gif image/webp image/avif text/plain"
"""Types that a browser may show when the URL was signed for that; no document among them."""

_SANDBOX = (
    "sandbox; default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'"
)

_RESOLVERS = """resolvers hosts
    parse-resolv-conf
    # A name that only /etc/hosts knows keeps its address, whatever the name servers say.
    hold nx 20d
    hold refused 20d
    hold timeout 20d
    hold other 20d
    hold obsolete 20d
"""


def storage_data_backend(settings: Settings, s3_backend: str | None) -> str:
    """The backend's text, with the resolvers that it needs.

    Parameters
    ----------
    settings
        The resolved settings.
    s3_backend
        Address and port of the embedded object storage; None where it is another's.

    Raises
    ------
    EdgeError
        If ``storage.endpoint`` can't be written into the configuration.
    """
    endpoint = settings.storage.endpoint
    if endpoint is None:
        return section(_BACKEND, ["http-request deny deny_status 503"])
    url = urlsplit(endpoint)
    host, prefix = url.hostname or "", url.path.rstrip("/")
    literal = _is_address(host)
    if not (literal or _HOST.match(host)) or not _PREFIX.match(prefix):
        raise EdgeError(f"storage.endpoint: {endpoint[:80]!r} is no http(s)://host:port")
    tls = url.scheme == "https"
    resolvers = ""
    if s3_backend is not None:
        server = f"server s3 {s3_backend}"
    else:
        address = f"[{host}]" if ":" in host else host
        server = f"server s3 {address}:{url.port or (443 if tls else 80)}"
        if tls:
            server += f" ssl verify required ca-file {_CA_FILE} verifyhost {host}"
            server += "" if literal else f" sni str({host})"
        if not literal and host != "localhost":
            server += " resolvers hosts init-addr last,libc,none"
            resolvers = _RESOLVERS
    lines = [
        f"http-request set-header Host {url.netloc.rpartition('@')[2]}",
        rf"http-request replace-path ^{STORAGE_DATA}(.*) {prefix}/\1",
        # What tells the hub who asks is nothing to the storage.
        "http-request del-header Cookie",
        "http-request del-header Authorization",
        "http-request del-header X-Amz- -m beg",
        "http-request del-header X-Forwarded -m beg",
        "http-response del-header Set-Cookie",
        "http-response del-header Access-Control- -m beg",
        "acl attached res.hdr(content-disposition) -m beg -i attachment",
        "acl inline res.hdr(content-disposition) -m beg -i inline",
        f"acl shown res.hdr(content-type),field(1,;),lower -m str {_SHOWN}",
        (
            "http-response set-header Content-Disposition attachment "
            "unless attached or inline shown"
        ),
        f'http-response set-header Content-Security-Policy "{_SANDBOX}"',
        "http-response set-header X-Content-Type-Options nosniff",
        "http-response set-header Cross-Origin-Resource-Policy same-origin",
        "http-response set-header Referrer-Policy no-referrer",
        # Compressed on the way, an object would lose its length and its ETag.
        'http-response set-header Cache-Control "private, no-transform"',
        "timeout connect 500ms",
        "timeout server 30m",
        "retries 8",
        "retry-on conn-failure",
        server,
    ]
    return resolvers + section(_BACKEND, lines)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
