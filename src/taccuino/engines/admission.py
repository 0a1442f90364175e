"""Whether the node has room for another notebook server: asked before anything is made.

A node that takes one server too many fails all of its users: the kernel ends processes for want
of memory, a full disk refuses what is saved. So a start that can't fit is refused, with what is
free and when there may be room.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal, get_args

from taccuino.errors import TaccuinoError
from taccuino.settings import AdmissionSettings, Settings, parse_size

from .networks import NETWORK_PREFIX

__all__ = [
    "Cause",
    "Demand",
    "FullDiskError",
    "Node",
    "Shortage",
    "check_disk",
    "read_node",
    "room",
    "shortage",
    "still_short",
]

Cause = Literal["memory", "memory_limits", "disk", "servers", "processes"]
RESOURCES: tuple[Cause, ...] = get_args(Cause)

_PROCESSES_RESERVE = 500
_GIB = 1024**3


@dataclass(frozen=True)
class Node:
    """What the node has, and how much of it is free: bytes and numbers."""

    memory: int
    memory_available: int
    """What can be had without swapping (the kernel's ``MemAvailable``)."""
    disk_free: int
    processes_free: int
    servers: int
    """The most servers that it may run."""


@dataclass(frozen=True)
class Demand:
    """What was promised to others, and what is asked for now."""

    servers: int
    """Servers that run, start or wait for their start."""
    limits: int
    """The sum of their memory limits, in bytes."""
    starting: int
    """Those of them that start or wait: what they take is still free."""
    memory: int
    """The memory limit that is asked for, in bytes."""


@dataclass(frozen=True)
class Shortage:
    """What a start can't have."""

    cause: Cause
    message: str
    """Sentences for the user: what is asked, what is free."""
    by_stopping: bool
    """Whether there is room again when others stop their servers."""


def room(node: Node, demand: Demand, settings: AdmissionSettings) -> dict[Cause, int]:
    """What is free, less the reserves and what those take that start now; may be below 0."""
    starting = demand.starting
    free: dict[Cause, int] = {
        "servers": node.servers - demand.servers,
        "memory": node.memory_available
        - parse_size(settings.memory_reserve)
        - starting * parse_size(settings.start_memory),
        "disk": node.disk_free - parse_size(settings.disk_reserve),
        "processes": node.processes_free
        - _PROCESSES_RESERVE
        - starting * settings.start_processes,
    }
    if settings.memory_overcommit:
        free["memory_limits"] = int(node.memory * settings.memory_overcommit) - demand.limits
    return free


def shortage(node: Node, demand: Demand, settings: AdmissionSettings) -> Shortage | None:
    """What is short for the start, or nothing."""
    free = room(node, demand, settings)
    if free["servers"] < 1:
        return _short("servers", f"It runs no more than {node.servers} at a time.")
    if free.get("memory_limits", demand.memory) < demand.memory:
        return _short(
            "memory_limits",
            f"You asked for {_size(demand.memory)} of memory, and "
            f"{_size(free['memory_limits'])} is not promised to others.",
        )
    # A server that begins takes less than most ask for, and never more than was asked for.
    needed = min(parse_size(settings.start_memory), demand.memory)
    if free["memory"] < needed:
        return _short(
            "memory",
            f"A server takes {_size(needed)} of memory to begin with, and "
            f"{_size(free['memory'])} is free.",
        )
    if free["disk"] < 0:
        return _short(
            "disk", "Its disk is full. Please tell the operators of this service.", stop=False
        )
    if free["processes"] < settings.start_processes:
        return _short("processes", "It has as many processes as it can.")
    return None


def still_short(settings: Settings, memory: int, starting: int) -> Shortage | None:
    """What is short for a start that was admitted, when its turn comes.

    What was promised to it holds; but the servers that run may have grown while it waited.
    """
    demand = Demand(servers=0, limits=0, starting=starting, memory=memory)
    return shortage(read_node(settings), demand, settings.admission)


class FullDiskError(TaccuinoError):
    """The disk has less room than is kept for the servers that run."""


async def check_disk(settings: Settings) -> None:
    """Whether servers may be started, as far as the disk is concerned.

    Raises
    ------
    FullDiskError
        If it is full.
    """
    free = shutil.disk_usage(settings.state_dir).free
    reserve = settings.admission.disk_reserve
    if free < parse_size(reserve):
        raise FullDiskError(
            f"the disk is full: {_size(free)} is free, and {reserve} is kept for the servers "
            "that run (admission.disk_reserve)"
        )


def _short(cause: Cause, why: str, *, stop: bool = True) -> Shortage:
    return Shortage(cause, f"There is no room for another server on this machine. {why}", stop)


def read_node(settings: Settings) -> Node:
    """The node as it is now."""
    memory = dict(_numbers(_read("/proc/meminfo").splitlines()))
    total = 1024 * memory.get("MemTotal", 0)
    return Node(
        memory=total,
        memory_available=1024 * memory.get("MemAvailable", total),
        disk_free=shutil.disk_usage(settings.state_dir).free,
        processes_free=_process_limit() - _processes(),
        servers=settings.admission.servers or _networks(settings),
    )


def _numbers(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    """``MemFree: 123 kB`` as a name and a number."""
    for line in lines:
        name, _, rest = line.partition(":")
        if (words := rest.split()) and words[0].isdigit():
            yield name, int(words[0])


def _process_limit() -> int:
    limits = [_read(f"/proc/sys/kernel/{name}").strip() for name in ("pid_max", "threads-max")]
    return min((int(limit) for limit in limits if limit.isdigit()), default=2**22)


def _processes() -> int:
    """Threads of the whole node: the fourth field is ``running/all`` (proc_loadavg(5))."""
    _, _, number = _read("/proc/loadavg").split(" ")[3].partition("/")
    return int(number)


def _networks(settings: Settings) -> int:
    """Each server has a network of its own."""
    pool = IPv4Network(str(settings.engine.network_pool), strict=False)
    return int(max(pool.num_addresses >> (32 - NETWORK_PREFIX), 1))


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _size(number: int) -> str:
    """A size as people say it; what is less than nothing is nothing."""
    number = max(number, 0)
    if number >= _GIB:
        return f"{number / _GIB:.1f}".removesuffix(".0") + " GiB"
    return f"{number / 1024**2:.0f} MiB"
