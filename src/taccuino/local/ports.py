"""Which ports an instance uses: derived from its own, and kept once they are chosen."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from taccuino.errors import Fault

__all__ = ["OFFSETS", "SITE_PORTS", "PortNeed", "bindable", "choose"]

OFFSETS: Mapping[str, int] = {
    "local.iam_port": 1,
    "local.s3_port": 2,
    "hub.port": 3,
    "local.iam_backend_port": 4,
    "local.s3_backend_port": 5,
    "local.ceph_mon_port": 6,
    "edge.server_port": 7,
    "local.storage_pages_port": 8,
    "local.front_end_port": 9,
}
"""A port's key in the settings, and how far it is from the service's own port."""

SITE_PORTS = frozenset(
    {"hub.port", "edge.server_port", "local.storage_pages_port", "local.front_end_port"}
)
"""Those that each of several sites on this machine has for itself."""


@dataclass(frozen=True)
class PortNeed:
    """A port that is needed: what the settings say, and what was chosen at an earlier run."""

    key: str
    named: int | None = None
    kept: int | None = None


def choose(
    base: int, needs: list[PortNeed], taken: Callable[[int], str | None]
) -> tuple[dict[str, int], list[Fault]]:
    """Choose a port for each need.

    A port that the settings name, or that an earlier run chose, is never replaced: users'
    bookmarks and the IAM's clients name it. Another is derived from ``base``, and a free one
    close by replaces it when it is taken.

    Parameters
    ----------
    base
        The service's own port.
    needs
        The ports to choose.
    taken
        Who holds a port, in words; ``None`` if it can be used by this instance.

    Returns
    -------
    tuple
        The ports by key, and a fault for each port that can't be had.
    """
    chosen: dict[str, int] = {}
    faults: list[Fault] = []
    if holder := taken(base):
        mend = "stop that, or set another port (the environment's TACCUINO_PORT wins)"
        faults.append(Fault("port", f"{base} is in use by {holder}", mend))
    used = {base} | {port for need in needs if (port := need.named or need.kept)}
    for need in needs:
        port = need.named or need.kept
        if port is None:
            port = _free(base, base + OFFSETS[need.key], used, taken)
            if port is None:
                faults.append(
                    Fault(need.key, "no free port was found", "name one that is free")
                )
                continue
            used.add(port)
        elif port in chosen.values() or port == base:
            faults.append(Fault(need.key, f"{port} is used twice", "give each its own port"))
        elif holder := taken(port):
            mend = f"stop that, or set {need.key} to a port that is free"
            faults.append(Fault(need.key, f"{port} is in use by {holder}", mend))
        chosen[need.key] = port
    return chosen, faults


def _free(
    base: int, wanted: int, used: set[int], taken: Callable[[int], str | None]
) -> int | None:
    first = base + max(OFFSETS.values()) + 1
    candidates: list[int] = [wanted, *range(first, first + 500)]
    for port in candidates:
        if port <= 65535 and port not in used and taken(port) is None:
            return port
    return None


def bindable(port: int) -> bool:
    """Whether a listener on every interface can be opened at this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the services do: connections that are closing don't hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
            probe.listen(1)
        except OSError:
            return False
        return True
