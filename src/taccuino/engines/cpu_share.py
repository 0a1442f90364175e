"""A container's share of the processor while it boots: no ceiling, but after the others.

Jupyter's start is a second of work on one core. With a limit of half a CPU it would take two,
on a machine that may have nothing else to do; so a container boots without its limit. And it
boots with half the weight of a container that runs: those whose servers run come first.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

__all__ = ["CpuShare"]

log = logging.getLogger(__name__)

_CGROUPS = Path("/sys/fs/cgroup")


class CpuShare:
    """The control group of a container's first process (version 1 or 2 of the interface).

    Parameters
    ----------
    cgroup
        The text of ``/proc/PID/cgroup``.
    """

    def __init__(self, cgroup: str, root: Path = _CGROUPS) -> None:
        self._weight = self._ceiling = Path()
        self._no_ceiling = ""
        self._before: list[tuple[Path, str]] = []
        for line in cgroup.splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if "cpu" in controllers.split(","):
                self._weight = root / "cpu" / path.lstrip("/") / "cpu.shares"
                self._ceiling = self._weight.with_name("cpu.cfs_quota_us")
                self._no_ceiling = "-1"
                return
            if number == "0" and not controllers:
                self._weight = root / path.lstrip("/") / "cpu.weight"
                self._ceiling = self._weight.with_name("cpu.max")
                self._no_ceiling = "max"

    @classmethod
    def of_container(cls, pid: int, container: str) -> CpuShare | None:
        """A container's; none where the process can't be seen from here, or is another's."""
        try:
            cgroup = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
        except OSError:
            return None
        return cls(cgroup) if container in cgroup else None

    def boot(self) -> None:
        """Halve the weight and lift the ceiling; does nothing where that can't be done."""
        with suppress(OSError, ValueError):
            weight = self._weight.read_text().strip()
            ceiling = self._ceiling.read_text().strip()
            self._before = [(self._weight, weight), (self._ceiling, ceiling)]
            self._weight.write_text(str(max(int(weight) // 2, 2)))
            self._ceiling.write_text(self._no_ceiling)

    def settle(self) -> None:
        """Put back what `boot` has changed; what is gone needs none of it."""
        before, self._before = self._before, []
        for file, text in before:
            try:
                file.write_text(text)
            except FileNotFoundError:
                return
            except OSError as error:
                log.warning("%s stays as it was while the server booted: %s", file, error)
