"""A route, the key that HAProxy looks it up by, and the map file that keeps the routes.

Everything here is pure. The map file is the one record of the routes: HAProxy loads it when it
starts (a key and an address a line), and the comment before each line carries what JupyterHub
wants back (the routespec, the target as it was given, the data). One file can't disagree with
itself after a crash, as two files could; `RoutesFile` changes it, an entry at a time.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from .runtime import EdgeError
from .storage_data import STORAGE_DATA

__all__ = ["Route", "Target", "format_map", "parse_map", "parse_target", "route_key"]

_HOST = re.compile(r"^[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$")
ON, OFF = b" ", b"#"
"""What the line that HAProxy takes begins with, and what makes a comment of it."""
HEADER = "# Taccuino's routes: HAProxy loads them at its start. The hub writes this file.\n"


@dataclass(frozen=True)
class Route:
    """One route: requests whose path begins with ``routespec`` go to ``address``."""

    routespec: str
    """JupyterHub's form: ``/user/alice/``, or with a host before the path."""
    target: str
    """The URL that JupyterHub gave, such as ``http://10.90.1.2:8888``."""
    address: str
    """What HAProxy connects to: ``<IP address>:<port>``; IPv6 without brackets."""
    data: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The key in HAProxy's map."""
        return route_key(self.routespec)

    @cached_property
    def entry(self) -> str:
        """Its two lines in the map file, in ASCII; computed once, as it is written again."""
        record = {"routespec": self.routespec, "target": self.target, "data": self.data}
        return f"# {json.dumps(record)}\n {self.key} {self.address}\n"

    @property
    def switch(self) -> int:
        """Where in the entry the one byte is that makes HAProxy take it or not."""
        return self.entry.index("\n") + 1


@dataclass(frozen=True)
class Target:
    """Where a route leads, as far as the URL says: ``host`` may be a name."""

    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether ``host`` is an IP address already, and no name to look up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


def route_key(routespec: str) -> str:
    """The map key of a routespec: the host in lower case, the path in its one canonical form.

    ``/user/a@b/``, ``/user/a%40b/`` and ``/user/%61@b/`` are one path (RFC 3986, section 6.2.2)
    and get one key: decoded once, then every byte but letters, digits, ``-._~`` and ``/``
    encoded. HAProxy computes the same of each request (``config.KEY_OF_PATH``). So a key holds
    nothing that the map file or the admin socket reads otherwise: no space, no newline, no
    semicolon. It ends with a slash: ``/user/al/`` is no prefix of ``/user/alice/``.

    Raises
    ------
    EdgeError
        If it is no routespec, or the key would be too long for HAProxy's commands.
    """
    host, slash, path = routespec.partition("/")
    if not slash or (host and not _HOST.match(host.lower())):
        raise EdgeError(f"route {routespec[:80]!r}: a route is [host]/path/")
    key = host.lower() + quote(unquote_to_bytes("/" + path))
    if not key.endswith("/"):
        key += "/"
    if key.startswith(STORAGE_DATA):
        raise EdgeError(f"route {routespec[:80]!r}: the edge keeps this path for itself")
    if len(key) > 2048:
        raise EdgeError(f"route {routespec[:80]!r}...: longer than 2048 characters")
    return key


def parse_target(target: str) -> Target:
    """The host and port that a target's URL names.

    Raises
    ------
    EdgeError
        If the edge can't send requests there: it speaks plain HTTP to a host and a port.
    """
    try:
        url = urlsplit(target)
        port = url.port or 80
    except ValueError as error:
        raise EdgeError(f"target {target[:80]!r}: {error}") from None
    if url.scheme != "http" or not url.hostname:
        raise EdgeError(f"target {target[:80]!r}: the edge routes to http://host:port only")
    if url.path not in ("", "/") or url.query:
        raise EdgeError(f"target {target[:80]!r}: a route can't change the path; leave it out")
    return Target(url.hostname, port)


def format_map(routes: Iterable[Route]) -> str:
    """The text of the map file."""
    return HEADER + "".join(route.entry for route in routes)


def parse_map(text: str) -> tuple[dict[str, Route], list[str]]:
    """The routes of a map file by their keys, and the lines that could not be used.

    A line without a usable record before it (written by hand) is a route with no data: HAProxy
    serves it, so it is reported, and the hub decides whether it stays.
    """
    routes: dict[str, Route] = {}
    faults: list[str] = []
    record: dict[str, Any] = {}
    for line in text.splitlines():
        if line.startswith("# {"):
            try:
                record = json.loads(line[2:])
            except json.JSONDecodeError:
                faults.append(line)
            continue
        if line.startswith("#") or not line.strip():
            continue
        key, _, address = line.lstrip(" ").partition(" ")
        route = route_of(key, address.strip(), record)
        if route is None:
            faults.append(line)
        else:
            routes[key] = route
        record = {}
    return routes, faults


def route_of(key: str, address: str, record: dict[str, Any] | None = None) -> Route | None:
    """The route of a map's key and address, told more by its record if that fits; or None."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" not in key:
        return None
    record = record or {}
    spec, data = record.get("routespec"), record.get("data")
    if not isinstance(spec, str) or not isinstance(data, dict) or route_key(spec) != key:
        netloc = f"[{host}]" if ":" in host else host
        return Route(key, f"http://{netloc}:{port}", address)
    return Route(spec, str(record.get("target")), address, data)
