"""What containers take: CPU by their control group, memory by their processes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import docker
import psutil

MB = 1e6


@dataclass(frozen=True)
class Usage:
    """Seconds of CPU since its start, and MB of memory (PSS: what is shared is divided)."""

    cpu: float = 0.0
    pss: float = 0.0

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.cpu - other.cpu, self.pss - other.pss)


def usage(engine: docker.APIClient) -> dict[str, Usage]:
    """Of every container that runs, by its id."""
    found = {}
    for item in engine.containers():
        with contextlib.suppress(docker.errors.NotFound, psutil.NoSuchProcess, OSError):
            pid = engine.inspect_container(item["Id"])["State"]["Pid"]
            found[item["Id"]] = Usage(cpu_seconds(pid), pss(pid))
    return found


def called(engine: docker.APIClient, word: str, patience: float = 0.0) -> set[str]:
    """The ids of the containers with this word in their names, once there are any.

    ``patience`` is for how many seconds none is waited for: a server that came out of the pool
    is named after its user when that one is there already.
    """
    deadline = time.monotonic() + patience
    while True:
        found = {item["Id"] for item in engine.containers() if word in item["Names"][0]}
        if found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    """CPU of the container that holds this process, by its cgroup (version 1 or 2)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            file = Path("/sys/fs/cgroup/cpuacct") / path.lstrip("/") / "cpuacct.usage"
            return int(file.read_text()) / 1e9
    stat = Path("/sys/fs/cgroup") / path.lstrip("/") / "cpu.stat"
    return int(stat.read_text().split("usage_usec ")[1].split()[0]) / 1e6


def pss(pid: int) -> float:
    """MB of a container's first process and all below it."""
    first = psutil.Process(pid)
    return (
        sum(
            process.memory_full_info().pss
            for process in (first, *first.children(recursive=True))
        )
        / MB
    )
