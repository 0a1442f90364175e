"""What one supervised program is: its command, and how it is prepared and known to be ready."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["SendSignal", "Service"]

SendSignal = Callable[[int], None]
"""Sends a signal to a service's process."""


def _nothing() -> None:
    """Do nothing; the default of the hooks."""


def _always() -> bool:
    """Say yes; the default of ``Service.ready``: running is enough."""
    return True


def _no_reload(_: SendSignal) -> None:
    """Do nothing: what changed asks for a restart."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A program that supervisord runs in the foreground.

    The hooks are plain blocking functions; services that do not wait for each other are
    started at the same time, each in a thread of its own. A hook that fails raises
    `taccuino.errors.ServiceError`, whose text ``up`` shows with the tail of the log.
    """

    name: str
    """The name in ``status`` and ``logs``, such as ``ceph-mon``."""
    command: tuple[str, ...]
    """The program and its arguments; it must stay in the foreground. Never a secret."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables besides those that every service gets (``TACCUINO_SETTINGS``,
    ``TACCUINO_INSTANCE``, ``TACCUINO_SERVICE``, ``PATH``, ``HOME``, ``LANG``)."""
    user: str | None = None
    """Whose rights it has. Default: the supervisor's, root's."""
    directory: Path | None = None
    """The working directory; it must exist after ``prepare``. Default: the state directory."""
    after: tuple[str, ...] = ()
    """Services that must be ready, their ``after_start`` done, before ``prepare`` is called.
    Names of services that do not run here (an external IAM) are ignored."""

    prepare: Callable[[], None] = _nothing
    """Called at each ``up`` before the start, also while the service runs: writes
    directories and configuration. Idempotent; must not disturb the running service."""
    ready: Callable[[], bool] = _always
    """Whether the running service can be used. Polled every 0.1 s: quick (a limit of some
    2 s on its own requests), no exception for "not yet"."""
    ready_timeout: float = 60.0
    """Seconds until a service that is not ready counts as failed."""
    after_start: Callable[[], None] = _nothing
    """Called once the service is ready, at each ``up``; idempotent: accounts, pools."""

    reload: Callable[[SendSignal], None] = _no_reload
    """Called instead of a start where the service runs already and nothing asks for a
    restart: lets it take what ``prepare`` changed without losing a connection."""

    stop_signal: str = "TERM"
    """The signal that asks it to end."""
    stop_timeout: float = 10.0
    """Seconds until it is killed when it did not end."""
    stop_group: bool = False
    """Whether its whole process group is stopped with it. Never for what has children that
    must live on: the engine (conmon), the mount plane (rclone), the hub."""

    files: tuple[Path, ...] = ()
    """Configuration files that ``prepare`` writes: the service is restarted by ``up`` when
    one of them changed."""
    configuration: str = ""
    """Any other text whose change asks for a restart, such as a part of the settings."""

    def fingerprint(self) -> str:
        """A digest of all that decides how the service runs; called after ``prepare``.

        ``up`` compares it with that of the running process, and restarts on a difference.
        """
        digest = hashlib.sha256()
        parts = [self.command, sorted(self.environment.items()), str(self.directory)]
        parts += [self.user] if self.user else []
        digest.update(json.dumps([*parts, self.configuration]).encode())
        for path in self.files:
            digest.update(str(path).encode())
            digest.update(path.read_bytes() if path.is_file() else b"absent")
        return digest.hexdigest()
