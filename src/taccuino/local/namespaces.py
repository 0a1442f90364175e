"""A network namespace for each site on this machine: an address and a link of its own.

The sites' links end at a bridge of the machine, where what they share listens; a link that is
taken down cuts its site off, as a data centre's would. See network_namespaces(7), veth(4).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taccuino.errors import ServiceError

__all__ = ["SiteNetwork", "ensure_networks", "remove_networks"]

_FIRST_SITE = 11
_SECONDS = 20.0


@dataclass(frozen=True)
class SiteNetwork:
    """The network of the instance whose port this is, as its sites see it."""

    port: int

    @property
    def bridge(self) -> str:
        """The bridge's name; the kernel takes 15 characters."""
        return f"tcb{self.port}"

    @property
    def prefix(self) -> str:
        """The first three numbers of its addresses, out of RFC 6598's shared ones."""
        return f"100.{64 + self.port % 64}.{self.port // 64 % 256}"

    @property
    def shared(self) -> str:
        """The address of what the sites share."""
        return f"{self.prefix}.1"

    def address(self, index: int) -> str:
        """The address of a site."""
        return f"{self.prefix}.{_FIRST_SITE + index}"

    def namespace(self, index: int) -> str:
        """The name of a site's namespace."""
        return f"taccuino-{self.port}-{index}"

    def link(self, index: int) -> str:
        """The end of a site's link at the bridge."""
        return f"tcl{self.port}-{index}"

    def enter(self, index: int) -> list[str]:
        """What a command begins with that runs in a site's namespace.

        Not ``ip netns exec``, which hides the control groups.
        """
        return ["nsenter", f"--net=/run/netns/{self.namespace(index)}"]


def ensure_networks(network: SiteNetwork, sites: int) -> None:
    """Make the bridge, the namespaces and their links, as far as they are not there.

    What was cut off half-way is completed.

    Raises
    ------
    ServiceError
        If the kernel refuses.
    """
    if not _there(network.bridge):
        _ip("link", "add", network.bridge, "type", "bridge")
    _ip("address", "replace", f"{network.shared}/24", "dev", network.bridge)
    _ip("link", "set", network.bridge, "up")
    for index in range(sites):
        name, link = network.namespace(index), network.link(index)
        if not Path("/run/netns", name).exists():
            _ip("netns", "add", name)
        if not _there(link):
            peer = ("peer", "name", "eth0", "netns", name)
            _ip("link", "add", link, "type", "veth", *peer)
        _ip("link", "set", link, "master", network.bridge)
        address = f"{network.address(index)}/24"
        _ip("-n", name, "address", "replace", address, "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "replace", "default", "via", network.shared)
        _ip("link", "set", link, "up")


def remove_networks(network: SiteNetwork, sites: int) -> None:
    """Remove what `ensure_networks` made; nothing runs in it any more."""
    for index in range(sites):
        if Path("/run/netns", network.namespace(index)).exists():
            _ip("netns", "delete", network.namespace(index))
        if _there(network.link(index)):  # else it went with its other end
            _ip("link", "delete", network.link(index), check=False)
    if _there(network.bridge):
        _ip("link", "delete", network.bridge)


def _there(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def _ip(*arguments: str, check: bool = True) -> None:
    command: Sequence[str] = ("ip", *arguments)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{' '.join(command)}: {error}") from error
    if check and done.returncode:
        raise ServiceError(f"{' '.join(command)}: {done.stderr.strip()}")
