"""Keeps notebook servers from the host's ports and from each other (nftables).

A container reaches every port of the host that listens on all interfaces, and a network's
isolation does nothing about that. One table per instance, ``inet taccuino_<port>``, mends it:

* from a server to the host: only the edge's ports, those of an IAM or object storage that the
  settings name and that runs on this host (and DNS, where the host is the resolver);
* from a server to another network: the internet, but no other server and no link-local
  address, where clouds serve their metadata;
* to a server: only answers, and what the host itself connects (which is not forwarded).

Its chains come before the engine's own and only ever drop, so both hold: a packet must pass
every base chain of a hook (nft(8), "VERDICT STATEMENTS").
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from taccuino.settings import Settings

from .errors import FirewallError
from .networks import bridge_prefix

__all__ = [
    "edge_ports",
    "ensure",
    "leads_here",
    "neighbour_ports",
    "remove",
    "resolvers",
    "ruleset",
    "table_name",
]

_PRIORITY = -10  # before netavark's and Docker's filter chains, which are at 0


def table_name(port: int) -> str:
    """The instance's table."""
    return f"taccuino_{port}"


def edge_ports(settings: Settings) -> tuple[int, ...]:
    """The host's TCP ports that notebook servers may reach: the edge's."""
    local = settings.local
    ports = (settings.port, settings.edge.server_port, local.iam_port, local.s3_port)
    return tuple(sorted({port for port in ports if port is not None}))


def neighbour_ports(settings: Settings, is_here: Callable[[str], bool]) -> tuple[int, ...]:
    """The ports of the IAM and the object storage that the settings name, if they are here.

    ``is_here`` says whether a host name leads to this machine. One that is elsewhere is not
    the firewall's concern, and its port stays closed on this host.
    """
    storage = settings.storage
    found = set()
    for address in (storage.server_endpoint, storage.endpoint, settings.iam.issuer):
        parts = urlsplit(address or "")
        if parts.hostname and is_here(parts.hostname):
            found.add(parts.port or {"https": 443}.get(parts.scheme, 80))
    return tuple(sorted(found))


def leads_here(host: str) -> bool:
    """Whether a name leads to this machine, now; one that leads nowhere does not. Blocking."""
    try:
        found = {ipaddress.ip_address(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, ValueError):
        return False
    own = {
        address.address.partition("%")[0]
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }
    return any(address.is_loopback or str(address) in own for address in found)


def ruleset(port: int, tcp_ports: Iterable[int], resolvers: Iterable[str] = ()) -> str:
    """The table as ``nft -f`` takes it; it replaces the instance's table in one transaction.

    ``resolvers`` are the addresses of the name servers that containers are told of.
    """
    servers = f'"{bridge_prefix(port)}*"'
    ports = ", ".join(str(number) for number in sorted(set(tcp_ports)))
    dns = [
        f"{'ip6' if ':' in address else 'ip'} daddr {address} meta l4proto {{ tcp, udp }} "
        "th dport 53 accept"
        for address in resolvers
    ]
    dns_rules = "".join(f"\n        iifname {servers} {rule}" for rule in dns)
    name = f"inet {table_name(port)}"
    return f"""\
table {name}
delete table {name}
table {name} {{
    chain input {{
        type filter hook input priority {_PRIORITY}; policy accept;
        iifname != {servers} accept
        ct state established,related accept
        tcp dport {{ {ports} }} accept{dns_rules}
        iifname {servers} meta l4proto tcp counter reject with tcp reset
        iifname {servers} counter drop
    }}
    chain forward {{
        type filter hook forward priority {_PRIORITY}; policy accept;
        ct state established,related accept
        oifname {servers} counter drop{dns_rules}
        iifname {servers} oifname "tc-*" counter drop
        iifname {servers} ip daddr 169.254.0.0/16 counter drop
        iifname {servers} ip6 daddr fe80::/10 counter drop
    }}
}}
"""


def resolvers(resolv_conf: Path = Path("/etc/resolv.conf")) -> tuple[str, ...]:
    """The name servers of the host that a container can reach, so none on loopback."""
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ()
    found = []
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = ipaddress.ip_address(words[1])
        except ValueError:
            continue
        if not address.is_loopback:
            found.append(str(address))
    return tuple(found)


async def ensure(settings: Settings) -> None:
    """Put the instance's table in place, or in place again; in one transaction.

    Raises
    ------
    FirewallError
        If ``nft`` is missing or refuses. No server may be started then.
    """
    if settings.engine.firewall:
        neighbours = await asyncio.to_thread(neighbour_ports, settings, leads_here)
        ports = (*edge_ports(settings), *neighbours)
        await _nft(ruleset(settings.port, ports, resolvers()))


async def remove(settings: Settings) -> None:
    """Take the instance's table away; idempotent.

    Raises
    ------
    FirewallError
        If ``nft`` is missing or refuses.
    """
    name = f"inet {table_name(settings.port)}"
    await _nft(f"table {name}\ndelete table {name}\n")


async def _nft(text: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "nft",
            "-f",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise FirewallError(
            "nft is not installed; install nftables, or set engine.firewall = false"
        ) from None
    _, errors = await process.communicate(text.encode())
    if process.returncode:
        words = errors.decode(errors="replace").strip()[:400]
        raise FirewallError(
            f"nft refused the firewall's rules: {words}; "
            "run the hub as root, or set engine.firewall = false"
        )
