"""Names and subnets of the servers' networks: pure, so that a table can test them.

Each server has a bridge of its own, named ``tc-<port>-<hash>``. The port makes it this
instance's (the firewall matches ``tc-<port>-*``), the hash the server's; together they fit
the kernel's 15 characters for an interface.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

__all__ = ["NETWORK_PREFIX", "bridge_prefix", "free_subnets", "gateway", "network_name"]

NETWORK_PREFIX = 28
"""Length of the prefix of each server's network: 13 addresses, 4096 networks of a /16."""

_INTERFACE_NAME_MAX = 15  # IFNAMSIZ - 1


def bridge_prefix(port: int) -> str:
    """What the names of all bridges of the instance at ``port`` begin with."""
    return f"tc-{port}-"


def network_name(port: int, container: str, salt: int = 0) -> str:
    """The name of a container's network, and of its bridge.

    ``salt`` gives the next name to try where two containers' hashes are the same.
    """
    prefix = bridge_prefix(port)
    digest = hashlib.sha256(f"{container}\0{salt}".encode()).hexdigest()
    return prefix + digest[: min(8, _INTERFACE_NAME_MAX - len(prefix))]


def gateway(subnet: IPv4Network) -> str:
    """The host's address in a server's network."""
    return str(subnet[1])


def free_subnets(
    pool: IPv4Network, used: Iterable[IPv4Network], container: str
) -> Iterator[IPv4Network]:
    """The pool's subnets that overlap none of the ``used`` ones.

    They begin at a place that the container's name decides: a server gets the same address
    at each start where it can, and two that start at once seldom ask for the same subnet.
    """
    taken = [network for network in used if network.overlaps(pool)]
    step = 1 << (32 - NETWORK_PREFIX)
    count = max(pool.num_addresses // step, 1)
    first = int.from_bytes(hashlib.sha256(container.encode()).digest()[:4], "big") % count
    base = int(pool.network_address)
    blocked = {
        index
        for network in taken
        for index in range(
            max((int(network.network_address) - base) // step, 0),
            min((int(network.broadcast_address) - base) // step, count - 1) + 1,
        )
    }
    for offset in range(count):
        index = (first + offset) % count
        if index not in blocked:
            yield IPv4Network((base + index * step, max(NETWORK_PREFIX, pool.prefixlen)))
