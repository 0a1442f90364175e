"""A control group for each user's rclone: its own limits on memory and threads.

cgroup v1 has a hierarchy for each controller and v2 one for all (kernel documentation,
*cgroup-v1* and *cgroup-v2*); a group has the same name in each. It lies at the root and not
below the daemon's own, so that what ends the daemon with all of its group leaves rclone alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self

from taccuino.settings import Settings, parse_size

__all__ = ["Hierarchies", "ProcessGroup"]

log = logging.getLogger(__name__)

_CONTROLLERS = ("memory", "pids")
_SPARED = -500
"""``oom_score_adj`` of rclone: others go first when the machine has no memory left."""

_told: set[str] = set()


@dataclass(frozen=True)
class Hierarchies:
    """Where the controllers are: v1's by their names, or v2's single one."""

    v1: dict[str, Path]
    v2: Path | None = None

    @classmethod
    def parse(cls, mounts: str) -> Self:
        """From the text of ``/proc/self/mounts`` (proc(5)).

        On a hybrid machine the controllers are v1's, and v2 has none.
        """
        v1: dict[str, Path] = {}
        v2 = None
        for line in mounts.splitlines():
            _, target, kind, options, *_ = line.split()
            if kind == "cgroup":
                names = set(options.split(",")) & set(_CONTROLLERS)
                v1 |= dict.fromkeys(names, Path(target))
            elif kind == "cgroup2":
                v2 = Path(target)
        return cls(v1, None if v1 else v2)


@cache
def _hierarchies() -> Hierarchies:
    """Those of this machine, which stay for as long as it runs."""
    return Hierarchies.parse(Path("/proc/self/mounts").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class ProcessGroup:
    """The control group of one user's rclone, in each hierarchy that has one of the limits."""

    name: str
    memory: int
    threads: int
    hierarchies: Hierarchies

    @classmethod
    def of(cls, settings: Settings, slug: str) -> Self:
        """The group of a user; two instances on one machine have groups of their own."""
        instance = hashlib.sha256(str(settings.state_dir).encode()).hexdigest()[:8]
        plane = settings.mount_plane
        return cls(
            f"taccuino-{instance}/{slug}",
            parse_size(plane.process_memory),
            plane.process_threads,
            _hierarchies(),
        )

    def admit(self, pid: int) -> None:
        """Put a process that was just started under the limits; blocking.

        Where the machine does not let us, that is logged once: rclone then has only the
        soft limit that it keeps to by itself (Go: GOMEMLIMIT).
        """
        try:
            for directory in self._make():
                (directory / "cgroup.procs").write_text(str(pid), encoding="ascii")
        except OSError as error:
            _tell("no limits on rclone's memory and threads: %s", error)
        try:
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(_SPARED), encoding="ascii")
        except OSError as error:  # without CAP_SYS_RESOURCE
            _tell("rclone is not spared when the machine's memory is used up: %s", error)

    def kills(self) -> int:
        """How many processes of the group its memory limit killed; blocking."""
        for directory in self._directories():
            for name in ("memory.oom_control", "memory.events"):
                with contextlib.suppress(OSError):
                    text = (directory / name).read_text(encoding="ascii")
                    if found := re.search(r"^oom_kill (\d+)$", text, re.MULTILINE):
                        return int(found[1])
        return 0

    def remove(self) -> None:
        """Remove the group, when nothing runs in it any more; blocking."""
        for directory in self._directories():
            for path in (directory, directory.parent):
                with contextlib.suppress(OSError):  # not there, or others are in it
                    path.rmdir()

    def _directories(self) -> list[Path]:
        roots = self.hierarchies.v1.values() or filter(None, [self.hierarchies.v2])
        return [root / self.name for root in dict.fromkeys(roots)]

    def _make(self) -> list[Path]:
        found = self._directories()
        if not found:
            raise OSError("there are no control groups for memory and pids")
        for directory in found:
            directory.mkdir(parents=True, exist_ok=True)
        if root := self.hierarchies.v2:
            enable = " ".join(f"+{controller}" for controller in _CONTROLLERS)
            for parent in (root, found[0].parent):
                (parent / "cgroup.subtree_control").write_text(enable, encoding="ascii")
            limits = {"memory.max": self.memory, "pids.max": self.threads}
        else:
            limits = {"memory.limit_in_bytes": self.memory, "pids.max": self.threads}
        for directory in found:
            for name, value in limits.items():
                if (directory / name).exists():
                    (directory / name).write_text(str(value), encoding="ascii")
        return found


def _tell(text: str, error: OSError) -> None:
    if text not in _told:
        _told.add(text)
        log.warning(text, error)
