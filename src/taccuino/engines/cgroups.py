"""A container's control group, written to directly.

The engines' own calls take 50 ms and more (podman 4.3's Docker API has none for a running
container); the kernel's files take microseconds. Both versions of cgroups are known.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path

__all__ = ["CPU_PERIOD", "ControlGroup", "controller_paths"]

CPU_PERIOD = 100_000
"""Microseconds; the kernel's default."""

log = logging.getLogger(__name__)

_ROOT = Path("/sys/fs/cgroup")
_NORMAL_SHARES = 1024  # version 1
_NORMAL_WEIGHT = 100  # version 2


def controller_paths(text: str) -> Mapping[str, str]:
    """The group's path for each controller, from ``/proc/PID/cgroup``; ``""`` is version 2."""
    found = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found[""] = path
        for controller in controllers.split(","):
            if controller:
                found[controller] = path
    return found


class ControlGroup:
    """The limits and the weight of one container."""

    def __init__(self, cpu: Path, memory: Path, *, unified: bool) -> None:
        self._cpu = cpu
        self._memory = memory
        self._unified = unified

    @classmethod
    def of_process(cls, pid: int, container: str, root: Path = _ROOT) -> ControlGroup | None:
        """The group of the container that the process is in; nothing if it can't be seen.

        An engine may put the process into a group below the container's own.
        """
        try:
            text = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        except OSError:
            return None
        paths = {
            name: _down_to(path, container)
            for name, path in controller_paths(text).items()
            if container in path
        }
        if "cpu" in paths and "memory" in paths:
            cpu, memory = root / "cpu" / paths["cpu"], root / "memory" / paths["memory"]
            group = cls(cpu, memory, unified=False)
        elif "" in paths:
            group = cls(root / paths[""], root / paths[""], unified=True)
        else:
            return None
        return group if group._cpu.is_dir() and group._memory.is_dir() else None

    def limit_memory(self, size: int) -> None:
        """The most memory in bytes; swap is not added to it.

        Raises
        ------
        OSError
            If the kernel refuses, such as a limit below what is used.
        """
        if self._unified:
            _write(self._memory / "memory.max", size)
            with contextlib.suppress(FileNotFoundError):  # a kernel that counts no swap
                _write(self._memory / "memory.swap.max", 0)
            return
        # With swap it may never be less than without: which one goes first, depends.
        names = ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes")
        present = [self._memory / name for name in names if (self._memory / name).exists()]
        try:
            for file in present:
                _write(file, size)
        except OSError:
            for file in reversed(present):
                _write(file, size)

    def boot(self, weight: float = 0.5) -> None:
        """No ceiling of CPU, but after those who run; does nothing where that can't be done.

        Jupyter's start is a second of work on one core. With a limit of half a CPU it would
        take two, on a machine that may have nothing else to do.
        """
        with contextlib.suppress(OSError):
            self.weigh(weight)
            if self._unified:
                _write(self._cpu / "cpu.max", f"max {CPU_PERIOD}")
            else:
                _write(self._cpu / "cpu.cfs_quota_us", -1)

    def settle(self, cpus: float) -> None:
        """The weight and the limit of a server that runs; what is gone needs neither."""
        try:
            self.weigh(1)
            self.limit_cpus(cpus)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s stays as it was while the server booted: %s", self._cpu, error)

    def limit_cpus(self, cpus: float) -> None:
        """The most CPU time.

        Raises
        ------
        OSError
            If the kernel refuses.
        """
        quota = int(cpus * CPU_PERIOD)
        if self._unified:
            _write(self._cpu / "cpu.max", f"{quota} {CPU_PERIOD}")
        else:
            _write(self._cpu / "cpu.cfs_quota_us", quota)

    def weigh(self, weight: float) -> None:
        """Its share of the CPUs where they are short; 1 is the normal one.

        Raises
        ------
        OSError
            If the kernel refuses.
        """
        if self._unified:
            _write(self._cpu / "cpu.weight", max(int(weight * _NORMAL_WEIGHT), 1))
        else:
            _write(self._cpu / "cpu.shares", max(int(weight * _NORMAL_SHARES), 2))


def _down_to(path: str, container: str) -> str:
    """The path as far as the component that names the container, without a leading slash."""
    parts = path.strip("/").split("/")
    last = next(index for index, part in enumerate(parts) if container in part)
    return "/".join(parts[: last + 1])


def _write(file: Path, value: object) -> None:
    if not file.exists():  # a write would make a file where this is no cgroup
        raise FileNotFoundError(2, "no such control file", str(file))
    file.write_text(f"{value}\n", encoding="ascii")
