"""The process of a container, watched from the host: its death at once, its memory's end.

The engine's own ways are slow here: ``wait`` takes 0.3 s with podman, and polling finds a
death only at the next look. A pidfd (pidfd_open(2)) is readable the moment the process ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from .cgroups import controller_paths

__all__ = ["ProcessWatch", "count_oom_kills", "memory_events_file", "process_is_of"]

_CGROUPS = Path("/sys/fs/cgroup")


class ProcessWatch:
    """Tells of a process's death, and how many processes its cgroup's memory limit killed."""

    def __init__(self, pid: int, on_death: Callable[[], None]) -> None:
        self._pidfd = os.pidfd_open(pid)
        self._memory = memory_events_file(_read(Path(f"/proc/{pid}/cgroup")))
        self.pid = pid
        self.on_death = on_death
        self._oom_kills = 0
        self.dead = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._died)

    @classmethod
    def of_container(
        cls, pid: int, container: str, on_death: Callable[[], None]
    ) -> ProcessWatch | None:
        """Watch a container's first process; nothing where it can't be seen from here.

        The engine may run elsewhere, or the process be gone and its number another's: the
        process's cgroup must name the container.
        """
        try:
            watch = cls(pid, on_death)
        except (ProcessLookupError, PermissionError):
            return None
        if not process_is_of(pid, container):
            watch.close()
            return None
        return watch

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return not self.dead.is_set()

    def oom_kills(self) -> int:
        """Processes of the container killed for want of memory, so far."""
        if self._memory is not None and self.alive:
            self._oom_kills = max(self._oom_kills, count_oom_kills(_read(self._memory)))
        return self._oom_kills

    def close(self) -> None:
        """Stop watching; idempotent."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _died(self) -> None:
        # The engine removes the cgroup some 30 ms after the death: read it right now.
        self.oom_kills()
        self.dead.set()
        self.close()
        self.on_death()


def process_is_of(pid: int, container: str) -> bool:
    """Whether a process is here and its cgroup names the container."""
    return container in _read(Path(f"/proc/{pid}/cgroup"))


def memory_events_file(cgroup: str, root: Path = _CGROUPS) -> Path | None:
    """Where the kernel counts a cgroup's OOM kills, from the text of ``/proc/PID/cgroup``.

    With cgroup v1 that is the memory controller's ``memory.oom_control``; with v2
    ``memory.events`` (kernel documentation, "cgroup-v1/memory" and "cgroup-v2").
    """
    paths = controller_paths(cgroup)
    if "memory" in paths:
        return root / "memory" / paths["memory"].lstrip("/") / "memory.oom_control"
    return root / paths[""].lstrip("/") / "memory.events" if "" in paths else None


def count_oom_kills(text: str) -> int:
    """The ``oom_kill`` count of such a file."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdigit():
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # the process, or its cgroup, is gone
        return ""
